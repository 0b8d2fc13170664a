"""What a running function asks about its steps, answered over an engine that keeps them in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from msgspec import structs

from tasker.errors import Invalid, LimitReached, Unavailable
from tasker.executor.attempt import Stop
from tasker.model import Change, Lease, NewEvent, Report, Status, new_task_id
from tasker.model.steps import Child, Family, NewStep, Question, Step, Wait
from tasker.rules.children import Origin
from tasker.rules.lifecycle import MAX_DELAY, Interrupted
from tasker.tasktypes.steps import (
    AnyAnswer,
    AnyRequest,
    Ask,
    Await,
    Children,
    CloseQuestion,
    CollectChildren,
    Refused,
    RunChildrenAgain,
    Sleep,
    StartChildren,
    Steps,
    StoreStep,
    Superseded,
)
from tasker.testing import START, ManualClock
from tasker.worker import outages
from tasker.worker.reports import ReportBuffer
from tasker.worker.steps import StepParts, StepServer
from tasker.worker.wakeups import Wakeups

TASK = new_task_id(START)
LEASE = Lease(TASK, 3)
FAMILY = Family(root_id=TASK, level=0, owner="me")
QUESTION = msgspec.json.encode(Question(name="approve", message="Ship?", schema=msgspec.Raw(b'{"type":"boolean"}')))
SOON = 30.0
"""Seconds of patience that no test waits for."""


class FakeEngine:
    """Keeps steps; a lost lease and an unavailable store can be had."""

    def __init__(self) -> None:
        self.steps = self
        self.stored: dict[str, Step] = {}
        self.events: list[NewEvent] = []
        self.is_lost = False
        self.away = 0
        self.looks = 0
        self.looked = asyncio.Event()
        self.listeners: list[Callable[[Sequence[Change]], None]] = []

    def _answer(self) -> None:
        if self.away:
            self.away -= 1
            raise Unavailable("away")

    def watch(self, listener: Callable[[Sequence[Change]], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def notify(self, *changes: Change) -> None:
        for listener in list(self.listeners):
            listener(changes)

    async def record(self, lease: Lease, report: Report) -> bool:
        self._answer()
        if self.is_lost:
            return False
        self.events += report.events
        for step in report.steps:
            self.keep(step)
        return True

    def keep(self, step: NewStep, **fields: Any) -> Step:
        kept = Step(**structs.asdict(step) | {"number": len(self.stored) + 1, "attempt": 1} | fields)
        return self.stored.setdefault(step.key, kept)

    def change(self, key: str, **fields: Any) -> Step:
        self.stored[key] = structs.replace(self.stored[key], **fields)
        return self.stored[key]

    async def find_some(self, task_id: UUID, keys: Sequence[str]) -> list[Step]:
        self._answer()
        self.looks += 1
        self.looked.set()
        return [self.stored[key] for key in keys if key in self.stored]

    async def find_family(self, task_id: UUID) -> Family | None:
        self._answer()
        return None if self.is_lost else FAMILY

    async def close_question(self, lease: Lease, key: str, value: bytes | None) -> Step | None:
        self._answer()
        return None if self.is_lost else self.change(key, value=value, finished_at=START)

    async def run_children_again(self, lease: Lease, key: str) -> Step | None:
        return None if self.is_lost else self.change(key, failed=0)

    async def find_children(self, task_id: UUID, key: str, *, first: int = 0) -> list[Child]:
        return [Child(place=first, task_id=TASK, status=Status.COMPLETED, result=b"1")]


class Rig:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.engine = FakeEngine()
        self.stop = Stop()
        self.started: list[tuple[Lease, Family, Origin, StartChildren]] = []
        self.refusals: list[Exception] = []

    def serve(self, *stored: Step) -> StepServer:
        engine: Any = self.engine
        self.wakeups = Wakeups(engine)
        parts = StepParts(engine, self.clock, self.wakeups, self.start)
        return StepServer(parts, LEASE, ReportBuffer(engine, LEASE, self.clock), self.stop, stored)

    async def start(self, lease: Lease, family: Family, origin: Origin, request: StartChildren) -> Step | None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.started.append((lease, family, origin, request))
        step = NewStep(
            key=request.key, name=request.name, kind="children", started_at=origin.started_at, total=request.total
        )
        return None if self.engine.is_lost else self.engine.keep(step)

    async def until_looked(self) -> None:
        """Return when an Await has looked and waits."""
        async with asyncio.timeout(5):
            await self.engine.looked.wait()
            self.engine.looked.clear()
            await asyncio.sleep(0)

    @contextmanager
    def waiting(self, request: Await, *stored: Step) -> Iterator[asyncio.Task[AnyAnswer]]:
        task = asyncio.ensure_future(self.serve(*stored).answer(request))
        yield task
        task.cancel()


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "FIRST_PAUSE", 0.0)


def only(answer: AnyAnswer) -> Step:
    assert isinstance(answer, Steps), answer
    [step] = answer.steps
    return step


def started(key: str = "pages", total: int = 2) -> StartChildren:
    return StartChildren(key=key, name=key, type_name="render", params=(b"[1]", b"[2]"), first=0, total=total)


def stored_step(kind: Any, key: str = "k", **fields: Any) -> Step:
    given = {"number": 1, "attempt": 1, "started_at": START} | fields
    return Step(key=key, name=key, kind=kind, **given)


# steps


async def test_a_step_is_stored_with_its_event(rig: Rig) -> None:
    step = only(await rig.serve().answer(StoreStep("charge#2", "charge", b'"paid"', 1.5)))
    stored = rig.engine.stored["charge#2"]
    assert (step.value, stored.value, stored.kind, stored.name) == (b'"paid"', b'"paid"', "step", "charge")
    assert (stored.started_at, stored.finished_at) == (START - timedelta(seconds=1.5), START)
    [event] = rig.engine.events
    assert event.type == "step_completed"
    assert msgspec.json.decode(event.data) == {"name": "charge", "key": "charge#2", "kind": "step", "took": 1.5}


@pytest.mark.parametrize("took", [-1.0, 0.0, 1e300])
async def test_an_odd_duration_of_a_step_is_no_fault(rig: Rig, took: float) -> None:
    step = only(await rig.serve().answer(StoreStep("k", "k", b"1", took)))
    assert START - MAX_DELAY <= step.started_at <= START


@pytest.mark.parametrize(
    "request_",
    [
        StoreStep("k", "k", b"1", 0.0),
        Sleep("k", "k", delay=timedelta(1)),
        Ask("k", "approve", QUESTION),
        CloseQuestion("k"),
        started(),
        RunChildrenAgain("k"),
    ],
)
async def test_a_lost_attempt_is_told_so_and_abandoned(rig: Rig, request_: AnyRequest) -> None:
    rig.engine.is_lost = True
    assert await rig.serve().answer(request_) == Superseded()
    assert rig.stop.abandoned == Interrupted()
    assert not rig.engine.stored


@pytest.mark.parametrize(
    "request_",
    [
        StoreStep("k", "k", b"1", 0.0),
        Sleep("k", "k", delay=timedelta(1)),
        Ask("k", "approve", QUESTION),
        started("k"),
        Await(Wait(children=("c",)), (), 0.0),
    ],
)
async def test_an_unavailable_store_is_waited_for(rig: Rig, request_: AnyRequest) -> None:
    rig.engine.away = 2
    assert isinstance(await rig.serve().answer(request_), Steps)
    assert rig.engine.away == 0


async def test_a_bug_is_an_answer_too(rig: Rig) -> None:
    rig.refusals = [ValueError("a bug")]
    answer = await rig.serve().answer(started())
    assert isinstance(answer, Refused)
    assert answer.problem == "internal"


# sleeps


@pytest.mark.parametrize(
    ("request_", "until"),
    [
        (Sleep("k", "k", delay=timedelta(hours=2)), START + timedelta(hours=2)),
        (Sleep("k", "k", delay=timedelta(hours=-2)), START),
        (Sleep("k", "k", delay=timedelta.max), START + MAX_DELAY),
        (Sleep("k", "k", until=START + timedelta(days=1)), START + timedelta(days=1)),
        (Sleep("k", "k", until=datetime.max.replace(tzinfo=START.tzinfo)), START + MAX_DELAY),
        (Sleep("k", "k"), START),
    ],
)
async def test_the_end_of_a_sleep(rig: Rig, request_: Sleep, until: datetime) -> None:
    assert only(await rig.serve().answer(request_)).until == until
    assert rig.engine.stored["k"].until == until


async def test_a_sleep_that_is_stored_goes_on(rig: Rig) -> None:
    server = rig.serve(stored_step("sleep", until=START + timedelta(minutes=1)))
    assert only(await server.answer(Sleep("k", "k", delay=timedelta(hours=2)))).until == START + timedelta(minutes=1)
    assert not rig.engine.stored


async def test_sleeps_that_are_over_have_ended(rig: Rig) -> None:
    over, later = START, START + timedelta(seconds=1)
    stored = rig.serve(stored_step("sleep", "a", until=over), stored_step("sleep", "b", until=later)).stored
    assert [step.finished_at for step in stored] == [over, None]


async def test_the_end_of_a_sleep_is_stored_once(rig: Rig) -> None:
    server = rig.serve(stored_step("sleep", "a", until=START))
    for _ in range(3):
        await server.answer(Await(Wait(until=START), ("a",), 0.0))
    left = await server._report.finish()
    assert left is not None
    assert [(step.key, step.finished_at) for step in left.steps] == [("a", START)]
    assert [event.type for event in left.events] == ["step_completed"]


async def test_a_sleep_is_there_when_its_time_is_over_by_the_clock(rig: Rig) -> None:
    server = rig.serve()
    until = only(await server.answer(Sleep("k", "k", delay=timedelta(seconds=0.9)))).until
    request = Await(Wait(until=until), ("k",), 0.0)
    assert await server.answer(request) == Steps(())
    rig.clock.advance(timedelta(seconds=0.9))
    assert only(await server.answer(request)).finished_at == until
    assert rig.engine.looks == 0, "a sleep needs no look at the store"


# questions


async def test_a_question_is_stored_and_announced(rig: Rig) -> None:
    step = only(await rig.serve().answer(Ask("approve", "approve", QUESTION, timedelta(days=3))))
    assert (step.kind, step.until, step.question) == ("input", START + timedelta(days=3), QUESTION)
    [event] = rig.engine.events
    assert event.type == "input_required"
    said = msgspec.json.decode(event.data)
    assert (said["name"], said["key"], said["message"]) == ("approve", "approve", "Ship?")
    assert said["expires_at"].startswith("2026-01-05")


async def test_a_question_is_asked_once(rig: Rig) -> None:
    rig.engine.stored["k"] = answered = stored_step("input", value=b"true", finished_at=START)
    assert only(await rig.serve().answer(Ask("k", "k", QUESTION))) == answered
    assert not rig.engine.events


async def test_a_question_that_no_answer_could_fit_is_refused(rig: Rig) -> None:
    question = msgspec.json.encode(Question(name="q", message="?", schema=msgspec.Raw(b'{"type":"odd"}')))
    answer = await rig.serve().answer(Ask("k", "q", question))
    assert isinstance(answer, Refused)
    assert "'q'" in answer.detail
    assert not rig.engine.stored


async def test_a_question_whose_time_is_over_is_there(rig: Rig) -> None:
    rig.engine.stored["k"] = stored_step("input", until=START)
    server = rig.serve(rig.engine.stored["k"])
    assert only(await server.answer(Await(Wait(until=START, inputs=("k",)), ("k",), SOON))).value is None
    assert only(await server.answer(CloseQuestion("k", b'"default"'))).value == b'"default"'


# children


async def test_the_first_chunk_decides_whose_children_they_are(rig: Rig) -> None:
    server = rig.serve()
    await server.answer(started(total=4))
    rig.clock.advance(timedelta(seconds=1))
    await server.answer(structs.replace(started(total=4), first=2))
    assert [(lease, origin) for lease, _, origin, _ in rig.started] == [(LEASE, Origin(3, START))] * 2


async def test_children_of_an_earlier_attempt_keep_their_origin(rig: Rig) -> None:
    await rig.serve(stored_step("children", "pages", attempt=2)).answer(started())
    assert [origin for _, _, origin, _ in rig.started] == [Origin(2, START)]


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (Invalid("the params do not fit", name="invalid-params"), "invalid-params"),
        (LimitReached("no"), "limit-reached"),
    ],
)
async def test_children_that_cannot_start_are_refused(rig: Rig, error: Exception, problem: str) -> None:
    rig.refusals = [error]
    assert await rig.serve().answer(started()) == Refused(problem, str(error))


async def test_children_are_collected_from_a_place_on(rig: Rig) -> None:
    answer = await rig.serve().answer(CollectChildren("pages", 7))
    assert isinstance(answer, Children)
    assert [child.place for child in answer.children] == [7]


# waiting in memory


def for_children(*keys: str, patience: float = SOON) -> Await:
    return Await(Wait(children=keys), keys, patience)


async def test_what_is_there_is_not_waited_for(rig: Rig) -> None:
    rig.engine.stored["k"] = there = stored_step("children", total=2, completed=2)
    assert only(await rig.serve().answer(for_children("k", "open"))) == there
    assert not rig.engine.listeners, "nobody listens when nobody waits"


async def test_a_change_ends_the_wait(rig: Rig) -> None:
    rig.engine.stored["k"] = stored_step("children", total=1)
    with rig.waiting(for_children("k")) as waiting:
        await rig.until_looked()
        rig.engine.notify(Change(new_task_id(START), Status.COMPLETED))
        rig.engine.change("k", completed=1)
        await asyncio.sleep(0)
        assert rig.engine.looks == 1, "other tasks do not matter"
        rig.engine.notify(Change(TASK, Status.RUNNING, spoke=True))
        assert only(await waiting).completed == 1


async def test_a_change_that_brings_nothing_goes_on_waiting(rig: Rig) -> None:
    rig.engine.stored["k"] = stored_step("children", total=1)
    with rig.waiting(for_children("k")) as waiting:
        for _ in range(3):
            await rig.until_looked()
            rig.engine.notify(Change(TASK, Status.RUNNING, spoke=True))
        await rig.until_looked()
        assert not waiting.done()


async def test_lost_changes_are_looked_for(rig: Rig) -> None:
    rig.engine.stored["k"] = stored_step("children", total=1)
    with rig.waiting(for_children("k")) as waiting:
        await rig.until_looked()
        rig.engine.change("k", failed=1)
        rig.engine.notify()
        assert only(await waiting).failed == 1


async def test_patience_ends_with_a_last_look(rig: Rig) -> None:
    rig.engine.stored["k"] = stored_step("children", total=1)
    assert await rig.serve().answer(for_children("k", patience=0.01)) == Steps(())
    assert rig.engine.looks == 2


async def test_a_worker_that_drains_waits_for_nothing(rig: Rig) -> None:
    rig.engine.stored["k"] = stored_step("children", total=1)
    async with asyncio.timeout(5):
        with rig.waiting(for_children("k")) as waiting:
            await rig.until_looked()
            rig.wakeups.drain()
            assert await waiting == Steps(())
        server = rig.serve()
        rig.wakeups.drain()
        assert await server.answer(for_children("k")) == Steps(())


async def test_a_function_that_cannot_park_yet_does_not_spin(rig: Rig) -> None:
    server = rig.serve()
    rig.wakeups.drain()
    begun = asyncio.get_running_loop().time()
    async with asyncio.timeout(5):
        for _ in range(3):
            assert await server.answer(for_children("k")) == Steps(())
    assert asyncio.get_running_loop().time() - begun >= 0.15


async def test_a_cancelled_task_waits_for_nothing(rig: Rig) -> None:
    rig.engine.stored["k"] = stored_step("children", total=1)
    with rig.waiting(for_children("k")) as waiting:
        await rig.until_looked()
        asyncio.get_running_loop().call_later(5, waiting.cancel)
        rig.stop.cancel()
        rig.engine.notify(Change(TASK, Status.RUNNING, cancel_requested=True))
        assert await waiting == Steps(())
