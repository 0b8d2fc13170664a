"""Answers what the function of an attempt asks about its steps: stores them, starts children, waits in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar, assert_never

import msgspec
import structlog
from msgspec import structs

from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.errors import Conflict, Invalid, LimitReached, RequestError, Unavailable
from tasker.executor.attempt import Stop
from tasker.model import Lease, NewEvent
from tasker.model.steps import Family, NewStep, Question, Step
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
from tasker.validation.answers import question_faults
from tasker.worker.outages import Backoff
from tasker.worker.reports import ReportBuffer
from tasker.worker.wakeups import Wakeups

_AT_ONCE = timedelta(0)
_ASK_AGAIN = 0.1
"""Seconds between the waits of a function that cannot park yet, while the worker drains."""

MAX_STEPS = 100_000
"""Limit of the steps of one task: each attempt reads all of them."""
MAX_BYTES = 128 << 20
"""Limit of the bytes that a task's steps take in all, at which it takes no more: each attempt reads all of them."""

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode
_decode_question = msgspec.json.Decoder(Question).decode
_log = structlog.get_logger(__name__)


ChildStarter = Callable[[Lease, Family, Origin, StartChildren], Awaitable[Step | None]]
"""Checks and stores the children of a request, with their step; None if the lease is not the current one.

origin: of the step. Raises Unavailable, and another RequestError if they cannot be started; `service.children` has one.
"""


async def start_none(lease: Lease, family: Family, origin: Origin, request: StartChildren) -> Step | None:
    """Be a ChildStarter that refuses."""
    raise Conflict("this worker starts no children")


class StepParts(NamedTuple):
    """What the step servers of a worker share."""

    engine: Engine
    clock: Clock
    wakeups: Wakeups
    children: ChildStarter


