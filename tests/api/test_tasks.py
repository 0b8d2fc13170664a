"""The operations on tasks: what they answer, in status, headers and body."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from tasker.engines.shared.looks import Bounds
from tasker.errors import Unavailable
from tasker.model import ExceptionInfo, TaskProblem
from tasker.rules.lifecycle import Cancelled, Failed, Snoozed, Succeeded
from tasker.rules.lifecycle import problem as make_problem
from tasker.wire.tasks import Task
from tests.api.conftest import TOKEN, Rig, problem

NOBODY = "0198e000-0000-7000-8000-000000000000"


def failure(*, retryable: bool = False) -> Failed:
    error = msgspec.structs.replace(
        make_problem("task-raised", "ValueError: no", retryable=retryable),
        exception=ExceptionInfo(class_="ValueError", message="no"),
        traceback="Traceback: line 1",
    )
    return Failed(error)


async def read(rig: Rig, task_id: str, query: str = "") -> dict[str, Any]:
    reply = await rig.client.get(f"/task/{task_id}{query}")
    assert reply.status_code == 200
    view = msgspec.json.decode(reply.content, type=Task)
    assert set(view.__struct_fields__) >= set(reply.json()), "nothing on the wire but what the schema has"
    return dict(reply.json())


async def test_submit(rig: Rig) -> None:
    reply = await rig.client.post("/task", json={"type": "sum", "params": [4, 2]})
    assert reply.status_code == 202
    body = reply.json()
    task_id = body["task_id"]
    assert reply.headers["location"] == f"/task/{task_id}"
    assert reply.headers["retry-after"] == "1"
    assert reply.headers["content-type"] == "application/json"
    assert body.items() <= (await read(rig, task_id)).items()
    assert body["status"] == "pending"
    assert body["params"] == [4, 2]
    assert body["links"] == {
        "self": f"/task/{task_id}", "events": f"/task/{task_id}/events", "result": f"/task/{task_id}/result",
        "cancel": f"/task/{task_id}/cancel",
    }  # fmt: skip


async def test_submit_the_params_alone(rig: Rig) -> None:
    reply = await rig.client.post("/type/named/task", json={"prompt": "a", "times": 2})
    assert reply.status_code == 202
    body = await read(rig, reply.json()["task_id"])
    assert (body["type"], body["params"]) == ("named", {"prompt": "a", "times": 2})


async def test_options_reach_the_task(rig: Rig) -> None:
    options = {"queue": "fast", "priority": 7, "tags": ["a"], "metadata": {"n": 1}}
    task_id = await rig.submit(**options, delay=90, retry={"max_attempts": 3})
    body = await read(rig, task_id)
    assert {name: body[name] for name in options} == options
    assert (body["reason"], body["run_at"], body["tries_left"]) == ("scheduled", "2026-01-02T03:05:35.678901Z", 3)
    reply = await rig.client.get(f"/task/{task_id}")
    assert reply.headers["retry-after"] == "90"


async def test_retry_after_is_never_too_long(rig: Rig) -> None:
    task_id = await rig.submit(delay="P30D")
    assert (await rig.client.get(f"/task/{task_id}")).headers["retry-after"] == "3600"


async def test_a_completed_task(rig: Rig) -> None:
    task_id = await rig.submit()
    await rig.finish()
    body = await read(rig, task_id)
    assert (body["status"], body["result"], body["error"], body["attempt"]) == ("completed", 6, None, 1)
    assert set(body["links"]) == {"self", "events", "result"}
    reply = await rig.client.get(f"/task/{task_id}")
    assert "retry-after" not in reply.headers
    assert "attempts" not in body


async def test_a_failed_task_reads_with_200(rig: Rig) -> None:
    task_id = await rig.submit()
    await rig.finish(failure())
    body = await read(rig, task_id)
    assert body["status"] == "failed"
    assert set(body["links"]) == {"self", "events", "result", "retry"}
    error = body["error"]
    assert (error["type"], error["attempt"], error["retryable"]) == ("/problems/task-raised", 1, False)
    assert error["exception"] == {"class": "ValueError", "message": "no"}


async def test_attempts(rig: Rig) -> None:
    task_id = await rig.submit(retry={"max_attempts": 2, "jitter": False})
    await rig.finish(failure(retryable=True))
    rig.clock.advance(timedelta(seconds=5))
    await rig.finish()
    attempts = (await read(rig, task_id, "?include=attempts"))["attempts"]
    assert [(a["attempt"], a["ending"], a["worker"]) for a in attempts] == [
        (1, "failed", "worker-1"), (2, "succeeded", "worker-1"),
    ]  # fmt: skip
    assert attempts[0]["error"]["detail"] == "ValueError: no"


async def test_tracebacks_are_for_admins_and_where_no_key_is_needed(rig: Rig, locked: Rig) -> None:
    reader, admin = await locked.key("submit", "read"), await locked.key("admin")
    token = {"authorization": f"Bearer {TOKEN}"}
    for one, headers, shown in ((rig, {}, True), (locked, token, True), (locked, admin, True), (locked, reader, False)):
        one.client.headers.update(headers)
        task_id = await one.submit()
        await one.finish(failure())
        for path in (
            f"/task/{task_id}", f"/task/{task_id}?include=attempts", "/task?limit=1", f"/task/{task_id}/result",
            f"/task/{task_id}/events",
        ):  # fmt: skip
            text = (await one.client.get(path)).text
            assert ("Traceback: line 1" in text) is shown, path
            assert "ValueError: no" in text


async def test_the_bare_result(rig: Rig) -> None:
    task_id = await rig.submit("echo", [{"a": 1}])
    reply = await rig.client.get(f"/task/{task_id}/result")
    assert problem(reply) == (409, "conflict")
    assert reply.headers["retry-after"] == "1"
    await rig.finish(Succeeded(b'{"a":1.10}'))
    reply = await rig.client.get(f"/task/{task_id}/result")
    assert (reply.status_code, reply.text) == (200, '{"a":1.10}')
    assert reply.headers["content-type"] == "application/json"


async def test_a_result_of_null(rig: Rig) -> None:
    task_id = await rig.submit("echo", [])
    await rig.finish(Succeeded(b"null"))
    reply = await rig.client.get(f"/task/{task_id}/result")
    assert (reply.status_code, reply.text) == (200, "null")


async def test_the_result_of_a_failed_task_is_its_problem(rig: Rig) -> None:
    task_id = await rig.submit()
    await rig.finish(failure())
    reply = await rig.client.get(f"/task/{task_id}/result")
    assert reply.status_code == 422
    assert reply.headers["content-type"] == "application/problem+json"
    body = reply.json()
    assert (body["type"], body["status"], body["detail"]) == ("/problems/task-raised", 422, "ValueError: no")
    assert msgspec.convert(body, TaskProblem).exception == ExceptionInfo(class_="ValueError", message="no")


async def test_the_result_of_a_cancelled_task(rig: Rig) -> None:
    task_id = await rig.submit()
    await rig.client.post(f"/task/{task_id}/cancel")
    reply = await rig.client.get(f"/task/{task_id}/result")
    assert problem(reply) == (409, "conflict")
    assert "retry-after" not in reply.headers


async def test_cancel(rig: Rig) -> None:
    pending, running = await rig.submit(), await rig.submit(priority=1)
    claim = await rig.driver.claim_one()
    reply = await rig.client.post(f"/task/{pending}/cancel")
    assert (reply.status_code, reply.json()["status"]) == (200, "cancelled")
    reply = await rig.client.post(f"/task/{running}/cancel")
    assert (reply.status_code, reply.json()["status"]) == (202, "running")
    assert reply.json()["cancel_requested_at"] is not None
    assert (await rig.client.post(f"/task/{running}/cancel")).status_code == 202, "again changes nothing"
    await rig.driver.finish(claim, Cancelled())
    assert problem(await rig.client.post(f"/task/{running}/cancel")) == (409, "conflict")


async def test_retry(rig: Rig) -> None:
    task_id = await rig.submit()
    assert problem(await rig.client.post(f"/task/{task_id}/retry")) == (409, "conflict")
    claim = await rig.driver.claim_one()
    assert problem(await rig.client.post(f"/task/{task_id}/retry")) == (409, "conflict")
    await rig.driver.finish(claim, failure())
    reply = await rig.client.post(f"/task/{task_id}/retry")
    assert (reply.status_code, reply.json()["status"], reply.json()["attempt"]) == (202, "pending", 1)
    assert reply.headers["retry-after"] == "1"
    done = await rig.finish()
    assert done.attempt == 2
    assert problem(await rig.client.post(f"/task/{task_id}/retry")) == (409, "conflict")


async def test_delete(rig: Rig) -> None:
    task_id = await rig.submit()
    assert problem(await rig.client.delete(f"/task/{task_id}")) == (409, "conflict")
    await rig.finish()
    reply = await rig.client.delete(f"/task/{task_id}")
    assert (reply.status_code, reply.content) == (204, b"")
    assert problem(await rig.client.delete(f"/task/{task_id}")) == (404, "not-found")
    assert problem(await rig.client.get(f"/task/{task_id}")) == (404, "not-found")


async def test_no_such_task(rig: Rig) -> None:
    for method, path in (
        ("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/retry"), ("GET", "/result"), ("GET", "?wait=1")
    ):  # fmt: skip
        reply = await rig.client.request(method, f"/task/{NOBODY}{path}")
        assert problem(reply) == (404, "not-found"), (method, path)


async def test_unknown_query_parameters_are_refused(rig: Rig) -> None:
    task_id = await rig.submit()
    for method, path in (
        ("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/retry"), ("GET", "/result"),
    ):  # fmt: skip
        reply = await rig.client.request(method, f"/task/{task_id}{path}?forec=1")
        assert problem(reply) == (422, "unknown-field"), (method, path)
        assert reply.json()["errors"] == [{"pointer": "/forec", "detail": "unknown query parameter"}]
    assert problem(await rig.client.post("/task?priority=1", json={"type": "sum", "params": [1, 2]}))[0] == 422
    assert (await read(rig, task_id))["status"] == "pending"


async def test_etag(rig: Rig) -> None:
    task_id = await rig.submit()
    path = f"/task/{task_id}"
    etag = (await rig.client.get(path)).headers["etag"]
    assert etag.startswith('W/"')
    for known in (etag, etag.removeprefix("W/"), f'"x", {etag}', "*"):
        reply = await rig.client.get(path, headers={"if-none-match": known})
        assert (reply.status_code, reply.content, reply.headers["etag"]) == (304, b"", etag)
    assert (await rig.client.get(path, headers={"if-none-match": '"x"'})).status_code == 200
    await rig.driver.claim_one()
    reply = await rig.client.get(path, headers={"if-none-match": etag})
    assert reply.status_code == 200
    assert reply.headers["etag"] != etag


async def test_list(rig: Rig) -> None:
    ids = []
    for number in range(5):
        rig.clock.advance(timedelta(seconds=1))
        ids.append(await rig.submit(params=[number, 1], queue="q" if number % 2 else "default", tags=[f"t{number}"]))
    await rig.finish()

    async def listed(query: str) -> list[int]:
        reply = await rig.client.get(f"/task?{query}")
        assert reply.status_code == 200, reply.text
        return [ids.index(item["task_id"]) for item in reply.json()["items"]]

    assert await listed("") == [4, 3, 2, 1, 0]
    assert await listed("status=completed") == [0]
    assert await listed("status=completed,pending") == [4, 3, 2, 1, 0]
    assert await listed("status=completed&status=running") == [0]
    assert await listed("queue=q") == [3, 1]
    assert await listed("tag=t2") == [2]
    assert await listed("type=reverse") == []
    assert await listed("type=sum&queue=q&tag=t1") == [1]
    assert await listed("created_after=2026-01-02T03:04:08.678901Z") == [4, 3]
    assert await listed("created_before=2026-01-02T05:04:08.678901%2B02:00") == [1, 0]
    assert await listed("created_before=2026-01-02T05:04:08.678901+02:00") == [1, 0], "an unescaped + is understood"


async def test_a_page_that_has_looked_at_enough_tasks_says_how_far(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.engine, "_bounds", Bounds(rows=3, first=3, seconds=60))
    ids = []
    for _ in range(4):
        rig.clock.advance(timedelta(seconds=1))
        ids.append(await rig.submit())
    reply = await rig.client.get("/task?status=running,completed&limit=2")
    body = reply.json()
    assert body["items"] == []
    assert body["searched_back_to"] == (await rig.client.get(f"/task/{ids[1]}")).json()["created_at"]
    assert body["next_cursor"] in reply.headers["link"]
    last = (await rig.client.get("/task", params={"status": "running,completed", "cursor": body["next_cursor"]})).json()
    assert last == {"items": [], "next_cursor": None}


async def test_pages(rig: Rig) -> None:
    ids = [await rig.submit(tags=["a b&c"]) for _ in range(5)]
    seen: list[str] = []
    path: str | None = "/task?limit=2&tag=a%20b%26c&status=pending"
    while path is not None:
        reply = await rig.client.get(path)
        body = reply.json()
        seen += [item["task_id"] for item in body["items"]]
        assert (body["next_cursor"] is None) == ("link" not in reply.headers)
        path = reply.links["next"]["url"] if "link" in reply.headers else None
    assert seen == ids[::-1]


async def test_items_of_a_list_are_tasks(rig: Rig) -> None:
    task_id = await rig.submit()
    body = (await rig.client.get("/task")).json()
    [item] = body["items"]
    assert item.items() <= (await read(rig, task_id)).items()
    assert body["next_cursor"] is None


async def test_a_snoozed_task_has_retry_after(rig: Rig) -> None:
    task_id = await rig.submit()
    await rig.finish(Snoozed(timedelta(minutes=5)))
    reply = await rig.client.get(f"/task/{task_id}")
    assert (reply.json()["reason"], reply.headers["retry-after"]) == ("snoozed", "300")


async def test_full_store_is_503(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's tests fill a disk; this tests the reply."""

    async def full(_: Any) -> Any:
        raise Unavailable("no space left on the device")

    monkeypatch.setattr(rig.engine, "submit", full)
    reply = await rig.client.post("/task", json={"type": "sum", "params": [1, 2]})
    assert problem(reply) == (503, "unavailable")
    assert reply.headers["retry-after"] == "1"


