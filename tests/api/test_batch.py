"""POST /batch: an answer for each submission, chunk by chunk, with back-pressure on every side."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tasker.api import batches, lines
from tasker.errors import Unavailable
from tasker.model import TaskFilter
from tests.api.conftest import Rig, problem

JSONL = {"content-type": "application/jsonl"}
SUM = {"type": "sum", "params": [4, 2]}
GOOD = json.dumps(SUM).encode()


def read_lines(reply: httpx2.Response) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the items and the summary of a reply in lines."""
    assert reply.headers["content-type"] == "application/jsonl", reply.text
    *items, summary = [json.loads(line) for line in reply.text.splitlines()]
    assert all("index" in item for item in items)
    return items, summary


async def post(rig: Rig, body: bytes, **headers: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    reply = await rig.client.post("/batch", content=body, headers=JSONL | headers)
    assert reply.status_code == 200, reply.text
    return read_lines(reply)


async def stored(rig: Rig) -> list[str]:
    """Return the ids of all tasks, in order of submission."""
    page = await rig.engine.find_many(TaskFilter(), limit=5000)
    return [str(task.task_id) for task in reversed(page.items)]


class Wire:
    """A request to /batch whose body the test sends piece by piece and whose reply it reads as it comes."""

    def __init__(self, rig: Rig, **headers: str) -> None:
        self._pieces: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.is_reading = asyncio.Event()
        self.is_reading.set()
        self.status = 0
        self.asked = 0
        self._sent = b""
        self._news = asyncio.Event()
        given = {
            "host": "localhost:5000",
            "content-type": "application/jsonl",
            "transfer-encoding": "chunked",
        } | headers
        scope = {
            "type": "http", "method": "POST", "path": "/batch", "raw_path": b"/batch", "query_string": b"",
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()],
        }  # fmt: skip
        self.request = asyncio.create_task(rig.app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        self.asked += 1
        return await self._pieces.get()

    async def _send(self, message: Any) -> None:
        await self.is_reading.wait()
        self.status = message.get("status", self.status)
        self._sent += message.get("body", b"")
        self._news.set()

    def write(self, body: bytes, *, more: bool = True) -> None:
        self._pieces.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self) -> None:
        self._pieces.put_nowait({"type": "http.disconnect"})

    async def read(self, count: int) -> list[dict[str, Any]]:
        """Wait for this many lines of the reply and return all of them."""
        async with asyncio.timeout(30):
            while self._sent.count(b"\n") < count:
                self._news.clear()
                await self._news.wait()
        return [json.loads(line) for line in self._sent.splitlines()]


async def test_each_line_is_answered_in_order(rig: Rig) -> None:
    body = b"\n".join([
        GOOD, b"", b'{"type":"nope","params":[]}', b"  ", b'{"type":"sum","params":["1"],"priority":5000}\r',
        b'{"type":"reverse","params":["abc"],"queue":"q","tags":["a"]}\r', GOOD,
    ])  # fmt: skip
    items, summary = await post(rig, body)
    assert [(item["index"], item["line"], item["status"]) for item in items] == [
        (0, 1, 202), (1, 3, 422), (2, 5, 422), (3, 6, 202), (4, 7, 202),
    ]  # fmt: skip
    assert {fault["pointer"] for fault in items[2]["problem"]["errors"]} == {"/params/0", "/params/1", "/priority"}
    assert summary == {"accepted": 3, "refused": 2}
    assert await stored(rig) == [item["task_id"] for item in items if "task_id" in item]
    task = (await rig.client.get(f"/task/{items[3]['task_id']}")).json()
    assert (task["type"], task["params"], task["queue"], task["tags"]) == ("reverse", ["abc"], "q", ["a"])


async def test_an_array_is_answered_by_one_object(rig: Rig) -> None:
    reply = await rig.client.post("/batch", json=[SUM, {"type": "sum"}, SUM])
    assert reply.status_code == 200
    body = reply.json()
    assert [(item["index"], item["status"]) for item in body["items"]] == [(0, 202), (1, 422), (2, 202)]
    assert (body["accepted"], body["refused"]) == (2, 1)
    assert all("line" not in item for item in body["items"])
    assert len(await stored(rig)) == 2


