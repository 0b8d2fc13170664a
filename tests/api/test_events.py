"""GET /task/{task_id}/events, and submissions that are answered by a stream: formats, resuming, refusals."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import httpx2
import msgspec
import pytest

from tasker.model import NewEvent, Report, RetryPolicy
from tasker.rules.lifecycle import Cancelled, Failed, Succeeded
from tasker.rules.lifecycle import problem as task_problem
from tasker.testing import make_draft
from tests.api.conftest import TYPES, Rig, problem
from tests.api.test_waiting import SUM, until_waiting

SSE = {"accept": "text/event-stream"}
LINES = {"accept": "application/jsonl"}


def frames(reply: httpx2.Response) -> list[dict[str, str]]:
    """Return the events of an SSE reply as a browser reads them: comments are left out."""
    assert reply.headers["content-type"] == "text/event-stream"
    found = []
    for block in reply.text.split("\n\n")[:-1]:
        fields = [line.partition(": ") for line in block.split("\n") if not line.startswith(":")]
        if fields:
            found.append({name: value for name, _, value in fields})
    return found


def lines(reply: httpx2.Response) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in reply.text.splitlines() if line]


async def speak(rig: Rig, *chunks: str) -> Any:
    """Claim the next task and have its attempt report these outputs; return the claim."""
    claim = await rig.driver.claim_one(types=TYPES)
    for chunk in chunks:
        data = msgspec.json.encode({"chunk": chunk})
        event = NewEvent(type="output", time=rig.clock.now(), data=data)
        assert await rig.driver.engine.record(claim.lease, Report(events=(event,)))
    return claim


@pytest.mark.parametrize("media", ["text/event-stream", "application/jsonl"])
@pytest.mark.parametrize("path", ["/task/{task_id}/events", "/events", "/task"])
async def test_a_stream_sends_something_at_once(rig: Rig, media: str, path: str) -> None:
    """Proxies cut off replies that send nothing, and a pending task may have no event for long."""
    task_id = await rig.submit()
    sent = asyncio.Queue[Any]()
    body = b'{"type":"sum","params":[4,2]}' if path == "/task" else b""
    scope = {
        "type": "http", "method": "POST" if body else "GET", "path": path.format(task_id=task_id), "query_string": b"",
        "raw_path": path.format(task_id=task_id).encode(),
        "headers": [(b"host", b"localhost"), (b"accept", media.encode()), (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(body))],
    }  # fmt: skip
    coming = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        for message in coming:
            return message
        return await asyncio.Event().wait()

    request = asyncio.create_task(rig.app(scope, receive, sent.put))
    try:
        async with asyncio.timeout(30):
            assert (await sent.get())["status"] == 200
            first = (await sent.get())["body"]
    finally:
        request.cancel()
        await asyncio.wait([request])
    assert first == b"\n" if media == "application/jsonl" else first.startswith(b": ")


async def test_a_log_is_followed_to_its_end(rig: Rig) -> None:
    task_id = await rig.submit()
    following = asyncio.create_task(rig.client.get(f"/task/{task_id}/events", headers=SSE))
    await until_waiting(rig)
    claim = await speak(rig, "Once", " upon\na time")
    await until_waiting(rig)
    await rig.driver.finish(claim, Succeeded(b"6"))
    async with asyncio.timeout(30):
        reply = await following
    seen = frames(reply)
    assert [(frame["id"], frame["event"]) for frame in seen] == [
        ("1", "created"), ("2", "started"), ("3", "output"), ("4", "output"), ("5", "completed"),
    ]  # fmt: skip
    datas = [msgspec.json.decode(frame["data"]) for frame in seen]
    assert [(data["task_id"], data["sequence"], data["type"]) for data in datas] == [
        (task_id, int(frame["id"]), frame["event"]) for frame in seen
    ]
    assert [data["attempt"] for data in datas] == [0, 1, 1, 1, 1]
    assert [data["chunk"] for data in datas[2:4]] == ["Once", " upon\na time"]
    assert datas[4]["task"] == (await rig.client.get(f"/task/{task_id}")).json()
    assert (reply.headers["cache-control"], reply.headers["x-accel-buffering"]) == ("no-store", "no")


async def test_params_over_several_lines_stay_in_one_line_of_data(rig: Rig) -> None:
    body = b'{"type": "echo", "params": [\n  "a\\nb"\r\n]}'
    asking = asyncio.create_task(
        rig.client.post("/task", content=body, headers={"content-type": "application/json", **SSE})
    )
    await until_waiting(rig)
    await rig.finish(Succeeded(b'"a\\nb"'))
    [*_, last] = frames(await asking)
    assert msgspec.json.decode(last["data"])["task"]["params"] == ["a\nb"]


async def test_each_event_is_a_line_of_json(rig: Rig) -> None:
    task_id = await rig.submit()
    claim = await speak(rig, "a")
    following = asyncio.create_task(rig.client.get(f"/task/{task_id}/events", headers=LINES))
    await until_waiting(rig)
    await rig.driver.finish(claim, Cancelled())
    reply = await following
    assert reply.headers["content-type"] == "application/jsonl"
    assert [event["type"] for event in lines(reply)] == ["created", "started", "output", "cancelled"]


@pytest.mark.parametrize(("how", "value"), [("last-event-id", "3"), ("after", "3")])
async def test_a_stream_resumes_where_it_was_left(rig: Rig, how: str, value: str) -> None:
    task_id = await rig.submit()
    await rig.driver.finish(await speak(rig, "a", "b"), Succeeded(b"6"))
    ask: dict[str, Any] = {"params": {"after": value}} if how == "after" else {"headers": {how: value}}
    reply = await rig.client.get(f"/task/{task_id}/events", **ask)
    assert [frame["id"] for frame in frames(reply)] == ["4", "5"]
    ask = {"headers": {"last-event-id": "5"}}
    reply = await rig.client.get(f"/task/{task_id}/events", **ask)
    assert (reply.status_code, reply.content) == (204, b""), "an EventSource would ask for ever"


async def test_attempts_and_retries_have_events(rig: Rig) -> None:
    draft = make_draft(rig.clock.now(), retry=RetryPolicy(max_attempts=2, jitter=False))
    task_id = await rig.driver.submit(draft)
    failed = Failed(task_problem("task-raised", "no", retryable=True))
    await rig.driver.finish(await rig.driver.claim_one(), failed)
    rig.clock.advance(timedelta(seconds=60))
    await rig.driver.finish(await rig.driver.claim_one(), failed)
    told = lines(await rig.client.get(f"/task/{task_id}/events", headers=LINES))
    assert [event["type"] for event in told] == ["created", "started", "retrying", "started", "failed"]
    assert {name: told[2][name] for name in ("attempt", "ending", "reason", "delay")} == {
        "attempt": 1, "ending": "failed", "reason": "retrying", "delay": 1.0,
    }  # fmt: skip
    assert told[2]["error"]["detail"] == "no"
    assert told[4]["task"]["status"] == "failed"
    assert (await rig.client.post(f"/task/{task_id}/retry")).status_code == 202
    following = asyncio.create_task(rig.client.get(f"/task/{task_id}/events?after=4", headers=LINES))
    await until_waiting(rig)
    await rig.driver.finish(await rig.driver.claim_one(), Cancelled())
    told = lines(await following)
    assert [(event["type"], event["attempt"]) for event in told] == [
        ("failed", 2), ("retrying", 2), ("started", 3), ("cancelled", 3),
    ]  # fmt: skip
    assert "task" not in told[0], "it is not the task as it is now"


@pytest.mark.parametrize("path", ["/task", "/type/sum/task"])
async def test_a_submission_is_answered_by_its_events(rig: Rig, path: str) -> None:
    body: Any = {"type": "sum", "params": [4, 2]} if path == "/task" else [4, 2]
    asking = asyncio.create_task(rig.client.post(path, json=body, headers=SSE))
    await until_waiting(rig)
    await rig.finish()
    reply = await asking
    assert reply.status_code == 200
    assert [frame["event"] for frame in frames(reply)] == ["created", "started", "completed"]
    task_id = msgspec.json.decode(frames(reply)[0]["data"])["task_id"]
    assert reply.headers["location"] == f"/task/{task_id}"


async def test_a_submission_that_is_refused_is_no_stream(rig: Rig) -> None:
    reply = await rig.client.post("/task", json={"type": "sum", "params": ["a"]}, headers=SSE)
    assert problem(reply) == (422, "invalid-params")


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", "application/json"), ("application/json, text/event-stream;q=0.5", "application/json"),
        ("text/event-stream, application/json;q=0.1", "text/event-stream"),
        ("application/*;q=0.2, text/event-stream", "text/event-stream"),
    ],
)  # fmt: skip
async def test_the_client_chooses(rig: Rig, accept: str, media: str) -> None:
    asking = asyncio.create_task(rig.client.post("/task?wait=5", json=SUM, headers={"accept": accept}))
    await until_waiting(rig)
    await rig.finish()
    assert (await asking).headers["content-type"] == media


async def test_streams_end_when_the_service_stops(rig: Rig) -> None:
    task_id = await rig.submit()
    following = asyncio.create_task(rig.client.get(f"/task/{task_id}/events"))
    await until_waiting(rig)
    rig.service.stop()
    async with asyncio.timeout(30):
        assert [frame["event"] for frame in frames(await following)] == ["created"]


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/task/01a20c8b-c777-7774-af49-131c21b859b2/events", {}, (404, "not-found")),
        ("/task/nonsense/events", {}, (404, "not-found")),
        ("{events}?after=-1", {}, (422, "invalid-request")),
        ("{events}?after=1&after=2", {}, (422, "invalid-request")),
        ("{events}?since=1", {}, (422, "unknown-field")),
        ("{events}", {"last-event-id": "x"}, (422, "invalid-request")),
        ("{events}", {"accept": "application/json"}, (406, "not-acceptable")),
        ("{events}", [("last-event-id", "1"), ("last-event-id", "2")], (400, "bad-request")),
    ],
)
async def test_refusals(rig: Rig, path: str, headers: Any, expected: tuple[int, str]) -> None:
    task_id = await rig.submit()
    reply = await rig.client.get(path.format(events=f"/task/{task_id}/events"), headers=headers)
    assert problem(reply) == expected


async def test_a_head_is_answered_without_a_stream(rig: Rig) -> None:
    task_id = await rig.submit()
    reply = await rig.client.head(f"/task/{task_id}/events")
    assert (reply.status_code, reply.content) == (200, b"")
    assert rig.hub.waiting == 0