async def test_idempotency(rig: Rig) -> None:
    body = {"type": "sum", "params": [1, 2]}
    key = {"idempotency-key": "a-1"}
    first = await rig.client.post("/task", json=body, headers=key)
    assert first.status_code == 202
    assert "idempotency-replayed" not in first.headers
    again = await rig.client.post("/task", json=body, headers=key)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    assert again.json()["task_id"] == first.json()["task_id"]
    assert again.headers["location"] == first.headers["location"]
    other = await rig.client.post("/task", json=body | {"priority": 1}, headers=key)
    assert problem(other) == (422, "idempotency-key-reuse")
    by_params = await rig.client.post("/type/sum/task", json=[1, 2], headers=key)
    assert by_params.json()["task_id"] == first.json()["task_id"], "the same request by another path"
    rig.clock.advance(timedelta(hours=25))
    later = await rig.client.post("/task", json=body, headers=key)
    assert later.json()["task_id"] != first.json()["task_id"]


async def test_idempotency_in_flight(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    real, entered, go_on = rig.engine.submit, asyncio.Event(), asyncio.Event()

    async def slow(drafts: Any) -> Any:
        entered.set()
        await go_on.wait()
        return await real(drafts)

    monkeypatch.setattr(rig.engine, "submit", slow)
    options: dict[str, Any] = {"json": {"type": "sum", "params": [1, 2]}, "headers": {"idempotency-key": "k"}}
    first = asyncio.create_task(rig.client.post("/task", **options))
    await entered.wait()
    second = await rig.client.post("/task", **options)
    assert problem(second) == (409, "idempotency-in-flight")
    assert second.headers["retry-after"] == "1"
    go_on.set()
    assert (await first).status_code == 202


@pytest.mark.parametrize("key", [b"", b"a" * 256, b"a b", b"a\xe4", b"a\tb"])
async def test_strange_idempotency_keys(rig: Rig, key: bytes) -> None:
    reply = await rig.client.post("/task", json={"type": "sum", "params": [1, 2]}, headers={"idempotency-key": key})
    assert problem(reply) == (400, "bad-request")
    assert (await rig.client.get("/task")).json()["items"] == []


OWN = "0198f7a0-0000-7000-8000-000000000001"
SUM = {"type": "sum", "params": [4, 2], "delay": 60}


async def test_an_id_of_the_clients_own(rig: Rig) -> None:
    first = await rig.client.put(f"/task/{OWN}", json=SUM)
    assert (first.status_code, first.headers["location"]) == (201, f"/task/{OWN}")
    assert (first.json()["task_id"], first.json()["status"]) == (OWN, "pending")
    rig.clock.advance(timedelta(seconds=61))
    await rig.finish()
    again = await rig.client.put(f"/task/{OWN.upper()}", content=b'{"delay":60,"params":[4,2],"type":"sum"}',
                                 headers={"content-type": "application/json"})  # fmt: skip
    assert (again.status_code, again.json()["status"], again.json()["result"]) == (200, "completed", 6)
    assert again.headers["idempotency-replayed"] == "true"
    other = await rig.client.put(f"/task/{OWN}", json={**SUM, "params": [4, 3]})
    assert problem(other) == (409, "conflict")
    submitted = await rig.submit()
    assert problem(await rig.client.put(f"/task/{submitted}", json=SUM)) == (409, "conflict")
    assert problem(await rig.client.put("/task/nonsense", json=SUM)) == (404, "not-found")
    assert problem(await rig.client.put(f"/task/{OWN[:-1]}2", json={"type": "sum", "params": ["a"]})) == (
        422, "invalid-params",
    )  # fmt: skip


@pytest.mark.parametrize("prefer", ["handling=validate", 'wait=5, handling="validate"', "HANDLING = validate ;x"])
@pytest.mark.parametrize(("method", "path"), [("POST", "/task"), ("PUT", f"/task/{OWN}")])
async def test_a_submission_is_checked_and_not_stored(rig: Rig, prefer: str, method: str, path: str) -> None:
    ask = {"headers": {"prefer": prefer, "idempotency-key": "k"}}
    reply = await rig.client.request(method, path, json=SUM, **ask)
    assert (reply.status_code, reply.content) == (204, b"")
    assert reply.headers["preference-applied"] == "handling=validate"
    wrong = await rig.client.request(method, path, json={"type": "sum", "params": ["a"], "priority": 101}, **ask)
    assert problem(wrong)[0] == 422
    assert len(wrong.json()["errors"]) == 2 + 1, "every fault: both of the params, and the priority's"
    assert (await rig.client.get("/task")).json()["items"] == []
    stored = await rig.client.request(method, path, json=SUM, headers={"prefer": "handling=lenient"})
    assert stored.status_code in (201, 202)


async def test_a_unique_key(rig: Rig) -> None:
    body = {"type": "sum", "params": [4, 2], "unique_key": "k"}
    first = await rig.client.post("/task", json=body)
    again = await rig.client.post("/task", json={**body, "params": [1, 1]})
    assert (again.status_code, again.json()["task_id"]) == (202, first.json()["task_id"])
    assert again.json()["params"] == [4, 2]
    refused = await rig.client.post("/task", json={**body, "on_conflict": "reject"})
    assert problem(refused) == (409, "not-unique")
    assert problem(await rig.client.put(f"/task/{OWN}", json=body)) == (409, "not-unique")
    replacing = await rig.client.post("/task", json={**body, "on_conflict": "replace"})
    assert replacing.json()["task_id"] != first.json()["task_id"]
    assert (await read(rig, first.json()["task_id"]))["status"] == "cancelled"


async def test_a_cached_result(rig: Rig) -> None:
    body = {"type": "sum", "params": [4, 2], "cache": 60}
    first = await rig.client.post("/task", json=body)
    joined = await rig.client.post("/task", content=b'{"params":[4,  2],"cache":"PT60S","type":"sum"}',
                                   headers={"content-type": "application/json"})  # fmt: skip
    assert joined.json()["task_id"] == first.json()["task_id"]
    await rig.finish()
    again = await rig.client.post("/task", json=body, headers={"prefer": "wait=0"})
    assert (again.status_code, again.json()["result"]) == (200, 6)
    assert (await rig.client.post("/task", json={**body, "params": [4, 3]})).json()["status"] == "pending"
    assert (await rig.client.post("/task", json={"type": "sum", "params": [4, 2]})).json()["status"] == "pending"


async def test_dependencies(rig: Rig) -> None:
    first = await rig.submit()
    body = {"type": "sum", "params": [1, 1], "depends_on": [first]}
    second = (await rig.client.post("/task", json=body)).json()
    assert second["depends_on"] == [first]
    assert (await read(rig, second["task_id"]))["reason"] == "dependencies"
    missing = await rig.client.post("/task", json={**body, "depends_on": [first, OWN]})
    assert problem(missing) == (422, "invalid-request")
    assert [error["pointer"] for error in missing.json()["errors"]] == ["/depends_on/1"]
    circle = await rig.client.put(f"/task/{OWN}", json={**body, "depends_on": [OWN]})
    assert problem(circle) == (422, "invalid-request")
    await rig.client.post(f"/task/{first}/cancel")
    failed = await read(rig, second["task_id"])
    assert (failed["status"], failed["error"]["type"]) == ("failed", "/problems/dependency-failed")
    assert problem(await rig.client.post(f"/task/{second['task_id']}/retry")) == (409, "conflict")


async def test_a_deadline(rig: Rig) -> None:
    deadline = (rig.clock.now() + timedelta(seconds=5)).isoformat()
    task = (await rig.client.post("/task", json={"type": "sum", "params": [1, 1], "deadline": deadline})).json()
    rig.clock.advance(timedelta(seconds=5))
    await rig.engine.fail_overdue(limit=10)
    ended = await read(rig, task["task_id"])
    assert (ended["status"], ended["error"]["type"]) == ("failed", "/problems/deadline-passed")
    assert ended["deadline"] == task["deadline"] == deadline.replace("+00:00", "Z")


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(("method", "path"), [("POST", "/task"), ("PUT", f"/task/{OWN}")])
async def test_the_trace_of_a_task_is_kept(rig: Rig, method: str, path: str) -> None:
    body = {"type": "sum", "params": [4, 2]}
    reply = await rig.client.request(method, path, json=body, headers={"traceparent": TRACE})
    assert reply.json()["traceparent"] == TRACE
    assert (await read(rig, reply.json()["task_id"]))["traceparent"] == TRACE
    assert "traceparent" not in await read(rig, await rig.submit())


@pytest.mark.parametrize("given", ["", "x", TRACE + "0", TRACE.replace("00-", "ff-"), "00-" + "0" * 32 + TRACE[35:]])
async def test_an_invalid_traceparent_is_ignored(rig: Rig, given: str) -> None:
    reply = await rig.client.post("/task", json={"type": "sum", "params": [4, 2]}, headers={"traceparent": given})
    assert (reply.status_code, "traceparent" in reply.json()) == (202, False)


async def test_another_trace_is_the_same_request(rig: Rig) -> None:
    headers = [{"idempotency-key": "k", "traceparent": trace} for trace in (TRACE, TRACE[:-1] + "0")]
    first, again = [
        await rig.client.post("/task", json={"type": "sum", "params": [4, 2]}, headers=one) for one in headers
    ]
    assert again.json()["task_id"] == first.json()["task_id"]