async def test_accept_chooses_the_form_of_the_reply(rig: Rig) -> None:
    reply = await rig.client.post("/batch", json=[SUM], headers={"accept": "application/jsonl"})
    assert [item["status"] for item in read_lines(reply)[0]] == [202]
    reply = await rig.client.post(
        "/batch", content=GOOD * 2 + b"\n" + GOOD, headers=JSONL | {"accept": "application/json"}
    )
    assert [item["status"] for item in reply.json()["items"]] == [400, 202], "two values on one line are no JSON"


BAD = [
    b"{", b"[1,]", b"{} x", b'{"type":"sum","params":[NaN,1]}', b'{"type":"\xff"}', b"\xef\xbb\xbf{}", b"null", b"[]",
    b"1", b'{"type":"sum","params":[1e400,1]}', b'{"type":"sum","params":[%b,1]}' % (b"9" * 4301),
    b"[" * 100_000,
    b'{"type":"sum","params":%b}' % (b"[" * 64 + b"]" * 64), b'{"type":"reverse","params":["\\ud800"]}',
    b'{"type":"sum","type":"sum","params":[1,2]}', b'{"params":[1,2]}', b'{"type":"nope","params":[1,2]}',
    b'{"type":"sum","params":[%b1]}' % (b"1," * 200_000), b'{"type":"sum","params":[1,2],"status":"completed"}',
]  # fmt: skip


async def test_a_bad_line_gets_the_problem_it_would_get_alone(rig: Rig) -> None:
    items, summary = await post(rig, b"\n".join([GOOD, *BAD, GOOD]))
    assert (summary["accepted"], summary["refused"]) == (2, len(BAD))
    for body, item in zip(BAD, items[1:-1], strict=True):
        alone = await rig.client.post("/task", content=body, headers={"content-type": "application/json"})
        assert item["status"] == alone.status_code, body[:50]
        assert item["problem"] | {"request_id": ""} == alone.json() | {"request_id": ""}
    assert len(await stored(rig)) == 2


async def test_an_element_of_an_array_is_as_a_line(rig: Rig) -> None:
    fits = [body for body in BAD if len(body) < 10_000 and (body.endswith((b"}", b"l", b"1")) or body == b"[]")]
    fits = [body for body in fits if b"\xff" not in body and b"\xef" not in body]
    assert len(fits) > 10
    reply = await rig.client.post(
        "/batch", content=b"[%b]" % b",".join([GOOD, *fits]), headers={"content-type": "application/json"}
    )
    items = reply.json()["items"]
    assert items[0]["status"] == 202
    for body, item in zip(fits, items[1:], strict=True):
        alone = await rig.client.post("/task", content=body, headers={"content-type": "application/json"})
        assert item["problem"] | {"request_id": ""} == alone.json() | {"request_id": ""}, body[:60]


@pytest.mark.parametrize(
    ("content", "media", "expected"),
    [
        (b"", "application/jsonl", (400, "malformed-json")),
        (b" \n\r\n", "application/jsonl", (400, "malformed-json")),
        (b" [ ] ", "application/json", (400, "malformed-json")),
        (b"[%b,]" % GOOD, "application/json", (400, "malformed-json")),
        (b"[%b] x" % GOOD, "application/json", (400, "malformed-json")),
        (b"[%b %b]" % (GOOD, GOOD), "application/json", (400, "malformed-json")),
        (b"%b,%b" % (GOOD, GOOD), "application/json", (400, "malformed-json")),
        (b"", "application/json", (400, "malformed-json")),
        (b"[]", "application/json", (400, "malformed-json")),
        (b"{}", "application/json", (400, "malformed-json")),
        (b'[{"type":"sum"', "application/json", (400, "malformed-json")),
        (b"[" * 100_000, "application/json", (400, "too-deep")),
        (b"[\xff]", "application/json", (400, "malformed-json")),
        (b"[1," + b" " * (1 << 20) + b"1]", "application/json", (413, "payload-too-large")),
        (GOOD, "text/plain", (415, "unsupported-media-type")),
        (GOOD, "application/jsonl; charset=latin-1", (415, "unsupported-media-type")),
    ],
)
async def test_a_body_that_is_not_a_batch_is_refused(
    rig: Rig, content: bytes, media: str, expected: tuple[int, str]
) -> None:
    reply = await rig.client.post("/batch", content=content, headers={"content-type": media})
    assert problem(reply) == expected
    assert await stored(rig) == []


