"""When reports are stored, by table; and that each is stored once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from tasker.errors import Unavailable
from tasker.executor.loop_prints import MAX_LINE, MAX_LINES
from tasker.model import Lease, NewEvent, Progress, Report
from tasker.model.steps import NewStep
from tasker.testing import START, ManualClock
from tasker.worker.reports import FLUSH_AFTER, MANY, MAX_HELD, MAX_PRINTED, MAX_USAGE, Pace, ReportBuffer


def test_all_attempts_store_at_the_same_moments() -> None:
    pace = Pace()
    assert len({pace.next(now) for now in (10.001, 10.02, 10.049)}) == 1
    assert pace.next(10.02) == pytest.approx(10.05)
    assert pace.next(10.051) == pytest.approx(10.10)


@pytest.mark.parametrize(("talking", "times"), [(1, 1), (MANY - 1, 1), (MANY, 2), (2 * MANY, 3), (50 * MANY, 3)])
def test_reports_wait_longer_while_many_attempts_report(talking: int, times: int) -> None:
    pace, now = Pace(), 100.001
    for _ in range(4):
        moments = {pace.next(now) for _ in range(talking)}
        assert len(moments) == 1
        start, now = now, max(moments) + 0.001
        assert 0 < now - start <= 3 * FLUSH_AFTER + 0.001
    assert now - start == pytest.approx(times * FLUSH_AFTER, abs=0.002)
    pace.next(now)
    assert pace.next(now + 1) - (now + 1) <= FLUSH_AFTER, "when most have fallen silent, the rest are told at once"


def _flush(report: ReportBuffer) -> None:
    """Store now what waits for the timer, as the timer does when it is due."""
    assert report._timer is not None
    report._timer.cancel()
    report._flush()


class _Store:
    """Refuses the first report."""

    def __init__(self) -> None:
        self.kept: list[Report] = []
        self.refused = 0

    async def record(self, _: Lease, report: Report) -> bool:
        if not self.refused:
            self.refused += 1
            raise Unavailable("the disk is full")
        self.kept.append(report)
        return True


@pytest.mark.parametrize("says_more", [False, True])
async def test_what_could_not_be_stored_is_stored_once(says_more: bool) -> None:
    store: Any = _Store()
    report = ReportBuffer(store, Lease(uuid4(), 1), ManualClock())
    report.output("a")
    report.progress(Progress(fraction=0.5))
    _flush(report)
    if says_more:
        report.progress(Progress(fraction=0.75))
    left = await report.finish()
    assert store.refused == 1
    assert left is not None
    progress = [b'{"fraction":0.5,', b'{"fraction":0.75']
    assert [event.data[:16] for event in left.events if event.type == "progress"] == progress[: 1 + says_more]
    assert [event.data for event in left.events if event.type == "output"] == [b'{"chunk":"a"}']


class _Slow:
    """Stores a report only when released."""

    def __init__(self) -> None:
        self.kept: list[Report] = []
        self.go = asyncio.Event()

    async def record(self, _: Lease, report: Report) -> bool:
        await self.go.wait()
        self.kept.append(report)
        return True


def _messages(*reports: Report | None) -> list[str]:
    events = [event for report in reports if report is not None for event in report.events]
    return [msgspec.json.decode(event.data)["message"] for event in events if event.type == "log"]


def _output(*reports: Report | None) -> str:
    events = [event for report in reports if report is not None for event in report.events]
    return "".join(msgspec.json.decode(event.data)["chunk"] for event in events if event.type == "output")


Say = Callable[[ReportBuffer], object]
WAYS: dict[str, Say] = {
    "output": lambda report: report.output("x" * 100),
    "output in many bytes": lambda report: report.output("ä" * 50),
    "log": lambda report: report.log("info", "x" * 100, {}),
    "fields": lambda report: report.log("info", "", {"x": "x" * 100}),
    "print": lambda report: report.printed("p" * 100),
}


@pytest.mark.parametrize("way", WAYS)
async def test_an_attempt_that_says_too_much_is_cut_off(way: str) -> None:
    store: Any = _Slow()
    report = ReportBuffer(store, Lease(uuid4(), 1), ManualClock(), max_output=1000)
    for _ in range(200):
        WAYS[way](report)
    assert report.is_cut_off
    left = await report.finish()
    assert len(_output(left).encode()) <= 1000
    told = [message for message in _messages(left) if "cut off" in message]
    assert told == ["output cut off at 1,000 bytes: TASKER_MAX_OUTPUT; the task goes on"]
    assert sum(len(event.data) for event in left.events) < 2500 if left is not None else False


async def test_printed_lines_are_logged_up_to_a_limit() -> None:
    store: Any = _Slow()
    report = ReportBuffer(store, Lease(uuid4(), 1), ManualClock())
    assert report.printed("one", "stdout")
    assert report.printed("two", "stderr")
    assert report.printed("for the service alone")
    for number in range(MAX_LINES + 5):
        assert report.printed(str(number), "stdout"), "the service's log takes all"
    report.log("info", "the task's own", {})
    left = await report.finish()
    assert left is not None
    records = [msgspec.json.decode(event.data) for event in left.events]
    assert records[:2] == [
        {"level": "info", "message": "one", "fields": {"stream": "stdout"}},
        {"level": "warning", "message": "two", "fields": {"stream": "stderr"}},
    ]
    assert len(records) == MAX_LINES + 2
    assert [one["message"] for one in records[-3:]] == [
        str(MAX_LINES - 3), "printed lines beyond 1,000 or 256 KiB are only in the service's log", "the task's own",
    ]  # fmt: skip


async def test_long_printed_lines_are_cut_and_count() -> None:
    store: Any = _Slow()
    report = ReportBuffer(store, Lease(uuid4(), 1), ManualClock())
    for _ in range(2 * MAX_PRINTED // MAX_LINE):
        assert report.printed("x" * 2 * MAX_LINE, "stdout")
    left = await report.finish()
    messages = _messages(left)
    assert {len(one) for one in messages[:-1]} == {MAX_LINE + 3}
    assert sum(map(len, messages[:-1])) <= MAX_PRINTED
    assert "are only in the service's log" in messages[-1]


async def test_progress_that_is_stored_counts() -> None:
    store: Any = _Slow()
    store.go.set()
    report = ReportBuffer(store, Lease(uuid4(), 1), ManualClock(), max_output=1000)
    for number in range(50):
        report.progress(Progress(fraction=number / 50, message="x" * 100))
        _flush(report)
        assert report._storing is not None
        await report._storing
    report.progress(Progress(fraction=1.0))
    left = await report.finish()
    told = [event for kept in store.kept for event in kept.events if event.type == "progress"]
    assert sum(len(event.data) for event in told) < 1500
    assert left is not None
    assert left.progress == Progress(fraction=1.0), "how far it is, is still told"
    assert len([message for message in _messages(*store.kept, left) if "cut off" in message]) == 1


async def test_a_function_that_reports_faster_than_is_stored_has_to_wait() -> None:
    store: Any = _Slow()
    report = ReportBuffer(store, Lease(uuid4(), 1), ManualClock())
    told: list[int] = []
    while not report.is_full:
        report.output("x" * 1000)
        assert len(told) == 0
    report.when_not_full(lambda: told.append(1))
    _flush(report)
    storing = report._storing
    assert storing is not None
    await asyncio.sleep(0)
    assert not told
    store.go.set()
    await storing
    assert told == [1]
    assert not report.is_full
    report.when_not_full(lambda: told.append(2))
    assert told == [1, 2], "there is room now"


async def test_an_attempt_that_is_no_longer_the_current_one_holds_nothing() -> None:
    class Gone:
        async def record(self, _: Lease, report: Report) -> bool:
            return False

    gone: Any = Gone()
    report = ReportBuffer(gone, Lease(uuid4(), 1), ManualClock())
    report.output("x")
    _flush(report)
    assert report._storing is not None
    await report._storing
    for _ in range(1000):
        report.output("x" * 1000)
        report.log("info", "x" * 1000, {})
    assert not report.is_full
    assert await report.finish() is None


async def test_usage_is_bounded_and_what_counts_of_it_is_kept() -> None:
    store: Any = _Slow()
    report = ReportBuffer(
        store, Lease(uuid4(), 1), ManualClock(), b'{"input_tokens": 5, "old": "%b"}' % (b"x" * 60_000)
    )
    for number in range(100):
        report.usage({f"key{number}": "x" * 2000, "input_tokens": 2})
    left = await report.finish()
    assert left is not None
    assert left.usage is not None
    assert len(left.usage) <= MAX_USAGE
    assert msgspec.json.decode(left.usage)["input_tokens"] == 7


class _Faulty:
    """A store with a fault of its own, and a scrubber with one."""

    async def record(self, _: Lease, __: Report) -> bool:
        raise RuntimeError("a bug")

    def scrub(self, _: Report) -> Report:
        raise RecursionError


@pytest.mark.parametrize("scrubs", [False, True])
async def test_who_waits_for_room_goes_on_whatever_the_store_raises(scrubs: bool) -> None:
    store: Any = _Faulty()
    report = ReportBuffer(store, Lease(uuid4(), 1), ManualClock())
    report.scrub = store.scrub if scrubs else None
    report.output("a" * (MAX_HELD + 1))
    room: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    report.when_not_full(lambda: room.set_result(report._held))
    assert report.is_full
    assert not room.done()
    _flush(report)
    report.output("b")
    assert await asyncio.wait_for(room, 20) == 1 + 64, "what was said meanwhile still waits"
    assert not report.is_full


async def test_who_waits_for_room_waits_on_while_the_store_is_away() -> None:
    store: Any = _Store()
    report = ReportBuffer(store, Lease(uuid4(), 1), ManualClock())
    report.output("a" * (MAX_HELD + 1))
    room = asyncio.Event()
    report.when_not_full(room.set)
    _flush(report)
    while not store.refused:
        await asyncio.sleep(0)
    assert report.is_full
    await asyncio.wait_for(room.wait(), 20)
    assert not report.is_full
    assert "".join(msgspec.json.decode(event.data)["chunk"] for event in store.kept[0].events) == "a" * (MAX_HELD + 1)


class _Gated:
    """Keeps reports; each waits for a permit. is_current: what it answers. errors: raised first."""

    def __init__(self, *errors: Exception, is_current: bool = True) -> None:
        self.kept: list[Report] = []
        self.permits = asyncio.Semaphore(100)
        self.errors = list(errors)
        self.is_current = is_current

    async def record(self, _: Lease, report: Report) -> bool:
        await self.permits.acquire()
        if self.errors:
            raise self.errors.pop(0)
        self.kept.append(report)
        return self.is_current


def _step(key: str) -> NewStep:
    return NewStep(key=key, name=key, kind="step", started_at=START, value=b"1")


def _completed(key: str) -> NewEvent:
    return NewEvent(type="step_completed", time=START, data=msgspec.json.encode({"key": key}))


def _buffer(store: Any) -> ReportBuffer:
    return ReportBuffer(store, Lease(uuid4(), 1), ManualClock())


async def test_a_step_is_stored_at_once_after_what_was_reported_before() -> None:
    store = _Gated()
    report = _buffer(store)
    report.output("before")
    assert await report.store_step(_step("charge"), _completed("charge"))
    [kept] = store.kept
    assert [event.type for event in kept.events] == ["output", "step_completed"]
    assert [step.key for step in kept.steps] == ["charge"]


async def test_steps_of_the_same_moment_share_a_commit() -> None:
    store = _Gated()
    report = _buffer(store)
    assert await asyncio.gather(*(report.store_step(_step(f"s{n}")) for n in range(5))) == [True] * 5
    assert [[step.key for step in kept.steps] for kept in store.kept] == [[f"s{n}" for n in range(5)]]


async def test_a_step_that_comes_during_a_store_follows_it() -> None:
    store = _Gated()
    store.permits = asyncio.Semaphore(0)
    report = _buffer(store)
    first = asyncio.ensure_future(report.store_step(_step("first")))
    while report._storing is None:
        await asyncio.sleep(0)
    second = asyncio.ensure_future(report.store_step(_step("second")))
    await asyncio.sleep(0)
    assert not first.done()
    assert not second.done()
    store.permits.release()
    store.permits.release()
    assert await first
    assert await second
    assert [[step.key for step in kept.steps] for kept in store.kept] == [["first"], ["second"]]


async def test_a_step_waits_for_a_store_that_is_away_and_is_stored_once() -> None:
    store = _Gated(Unavailable("away"), Unavailable("away"))
    report = _buffer(store)
    assert await report.store_step(_step("charge"), _completed("charge"))
    assert [(len(kept.steps), len(kept.events)) for kept in store.kept] == [(1, 1)]


async def test_a_step_of_a_lost_attempt_is_not_stored() -> None:
    report = _buffer(_Gated(is_current=False))
    assert not await report.store_step(_step("charge"))
    assert report.lost
    assert not await report.store_step(_step("again"))


async def test_a_bug_in_the_store_is_raised_to_the_step() -> None:
    report = _buffer(_Gated(ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):
        await report.store_step(_step("charge"))


async def test_a_step_under_way_at_the_end_goes_with_the_last_report() -> None:
    store = _Gated(Unavailable("away"))
    report = _buffer(store)
    under_way = asyncio.ensure_future(report.store_step(_step("charge")))
    while not (store.errors == [] and report._storing is None and report._timer is not None):
        await asyncio.sleep(0)
    left = await report.finish()
    assert left is not None
    assert [step.key for step in left.steps] == ["charge"]
    assert not await under_way
    assert not await report.store_step(_step("late"))