class StepServer:
    """The Stepper of one attempt. stored: its steps at the beginning; sleeps that are over have `finished_at`."""

    def __init__(
        self, parts: StepParts, lease: Lease, report: ReportBuffer, stop: Stop, stored: Sequence[Step]
    ) -> None:
        self._engine = parts.engine
        self._clock = parts.clock
        self._wakeups = parts.wakeups
        self._children = parts.children
        self._lease = lease
        self._report = report
        self._stop = stop
        self._has_ended_wait = False
        self._keys = {step.key for step in stored}
        self._bytes = sum(map(_size, stored))
        self._family: Family | None = None
        self._sleeps = {step.key: step for step in stored if step.kind == "sleep"}
        self._origins = {step.key: Origin(step.attempt, step.started_at) for step in stored if step.kind == "children"}
        now = self._clock.now()
        self.stored = tuple(self._end(step) if _is_over(step, now) else step for step in stored)

    async def answer(self, request: AnyRequest) -> AnyAnswer:
        """Answer a request; see Stepper."""
        try:
            return await self._answer(request)
        except _Lost:
            self._stop.abandon(Interrupted())
            return Superseded()
        except RequestError as error:
            return Refused(error.kind.name, error.detail)
        except Exception as error:  # a bug of ours, or hand-edited data: the function must not hang
            _log.exception(
                "worker.step_failed", task_id=str(self._lease.task_id), request=type(request).__name__.lower()
            )
            return Refused("internal", f"the service could not do it: {error!r}")

    async def _answer(self, request: AnyRequest) -> AnyAnswer:
        match request:
            case StoreStep():
                return await self._store_step(request)
            case Sleep():
                return await self._sleep(request)
            case Ask():
                return await self._ask(request)
            case CloseQuestion(key, default):
                if default is not None and self._report.has_secret(default):
                    raise Invalid(f"the default of the question {key!r} has a secret param in it")
                closed = self._engine.steps.close_question
                return await self._current(lambda: closed(self._lease, key, default))
            case StartChildren():
                return await self._start_children(request)
            case RunChildrenAgain(key):
                again = self._engine.steps.run_children_again
                return await self._current(lambda: again(self._lease, key))
            case CollectChildren(key, first):
                find = self._engine.steps.find_children
                return Children(tuple(await self._at_last(lambda: find(self._lease.task_id, key, first=first))))
            case Await():
                return await self._await(request)
            case _:
                assert_never(request)

    async def _store_step(self, request: StoreStep) -> Steps:
        now = self._clock.now()
        took = min(max(0.0, request.took), MAX_DELAY.total_seconds())
        step = NewStep(
            key=request.key,
            name=request.name,
            kind="step",
            started_at=now - timedelta(seconds=took),
            finished_at=now,
            value=request.value,
        )
        return await self._store(step, _about(step, "step_completed", now, took=took))

    async def _sleep(self, request: Sleep) -> Steps:
        if request.key in self._sleeps:
            return Steps((self._sleeps[request.key],))
        now = self._clock.now()
        until = _at(now, request.delay) if request.until is None else min(request.until, now + MAX_DELAY)
        step = NewStep(key=request.key, name=request.name, kind="sleep", started_at=now, until=until)
        answer = await self._store(step, _about(step, "step_started", now))
        self._sleeps[request.key] = answer.steps[0]
        return answer

    async def _ask(self, request: Ask) -> Steps:
        stored = await self._find([request.key])
        if stored:
            return Steps(tuple(stored))
        question = _decode_question(request.question)
        _check_schema(question)
        default = None if question.default is msgspec.UNSET else question.default
        if self._report.has_secret(_encode((question.name, question.schema, default))):
            raise Invalid(f"the question {question.name!r} has a secret param in it: only its message can be masked")
        now = self._clock.now()
        until = None if request.timeout is None else _at(now, request.timeout)
        step = NewStep(
            key=request.key,
            name=request.name,
            kind="input",
            started_at=now,
            until=until,
            question=request.question,
        )
        expires = {} if until is None else {"expires_at": until}
        event = _event("input_required", now, name=step.name, key=step.key, message=question.message, **expires)
        return await self._store(step, event)

    async def _store(self, step: NewStep, event: NewEvent | None = None) -> Steps:
        """Store a step after all that was reported before. Raises _Lost, LimitReached."""
        self._check_room(step.key)
        self._bytes += _size(step)
        if not await self._report.store_step(step, event):
            raise _Lost
        return Steps((Step(number=0, attempt=self._lease.attempt, **structs.asdict(step)),))

    def _check_room(self, key: str) -> None:
        """Raise LimitReached if a task has as many steps, or bytes in them, as it may have. key: of a step to store."""
        if key in self._keys:
            return
        if len(self._keys) >= MAX_STEPS:
            raise LimitReached(f"a task may have {MAX_STEPS:,} steps: use a schedule for what never ends")
        if self._bytes >= MAX_BYTES:
            raise LimitReached(
                f"the steps of a task may take {MAX_BYTES:,} bytes in all: let large ones return references"
            )
        self._keys.add(key)

    async def _start_children(self, request: StartChildren) -> Steps:
        self._check_room(request.key)
        family = self._family = self._family or await self._find_family()
        origin = self._origins.setdefault(request.key, Origin(self._lease.attempt, self._clock.now()))
        return await self._current(lambda: self._children(self._lease, family, origin, request))

    async def _find_family(self) -> Family:
        family = await self._at_last(lambda: self._engine.steps.find_family(self._lease.task_id))
        if family is None:
            raise _Lost
        return family

    async def _await(self, request: Await) -> Steps:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.patience
        with self._wakeups.of(self._lease.task_id) as woken:
            while True:
                woken.clear()
                there = await self._there(request)
                left = deadline - loop.time()
                if there or left <= 0:
                    return Steps(there)
                if self._is_ending:
                    await self._end_wait(left)
                    return Steps(())
                await _wait(woken, self._until(request, left))

    async def _end_wait(self, left: float) -> None:
        """Pause before an answer to a function that goes on waiting though nothing is waited for: a step of it runs."""
        if self._has_ended_wait:
            await asyncio.sleep(min(left, _ASK_AGAIN))
        self._has_ended_wait = True

    @property
    def _is_ending(self) -> bool:
        return self._wakeups.is_draining or self._stop.is_requested

    def _until(self, request: Await, left: float) -> float:
        """Return how many seconds to wait at most: the time of the clock decides about sleeps."""
        if request.wait.until is None:
            return left
        return max(0.0, min(left, (request.wait.until - self._clock.now()).total_seconds()))

    async def _there(self, request: Await) -> tuple[Step, ...]:
        """Return the steps of a wait that are there."""
        now = self._clock.now()
        keys = dict.fromkeys((*request.keys, *request.wait.inputs, *request.wait.children))
        sleeps = [self._sleeps[key] for key in keys if key in self._sleeps]
        others = await self._find([key for key in keys if key not in self._sleeps])
        over = [self._end(step) for step in sleeps if _is_over(step, now)]
        return (*over, *(step for step in others if not step.is_open or _has_timed_out(step, now)))

    def _end(self, sleep: Step) -> Step:
        """Return a sleep that is over with its end, which is stored with the next report."""
        if sleep.finished_at is None and sleep.until is not None:
            took = (sleep.until - sleep.started_at).total_seconds()
            sleep = self._sleeps[sleep.key] = structs.replace(sleep, finished_at=sleep.until)
            ended = NewStep(**{name: getattr(sleep, name) for name in NewStep.__struct_fields__})
            self._report.end_sleep(ended, _about(ended, "step_completed", self._clock.now(), took=took))
        return sleep

    async def _find(self, keys: Sequence[str]) -> Sequence[Step]:
        if not keys:
            return ()
        return await self._at_last(lambda: self._engine.steps.find_some(self._lease.task_id, keys))

    async def _current(self, act: Callable[[], Awaitable[Step | None]]) -> Steps:
        """Return the step that a fenced call of the store returns. Raises _Lost if it returns none."""
        step = await self._at_last(act)
        if step is None:
            raise _Lost
        return Steps((step,))

    async def _at_last(self, act: Callable[[], Awaitable[T]]) -> T:
        """Do something with the store, as soon as it is available."""
        backoff: Backoff | None = None
        while True:
            try:
                return await act()
            except Unavailable as error:
                _log.warning("step.waits_for_store", task_id=str(self._lease.task_id), reason=error.detail)
                backoff = backoff or Backoff()
                await backoff.wait()