async def test_lines_are_accepted_on_no_other_path(rig: Rig) -> None:
    assert problem(await rig.client.post("/task", content=GOOD, headers=JSONL)) == (415, "unsupported-media-type")
    reply = await rig.client.post(
        "/batch", content=GOOD, headers={"content-type": 'Application/X-NDJSON; charset="UTF-8"'}
    )
    assert reply.status_code == 200


async def test_a_line_that_is_too_long_is_skipped(make_rig: Callable[..., Any]) -> None:
    rig = await make_rig(max_body=2000)
    long = b'{"type":"reverse","params":["%b"]}' % (b"x" * 10_000)
    wire = Wire(rig)
    for piece in (GOOD + b"\n", *(long[start : start + 3000] for start in range(0, len(long), 3000)), b"\n" + GOOD):
        wire.write(piece)
    wire.write(b"\n" + long[:5000], more=False)
    found = await wire.read(5)
    assert [item.get("status") for item in found] == [202, 413, 202, 413, None]
    assert [item.get("line") for item in found] == [1, 2, 3, 4, None]


async def test_the_sizes_of_batches_are_limited(make_rig: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await make_rig(max_batch=4000)
    reply = await rig.client.post("/batch", content=b"x" * 5000, headers=JSONL)
    assert problem(reply) == (413, "payload-too-large")
    wire = Wire(rig)
    wire.write(GOOD + b"\n")
    assert len(await wire.read(1)) == 1
    wire.write(b"x" * 5000)
    *_, summary = await wire.read(2)
    assert (summary["accepted"], summary["problem"]["status"]) == (1, 413)
    monkeypatch.setattr(lines, "MAX_LINES", 3)
    items, summary = await post(rig, b"\n".join([GOOD] * 5))
    assert len(items) == 3
    assert "at most 3 submissions" in summary["problem"]["detail"]
    assert len(await stored(rig)) == 4


async def test_a_check_stores_nothing(rig: Rig) -> None:
    reply = await rig.client.post(
        "/batch", content=GOOD + b"\n{}", headers=JSONL | {"prefer": "handling=validate", "idempotency-key": "k"}
    )
    items, summary = read_lines(reply)
    assert reply.headers["preference-applied"] == "handling=validate"
    assert [item["status"] for item in items] == [204, 422]
    assert summary == {"accepted": 1, "refused": 1}
    assert await stored(rig) == []


async def test_a_commit_for_each_chunk(rig: Rig) -> None:
    before = rig.engine.commits
    items, _ = await post(rig, b"\n".join([GOOD] * 1200))
    assert rig.engine.commits - before == 3
    assert await stored(rig) == [item["task_id"] for item in items]


async def test_the_same_batch_again_gives_the_same_tasks(rig: Rig) -> None:
    body = b"\n".join([GOOD, b"{}", GOOD, b'{"type":"echo","params":[1]}'])
    first, _ = await post(rig, body, **{"idempotency-key": "k"})
    assert not any("replayed" in item for item in first)
    again, summary = await post(rig, body.replace(b"}\n", b" }\n\n"), **{"idempotency-key": "k"})
    ids = [item.get("task_id") for item in first]
    assert [item.get("task_id") for item in again] == ids
    assert [item.get("replayed") for item in again] == [True, None, True, True]
    assert (summary["accepted"], summary["refused"]) == (3, 1)
    other, _ = await post(rig, body.replace(b"[1]", b"[2]"), **{"idempotency-key": "k"})
    assert [item["status"] for item in other] == [202, 422, 202, 422]
    assert other[3]["problem"]["type"] == "/problems/idempotency-key-reuse"
    another, _ = await post(rig, body, **{"idempotency-key": "k2"})
    assert {item.get("task_id") for item in another}.isdisjoint(set(ids) - {None})
    assert len(await stored(rig)) == 6


async def test_a_broken_batch_is_completed_by_the_same_again(rig: Rig) -> None:
    """What was durable when the client disconnected stays, and is not submitted twice."""
    body = b"\n".join([GOOD] * 700) + b"\n"
    wire = Wire(rig, idempotency_key="k")
    wire.write(body[: len(body) // 2])
    before = await wire.read(350)
    wire.leave()
    await asyncio.wait_for(wire.request, 30)
    kept = await stored(rig)
    assert kept == [item["task_id"] for item in before]
    items, summary = await post(rig, body, **{"idempotency-key": "k"})
    assert [item["task_id"] for item in items[:350]] == kept
    assert [item.get("replayed") for item in items] == [True] * 350 + [None] * 350
    assert summary == {"accepted": 700, "refused": 0}
    assert len(await stored(rig)) == 700


async def test_two_batches_with_one_key_at_once(rig: Rig) -> None:
    wire = Wire(rig, idempotency_key="k")
    wire.write(GOOD + b"\n")
    await wire.read(1)
    reply = await rig.client.post("/batch", content=GOOD, headers=JSONL | {"idempotency-key": "k"})
    assert problem(reply) == (409, "idempotency-in-flight")
    assert (await rig.client.post("/batch", content=GOOD, headers=JSONL | {"idempotency-key": "k2"})).status_code == 200
    wire.write(b"", more=False)
    await wire.read(2)
    await asyncio.wait_for(wire.request, 30)
    items, _ = await post(rig, GOOD, **{"idempotency-key": "k"})
    assert items[0]["replayed"]


async def test_batches_of_two_owners_with_one_key_at_once(locked: Rig) -> None:
    alice, bob = await locked.key("submit", owner="alice"), await locked.key("submit", owner="bob")
    wire = Wire(locked, idempotency_key="k", **alice)
    wire.write(GOOD + b"\n")
    [first] = await wire.read(1)
    [own], _ = await post(locked, GOOD, **{"idempotency-key": "k"}, **bob)
    assert own["status"] == 202
    assert "replayed" not in own
    assert own["task_id"] != first["task_id"]
    wire.write(b"", more=False)
    await wire.read(2)


async def test_replies_are_sent_while_the_body_arrives(rig: Rig) -> None:
    wire = Wire(rig)
    for count in (1, 2):
        wire.write(GOOD + b"\n" + GOOD[:10])
        assert (await wire.read(count))[-1]["status"] == 202
        wire.write(GOOD[10:] + b"\n" if count == 1 else b" x\n")
        await wire.read(count + 1)
    wire.write(b"", more=False)
    assert (await wire.read(5))[-1]["accepted"] == 3


async def test_nothing_is_read_while_the_client_does_not_read(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BACKLOG", 1000)
    wire = Wire(rig)
    wire.is_reading.clear()
    for _ in range(50):
        wire.write(b"\n".join([GOOD] * 500) + b"\n")
    wire.write(b"", more=False)
    async with asyncio.timeout(30):
        while (asked := wire.asked) < 2 or len(await stored(rig)) < 1000:
            await asyncio.sleep(0)
    for _ in range(2000):
        await asyncio.sleep(0)
    assert asked <= wire.asked <= 5, "the body is read on while the client reads nothing"
    wire.is_reading.set()
    assert (await wire.read(25_001))[-1] == {"accepted": 25_000, "refused": 0}


async def test_a_store_that_fails_ends_the_batch(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    submit, calls = rig.engine.submit, 0

    async def fails_at(which: int, drafts: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == which:
            raise Unavailable("the store cannot write now")
        return await submit(drafts)

    monkeypatch.setattr(rig.engine, "submit", lambda drafts: fails_at(1, drafts))
    reply = await rig.client.post("/batch", content=b"\n".join([GOOD] * 1200), headers=JSONL)
    assert problem(reply) == (503, "unavailable")
    calls = 0
    monkeypatch.setattr(rig.engine, "submit", lambda drafts: fails_at(2, drafts))
    items, summary = await post(rig, b"\n".join([GOOD] * 1200))
    assert (len(items), summary["accepted"]) == (500, 500)
    assert summary["problem"]["type"] == "/problems/unavailable"
    assert len(await stored(rig)) == 500


async def test_a_service_that_stops_ends_the_batch(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_LOOK_EVERY", 0.01)
    wire = Wire(rig)
    wire.write(GOOD + b"\n")
    await wire.read(1)
    rig.service.stop()
    *_, summary = await wire.read(2)
    assert (summary["accepted"], summary["problem"]["type"]) == (1, "/problems/shutting-down")


async def test_a_body_that_stops_arriving_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines.Pieces.__init__, "__kwdefaults__", {"within": 0.05, "stopping": lambda: False})
    wire = Wire(rig)
    wire.write(GOOD + b"\n" + GOOD)
    *_, summary = await wire.read(2)
    assert (summary["accepted"], summary["problem"]["status"]) == (1, 408), "half a line is none"
