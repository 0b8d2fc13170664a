"""`Prefer: wait` and `?wait=`: answered when the task ends, when the wait is over, or when the service stops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any
from uuid import UUID

import httpx2
import pytest

from tasker.model import NewEvent, Progress, Report
from tasker.rules.lifecycle import Succeeded
from tests.api.conftest import Rig, announce, problem

SUM = {"type": "sum", "params": [4, 2]}


async def until_waiting(rig: Rig, number: int = 1) -> None:
    """Return once this many requests wait for a task."""
    async with asyncio.timeout(30):
        while rig.hub.waiting < number:
            await asyncio.sleep(0)


@pytest.mark.parametrize("ask", [{"params": {"wait": "30"}}, {"headers": {"prefer": "wait=30"}},
                                 {"headers": {"prefer": 'respond-async, wait="30"'}}])  # fmt: skip
async def test_a_submission_is_answered_when_the_task_has_ended(rig: Rig, ask: dict[str, Any]) -> None:
    asking = asyncio.create_task(rig.client.post("/task", json=SUM, **ask))
    await until_waiting(rig)
    await rig.finish()
    reply = await asking
    assert (reply.status_code, reply.json()["status"], reply.json()["result"]) == (200, "completed", 6)
    assert reply.headers["preference-applied"] == "wait=30"
    assert reply.headers["location"] == f"/task/{reply.json()['task_id']}"
    assert "retry-after" not in reply.headers


async def test_reading_is_answered_when_the_task_has_ended(rig: Rig) -> None:
    task_id = await rig.submit()
    asking = [asyncio.create_task(rig.client.get(f"/task/{task_id}{path}?wait=30")) for path in ("", "", "/result")]
    await until_waiting(rig, 3)
    await rig.finish()
    replies = await asyncio.gather(*asking)
    assert [reply.status_code for reply in replies] == [200, 200, 200]
    assert [reply.headers["preference-applied"] for reply in replies] == ["wait=30"] * 3
    assert replies[0].json()["status"] == "completed"
    assert replies[2].text == "6"


async def test_on_a_shared_store_a_wait_has_the_task_of_another_request_followed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A submission that waits has stored its own task as awaited: it asks the store for nothing more."""
    followed = []

    async def follow(task_id: UUID) -> None:
        followed.append(str(task_id))

    monkeypatch.setattr(rig.engine, "is_shared", True)
    monkeypatch.setattr(rig.engine.peers, "follow_task", follow)
    asking = asyncio.create_task(rig.client.post("/task?wait=30", json=SUM))
    await until_waiting(rig)
    await rig.finish()
    assert (await asking).status_code == 200
    assert followed == []
    task_id = await rig.submit()
    asking = asyncio.create_task(rig.client.get(f"/task/{task_id}?wait=30"))
    await until_waiting(rig)
    await rig.finish()
    assert (await asking).json()["status"] == "completed"
    assert followed == [task_id]


async def test_a_wait_that_times_out(rig: Rig) -> None:
    reply = await rig.client.post("/task?wait=0", json=SUM)
    assert (reply.status_code, reply.headers["preference-applied"]) == (202, "wait=0")
    reply = await rig.client.get(reply.headers["location"], headers={"prefer": "wait=1"})
    assert (reply.status_code, reply.json()["status"], reply.headers["retry-after"]) == (200, "pending", "1")
    assert rig.hub.waiting == 0


async def test_a_task_that_has_ended_is_not_waited_for(rig: Rig) -> None:
    task_id = await rig.submit()
    await rig.finish()
    assert (await rig.client.get(f"/task/{task_id}?wait=60")).json()["status"] == "completed"


@pytest.mark.parametrize("wait", ["61", "100000", "9" * 50])
async def test_long_waits_are_clamped(rig: Rig, wait: str) -> None:
    task_id = await rig.submit()
    await rig.finish()
    reply = await rig.client.get(f"/task/{task_id}?wait={wait}")
    assert reply.headers["preference-applied"] == "wait=60"


@pytest.mark.parametrize("wait", ["-1", "abc", "1.5", "", "1e3", "true"])
async def test_invalid_waits(rig: Rig, wait: str) -> None:
    assert problem(await rig.client.post(f"/task?wait={wait}", json=SUM)) == (422, "invalid-request")
    assert problem(await rig.client.post("/task", json=SUM, headers={"prefer": f"wait={wait}"}))[0] == 422
    assert (await rig.client.get("/task")).json()["items"] == [], "refused before anything is stored"


async def test_other_preferences_are_ignored(rig: Rig) -> None:
    reply = await rig.client.post("/task", json=SUM, headers={"prefer": "respond-async, await=5, return=minimal"})
    assert reply.status_code == 202
    assert "preference-applied" not in reply.headers