class _Lost(Exception):
    """The attempt is no longer the current one of its task."""


async def _wait(woken: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        pass


def _about(step: NewStep, type_: Any, time: datetime, **data: Any) -> NewEvent:
    return _event(type_, time, name=step.name, key=step.key, kind=step.kind, **data)


def _event(type_: Any, time: datetime, **data: Any) -> NewEvent:
    return NewEvent(type=type_, time=time, data=_encode(data))


def _check_schema(question: Question) -> None:
    """Raise Invalid if no answer could be checked by the question's schema."""
    faults = question_faults(msgspec.json.decode(question.schema))
    if faults:
        listed = "; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults[:10])
        raise Invalid(f"the schema of the question {question.name!r} cannot be used: {listed}", faults=faults)


def _at(now: datetime, delay: timedelta | None) -> datetime:
    return now + min(max(_AT_ONCE, delay or _AT_ONCE), MAX_DELAY)


def _size(step: Step | NewStep) -> int:
    return sum(len(text) for text in (step.value, step.secret_value, step.question) if text is not None)


def _is_over(step: Step, now: datetime) -> bool:
    """Return whether it is a sleep that has ended."""
    return step.kind == "sleep" and step.until is not None and step.until <= now


def _has_timed_out(step: Step, now: datetime) -> bool:
    """Return whether the time of a question is over."""
    return step.kind == "input" and step.until is not None and step.until <= now


def resumed(time: datetime, steps: Iterable[Step]) -> NewEvent:
    """Return the event of an attempt that goes on where earlier ones were."""
    return _event("resumed", time, steps=sum(1 for _ in steps))
