"""GET /events: the events of all tasks, live, resumed, filtered, reset; followers share one reader."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from tasker.model import NewEvent, Report
from tasker.rules.lifecycle import Succeeded
from tasker.service import feed as feed_module
from tests.api.conftest import TOKEN, TYPES, Rig, problem


class Follower:
    """One client of GET /events, which reads when the test tells it to."""

    def __init__(self, rig: Rig, query: str, headers: dict[str, str]) -> None:
        given = {"host": "localhost", **headers}
        self.scope = {
            "type": "http", "method": "GET", "path": "/events", "raw_path": b"/events", "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()], "client": ("127.0.0.1", 1),
        }  # fmt: skip
        self.status: int | None = None
        self.text = ""
        self.ended = False
        self.gate = asyncio.Event()
        self.gate.set()
        self._news = asyncio.Event()
        self._left = asyncio.Event()
        self.task = asyncio.create_task(self._run(rig))

    async def _run(self, rig: Rig) -> None:
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if asked:
                await self._left.wait()
                return {"type": "http.disconnect"}
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            await self.gate.wait()
            self.status = message.get("status", self.status)
            self.text += message.get("body", b"").decode()
            self._news.set()

        with contextlib.suppress(Exception):
            await rig.app(self.scope, receive, send)
        self.ended = True
        self._news.set()

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = self.text.split("\n")
        return [msgspec.json.decode(line.removeprefix("data: ")) for line in lines if line.startswith(("data: ", "{"))]

    @property
    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]

    async def until(self, count: int) -> list[dict[str, Any]]:
        """Return the events once there are this many."""
        async with asyncio.timeout(30):
            while len(self.events) < count and not self.ended:
                self._news.clear()
                await self._news.wait()
        return self.events

    async def leave(self) -> None:
        self._left.set()
        await self.task


async def turns() -> None:
    """Let streams whose replies have begun take their place at the end of the journal."""
    for _ in range(30):
        await asyncio.sleep(0)


@pytest.fixture
async def follow(rig: Rig) -> AsyncIterator[Any]:
    made: list[Follower] = []

    async def start(query: str = "", **headers: str) -> Follower:
        follower = Follower(rig, query, {name.replace("_", "-"): value for name, value in headers.items()})
        made.append(follower)
        async with asyncio.timeout(30):
            while follower.status is None or rig.service.feed._window.newest is None:
                await asyncio.sleep(0.001)
        await turns()
        return follower

    yield start
    for follower in made:
        await follower.leave()


async def run_one(rig: Rig, **options: Any) -> str:
    task_id = await rig.submit(**options)
    claim = await rig.driver.claim_one(types=TYPES)
    event = NewEvent(type="output", time=rig.clock.now(), data=b'{"chunk":"a\\nb"}')
    await rig.driver.engine.record(claim.lease, Report(events=(event,)))
    await rig.driver.finish(claim, Succeeded(b"6"))
    return task_id


LIFE = ["created", "started", "output", "completed"]


async def test_every_event_is_sent_as_it_happens(rig: Rig, follow) -> None:
    await run_one(rig)
    follower = await follow()
    first, second = await run_one(rig), await run_one(rig)
    events = await follower.until(8)
    assert [(event["task_id"], event["sequence"], event["type"]) for event in events] == [
        (task_id, number, kind) for task_id in (first, second) for number, kind in enumerate(LIFE, start=1)
    ]
    assert events[2]["chunk"] == "a\nb"
    assert events[3]["task"] == (await rig.client.get(f"/task/{first}")).json()
    ids = [line.removeprefix("id: ") for line in follower.text.split("\n") if line.startswith("id: ")]
    assert ids == [event["cursor"] for event in events]


async def test_each_event_is_a_line_of_json(rig: Rig, follow) -> None:
    follower = await follow(accept="application/jsonl")
    await run_one(rig)
    await follower.until(4)
    assert follower.text.count("\n") == 5  # a blank line comes first
    assert follower.kinds == LIFE


@pytest.mark.parametrize("how", ["after", "last-event-id"])
async def test_it_resumes_where_it_was_left(rig: Rig, follow, how: str) -> None:
    first = await follow()
    for _ in range(3):
        await run_one(rig)
    events = await first.until(12)
    for place in (0, 3, 7, 11):
        cursor = events[place]["cursor"]
        again = await (follow(f"after={cursor}") if how == "after" else follow("after=oldest", last_event_id=cursor))
        assert await again.until(11 - place) == events[place + 1 :]
    await run_one(rig)
    assert (await again.until(4)) == (await first.until(16))[12:]


async def test_the_oldest_that_is_kept(rig: Rig, follow) -> None:
    await run_one(rig)
    follower = await follow("after=oldest")
    assert [event["type"] for event in await follower.until(4)] == LIFE


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("event=completed", ["completed"] * 2),
        ("event=created,completed&type=sum", ["created", "completed"]),
        ("event=created&event=started&queue=mail", ["created", "started"]),
        ("tag=blue", LIFE),
        ("tag=none&event=created", []),
        ("task_id={first}", LIFE),
        ("task_id={first},{second}&event=created", ["created"] * 2),
    ],
)
async def test_filters(rig: Rig, follow, query: str, expected: list[str]) -> None:
    first = await run_one(rig, tags=["blue", "red"])
    second = await run_one(rig, type="echo", params=[1], queue="mail")
    everything = await follow("after=oldest")
    await everything.until(8)
    follower = await follow("after=oldest&" + query.format(first=first, second=second))
    await follower.until(len(expected))
    assert follower.kinds == expected


async def test_a_follower_that_is_too_far_behind_gets_a_reset(rig: Rig, follow) -> None:
    first = await follow()
    await run_one(rig)
    old = (await first.until(4))[0]["cursor"]
    rig.clock.advance(timedelta(hours=25))
    newest = await run_one(rig)
    await first.until(8)
    await first.leave()  # or it would be served from memory
    await rig.engine.prune(limit=500)
    again = await follow(f"after={old}")
    events = await again.until(5)
    assert events[0]["type"] == "reset"
    assert "event: reset\n" in again.text
    assert [(event["type"], event["task_id"]) for event in events[1:]] == [(kind, newest) for kind in LIFE]
    resumed = await follow(last_event_id=events[0]["cursor"])
    assert await resumed.until(4) == events[1:]


async def test_followers_share_one_reader(rig: Rig, follow) -> None:
    reads = 0
    read = rig.engine.journal.read

    async def counted(*given: Any, **named: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(*given, **named)

    rig.engine.journal.read = counted  # type: ignore[method-assign]
    followers = [await follow() for _ in range(30)]
    before = reads
    for _ in range(5):
        await run_one(rig)
    for follower in followers:
        assert [event["type"] for event in await follower.until(20)] == LIFE * 5
    assert reads - before < 60


async def test_a_stalled_follower_delays_no_other_and_misses_nothing(
    rig: Rig, follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "_WINDOW_BATCHES", 2)
    still, other = await follow(), await follow()
    still.gate.clear()
    for number in range(1, 6):
        await run_one(rig)
        await other.until(number * 4)
    assert len(rig.service.feed._window._batches) <= 2
    still.gate.set()
    assert await still.until(20) == other.events


async def test_a_silent_stream_sends_heartbeats(rig: Rig, follow, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (feed_module, __import__("tasker.api.feed", fromlist=["x"])):
        monkeypatch.setattr(module, "HEARTBEAT", 0.05)
    frames, lines = await follow(), await follow(accept="application/jsonl")
    filtered = await follow("event=failed")
    async with asyncio.timeout(30):
        while frames.text.count("still here") < 3 or lines.text.count("\n") < 4:
            await asyncio.sleep(0.01)
        before = filtered.text.count("still here")
        while filtered.text.count("still here") == before:
            await run_one(rig)
    assert filtered.events == []


async def test_an_error_of_the_shared_reader_ends_no_stream(rig: Rig, follow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasker.service.feed._AFTER_A_FAULT", 0)
    follower = await follow()
    read, faults = rig.engine.journal.read, ["one", "two"]

    async def fail(*args: Any, **more: Any) -> Any:
        if faults:
            raise ValueError(faults.pop())
        return await read(*args, **more)

    monkeypatch.setattr(rig.engine.journal, "read", fail)
    await run_one(rig)
    assert [event["type"] for event in await follower.until(4)] == LIFE
    assert not faults


async def test_streams_end_when_the_service_stops(rig: Rig, follow) -> None:
    follower = await follow()
    rig.service.stop()
    async with asyncio.timeout(30):
        await follower.task


async def test_the_shared_reader_stops_without_followers(rig: Rig, follow) -> None:
    follower = await follow()
    assert rig.hub.waiting == 1
    await follower.leave()
    async with asyncio.timeout(30):
        while rig.hub.waiting:
            await asyncio.sleep(0.001)


async def test_each_owner_follows_its_own_tasks(locked: Rig) -> None:
    alice, bob = await locked.key("submit", "read", owner="alice"), await locked.key("submit", "read", owner="bob")
    streams = [Follower(locked, "", who) for who in (alice, bob, {"authorization": f"Bearer {TOKEN}"})]
    async with asyncio.timeout(30):
        while locked.service.feed._window.newest is None or any(stream.status is None for stream in streams):
            await asyncio.sleep(0.001)
    await turns()
    for who in (alice, bob):
        await locked.client.post("/task", json={"type": "sum", "params": [4, 2]}, headers=who)
    everything = await streams[2].until(2)
    assert [await stream.until(1) for stream in streams[:2]] == [[event] for event in everything]
    for stream in streams:
        await stream.leave()


@pytest.mark.parametrize(
    ("query", "headers", "expected"),
    [
        ("?after=x", {}, (422, "invalid-request")),
        ("?after=" + "A" * 200, {}, (422, "invalid-request")),
        ("", {"last-event-id": "7"}, (422, "invalid-request")),
        ("?event=done", {}, (422, "invalid-request")),
        ("?task_id=1", {}, (422, "invalid-request")),
        ("?status=completed", {}, (422, "unknown-field")),
        ("", {"accept": "application/json"}, (406, "not-acceptable")),
    ],
)
async def test_refusals(rig: Rig, query: str, headers: dict[str, str], expected: tuple[int, str]) -> None:
    assert problem(await rig.client.get("/events" + query, headers=headers)) == expected