async def test_a_known_version_is_waited_for_until_anything_changes(rig: Rig) -> None:
    task_id = await rig.submit()
    path, seen = f"/task/{task_id}", []
    reply = await rig.client.get(path)
    assert (await rig.client.get(f"{path}?wait=0", headers={"if-none-match": reply.headers["etag"]})).status_code == 304

    async def change(how: Coroutine[Any, Any, Any]) -> Any:
        nonlocal reply
        known = {"if-none-match": reply.headers["etag"]}
        asking = asyncio.create_task(rig.client.get(f"{path}?wait=30", headers=known))
        await until_waiting(rig)
        done = await how
        async with asyncio.timeout(30):
            reply = await asking
        seen.append((reply.status_code, reply.json()["status"], reply.json()["progress"]))
        return done

    claim = await change(rig.driver.claim_one())
    half = Report(progress=Progress(fraction=0.5))
    await change(rig.driver.engine.record(claim.lease, half))
    await change(rig.driver.finish(claim, Succeeded(b"6")))
    half_way = {"fraction": 0.5, "current": None, "total": None, "message": None}
    assert seen == [(200, "running", None), (200, "running", half_way), (200, "completed", half_way)]


async def test_a_change_that_is_not_shown_does_not_end_the_wait(rig: Rig) -> None:
    task_id = await rig.submit()
    claim = await rig.driver.claim_one()
    etag = (await rig.client.get(f"/task/{task_id}")).headers["etag"]
    asking = asyncio.create_task(rig.client.get(f"/task/{task_id}?wait=1", headers={"if-none-match": etag}))
    await until_waiting(rig)
    output = NewEvent(type="output", time=rig.clock.now(), data=b'{"chunk":"a"}')
    await rig.driver.engine.record(claim.lease, Report(events=(output,)))
    assert (await asking).status_code == 304


async def test_another_version_than_the_known_one_is_answered_at_once(rig: Rig) -> None:
    task_id = await rig.submit()
    reply = await rig.client.get(f"/task/{task_id}?wait=60", headers={"if-none-match": '"old"'})
    assert (reply.status_code, reply.json()["status"]) == (200, "pending")


async def test_waits_end_when_the_service_stops(rig: Rig) -> None:
    task_id = await rig.submit()
    asking = [asyncio.create_task(rig.client.get(f"/task/{task_id}?wait=60")) for _ in range(20)]
    asking.append(asyncio.create_task(rig.client.post("/task?wait=60", json=SUM)))
    await until_waiting(rig, 21)
    rig.service.stop()
    async with asyncio.timeout(30):
        replies = await asyncio.gather(*asking)
    assert {reply.status_code for reply in replies[:-1]} == {200}
    assert replies[-1].status_code == 202
    assert replies[-1].headers["preference-applied"] == "wait=60"
    assert {reply.json()["reason"] for reply in replies} == {"restart"}
    assert (await rig.client.get("/readyz")).status_code == 503


async def test_a_process_that_hands_over_ends_waits_and_tells_of_no_restart(rig: Rig) -> None:
    """A client goes on with the process that follows, on the same socket: it need not know."""
    waits = asyncio.create_task(rig.client.post("/task?wait=60", json=SUM))
    await until_waiting(rig, 1)
    rig.service.stop(hands_over=True)
    async with asyncio.timeout(30):
        replies = [await waits, await rig.client.post("/task?wait=60", json=SUM)]
    assert [(reply.status_code, reply.json()["reason"]) for reply in replies] == [(202, "queued")] * 2
    assert (await rig.client.get("/readyz")).status_code == 503


async def test_a_stop_with_other_workers_keeps_no_client_waiting(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """If one of several processes that share a store stops, its clients do not wait: other workers run the tasks."""
    task_id = await rig.submit()
    monkeypatch.setattr(rig.service.waiting, "_is_shared", True)
    rig.service.stop()
    for draining, reason in ((True, "restart"), (False, "queued")):
        await announce(rig, draining=draining)
        assert (await rig.client.get(f"/task/{task_id}")).json()["reason"] == reason
        reply = await rig.client.post("/task?wait=60", json=SUM)
        assert (reply.status_code, reply.json()["reason"]) == (202, reason)
        assert "preference-applied" not in reply.headers


async def test_a_client_that_leaves_is_noticed(rig: Rig) -> None:
    task_id = await rig.submit()
    left, sent = asyncio.Event(), []
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        for message in messages:
            return message
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": f"/task/{task_id}", "raw_path": b"", "query_string": b"wait=60",
        "headers": [(b"host", b"localhost")],
    }  # fmt: skip
    asking = asyncio.create_task(rig.app(scope, receive, send))  # type: ignore[arg-type]
    await until_waiting(rig)
    left.set()
    async with asyncio.timeout(30):
        await asking
    assert sent[0]["status"] == 400, "for one that only broke off its body, and still reads"
    assert rig.hub.waiting == 0


async def test_a_replayed_submission_can_be_waited_for(rig: Rig) -> None:
    key = {"idempotency-key": "k"}
    await rig.client.post("/task", json=SUM, headers=key)
    asking = asyncio.create_task(rig.client.post("/task?wait=30", json=SUM, headers=key))
    await until_waiting(rig)
    await rig.finish()
    reply: httpx2.Response = await asking
    assert (reply.status_code, reply.json()["result"], reply.headers["idempotency-replayed"]) == (200, 6, "true")


async def test_a_replay_of_a_task_that_has_ended_is_seen(rig: Rig) -> None:
    key = {"idempotency-key": "k"}
    await rig.client.post("/task", json=SUM, headers=key)
    await rig.finish()
    reply = await rig.client.post("/task?wait=30", json=SUM, headers=key)
    assert (reply.status_code, reply.json()["result"]) == (200, 6)
