"""The service of one test: it stands still until the test lets it run, or moves its clock."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import copy_context
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import structlog

from tasker.config.settings import Settings
from tasker.executor.call import ON_RAISE
from tasker.logs.redaction import RedactingStream
from tasker.model import Claim, Status, Task, TaskFilter
from tasker.tasktypes.carrying import SKIPS_PAUSES
from tasker.tasktypes.children import Target, type_name_of
from tasker.testing.asgi import ASGIApp
from tasker.testing.clock import START, ManualClock
from tasker.testing.failures import FailingExecutor, Failures, HowToFail
from tasker.testing.gpt import FakeGpt
from tasker.testing.patience import Patient, StillOpen
from tasker.testing.targets import What, make_registry
from tasker.wiring.by_hand import ByHand, open_by_hand

RUNS_AT_ONCE = 1_000
"""Attempts of one `drain` at most: more look like a task that never ends."""
RUNS_IN_TIME = 100_000
"""Attempts of one `advance` at most."""
_SHORTEST = timedelta(milliseconds=1)
_MEMORY = next((folder for folder in ("/dev/shm",) if os.path.isdir(folder)), None)  # noqa: S108
"""Where files are in memory, if the system has such a place: each kit makes a folder of its own there."""
_PAGE = 100
_OF_THE_STORE = {"data_dir", "database_url", "listen_url"}


class Ran(NamedTuple):
    """An attempt that has run. status: of its task, right after it."""

    type: str
    task_id: UUID
    attempt: int
    status: Status


class TooManyRuns(AssertionError):
    """More attempts ran than a test means: some task probably comes back for ever."""


class Stage:
    """A service by hand, with its clock. asgi: answers without waiting for time to pass."""

    def __init__(self, hand: ByHand, clock: ManualClock, gpt: FakeGpt, failures: Failures) -> None:
        self._hand = hand
        self._failures = failures
        self._next_tick: datetime | None = None
        self.clock = clock
        self.gpt = gpt
        self.asgi: ASGIApp = Patient(hand.asgi, self.drain, self._check_task, self._check_group)

    async def drain(self, limit: int = RUNS_AT_ONCE) -> list[Ran]:
        """Run all that is due now, what comes of it included, one attempt after the other; return them in order.

        Raises TooManyRuns.
        """
        ran = await self._run_due(limit)
        await self._hand.count()
        return ran

    async def _run_due(self, limit: int = RUNS_AT_ONCE) -> list[Ran]:
        ran: list[Ran] = []
        self._next_tick = await self._hand.fire()
        while True:
            while (claim := await self._run_next()) is not None:
                ran.append(await self._seen(claim))
                if len(ran) > limit:
                    raise TooManyRuns(_too_many(ran, limit))
            if not await self._hand.do_chores() and not self._hand.has_new_schedules:
                return ran
            self._next_tick = await self._hand.fire()

    async def advance(self, by: timedelta, *, run: bool = True, limit: int = RUNS_IN_TIME) -> list[Ran]:
        """Let time pass: what becomes due meanwhile runs at its time, in order; return what ran.

        run: False lets schedules fire, and nothing run, as while no worker is there. Raises TooManyRuns.
        """
        if by < timedelta(0):
            raise ValueError(f"time does not run backwards, got {by}")
        end, ran = self.clock.now() + by, []
        ran += await self._stop(run)
        while (moment := await self._next_moment(run)) is not None and moment <= end:
            self.clock.advance(max(moment - self.clock.now(), _SHORTEST))
            ran += await self._stop(run)
            if len(ran) > limit:
                raise TooManyRuns(_too_many(ran, limit))
        self.clock.advance(max(end - self.clock.now(), timedelta(0)))
        ran += await self._stop(run)
        await self._hand.keep_up()
        return ran

    async def _stop(self, run: bool) -> list[Ran]:
        if run:
            return await self._run_due()
        self._next_tick = await self._hand.fire()
        await self._hand.do_chores()
        return []

    async def _next_moment(self, run: bool) -> datetime | None:
        """Return when something is due next. Tasks that are due and may not run do not count."""
        moments = [self._next_tick, await self._hand.next_moment() if run else None]
        return min((moment for moment in moments if moment is not None), default=None)

    async def _run_next(self) -> Claim | None:
        with _prints_of_tasks():
            variables = copy_context()
            variables.run(ON_RAISE.set, self._failures.note)
            variables.run(SKIPS_PAUSES.set, True)
            return await asyncio.get_running_loop().create_task(self._hand.run_next(), context=variables)

    async def _seen(self, claim: Claim) -> Ran:
        task = await self._hand.engine.find(claim.task_id)
        return Ran(claim.type, claim.task_id, claim.attempt, Status.COMPLETED if task is None else task.status)

    def fail_next(self, what: Target, how: HowToFail, times: int) -> None:
        """Have the next attempts of a type fail. Raises Invalid for an unknown type."""
        self._failures.add(self._hand.registry.get(type_name_of(what)).name, how, times)

    def cause_of(self, task_id: UUID) -> BaseException | None:
        """Return what the function of a task has raised last."""
        return self._failures.find(task_id)

    async def submitted(self, what: Target | None = None) -> list[Task]:
        """Return all tasks of a type, or of all types, the oldest first, whoever has submitted them."""
        types = () if what is None else (self._hand.registry.get(type_name_of(what)).name,)
        found: list[Task] = []
        cursor = None
        while True:
            page = await self._hand.engine.find_many(TaskFilter(types=types), limit=_PAGE, cursor=cursor)
            found += [whole for task in page.items if (whole := await self._hand.engine.find(task.task_id))]
            if (cursor := page.next_cursor) is None:
                return found[::-1]

    async def assert_submitted(
        self, what: Target, args: Sequence[Any], kwargs: Mapping[str, Any], times: int | None
    ) -> list[Task]:
        """Return the tasks of a type with these params. Raises AssertionError if there are none, or not `times`."""
        fitting = [task for task in await self.submitted(what) if self._fits(task, args, kwargs)]
        if len(fitting) == times or (times is None and fitting):
            return fitting
        wanted = _call(type_name_of(what), args, kwargs)
        expected = "a submission of" if times is None else f"{times} submission{'s' * (times != 1)} of"
        all_of_them = [self._line(task) for task in await self.submitted()]
        listed = "".join(f"\n  {line}" for line in all_of_them) or " nothing"
        raise AssertionError(f"expected {expected} {wanted}, got {len(fitting)}; submitted:{listed}")

    def _fits(self, task: Task, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        by_position, by_name = self._params(task)
        given = [_as_json(value) for value in args]
        names = {name: _as_json(value) for name, value in kwargs.items()}
        positional = self._positional(task.type)
        by_name = by_name | dict(zip(positional, by_position, strict=False))
        names |= dict(zip(positional, given, strict=False))
        missing = object()
        return by_position[len(positional) :][: len(given)] == given[len(positional) :] and all(
            by_name.get(name, missing) == value for name, value in names.items()
        )

    def _positional(self, type_name: str) -> tuple[str, ...]:
        kind = self._hand.registry.find(type_name)
        return () if kind is None else kind.positional

    def _params(self, task: Task) -> tuple[list[Any], dict[str, Any]]:
        params = msgspec.json.decode(task.params)
        return (params, {}) if isinstance(params, list) else ([], params)

    def _line(self, task: Task) -> str:
        return f"{_call(task.type, *self._params(task))}: {task.status}"

    async def _check_task(self, task_id: str) -> None:
        task = await self._hand.engine.find(UUID(task_id))
        if task is not None and not task.status.is_terminal:
            raise StillOpen(_why_open(task, self.clock.now()))

    async def _check_group(self, name: str) -> None:
        for status in (Status.PENDING, Status.RUNNING):
            page = await self._hand.engine.find_many(TaskFilter(group=name, status=(status,)), limit=1)
            for task in page.items:
                raise StillOpen(f"the group {name} is open: {_why_open(task, self.clock.now())}")


@asynccontextmanager
async def open_stage(whats: Sequence[What], start: datetime = START, **settings: Any) -> AsyncIterator[Stage]:
    """Open the service of a test with these tasks. settings: fields of Settings, except those of the store."""
    if given := _OF_THE_STORE & settings.keys():
        raise TypeError(f"a kit has a store of its own: leave out {', '.join(sorted(given))}")
    with TemporaryDirectory(prefix="tasker-", dir=_MEMORY) as folder:
        clock, failures = ManualClock(start), Failures()
        chosen = Settings(**{"data_dir": Path(folder, "data"), "in_process": True, **settings})
        chosen.data_dir.mkdir(mode=0o700)
        gpt = FakeGpt(clock)
        registry = make_registry(whats, chosen, gpt.function)
        executor: Callable[..., FailingExecutor] = partial(FailingExecutor, failures)
        with _quiet_log():
            async with open_by_hand(chosen, registry, clock, executor) as hand:
                yield Stage(hand, clock, gpt, failures)


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Log warnings alone, such as attempts that fail, unless the test's program has set up the log."""
    if structlog.is_configured():
        yield
        return
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        yield
    finally:
        structlog.reset_defaults()


@contextmanager
def _prints_of_tasks() -> Iterator[None]:
    """Have what tasks print go to their logs as well."""
    before = sys.stdout, sys.stderr
    if isinstance(before[0], RedactingStream):  # an attempt that waits for others lets them run
        yield
        return
    own: Any = RedactingStream(before[0], "stdout"), RedactingStream(before[1], "stderr")
    sys.stdout, sys.stderr = own
    try:
        yield
    finally:
        sys.stdout, sys.stderr = (
            old if now is ours else now
            for old, ours, now in zip(before, own, (sys.stdout, sys.stderr), strict=True)
        )  # fmt: skip


def _as_json(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def _call(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    shown = [*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())]
    text = f"{name}({', '.join(shown)})"
    return text if len(text) <= 300 else text[:300] + "..."


def _too_many(ran: Sequence[Ran], limit: int) -> str:
    counts = Counter((one.type, str(one.status)) for one in ran)
    most = ", ".join(f"{name} ({status}) {count:,} times" for (name, status), count in counts.most_common(3))
    return (
        f"more than {limit:,} attempts ran: {most}. Does a task snooze, retry or submit without an end? "
        "If they are meant: limit=..."
    )


def _why_open(task: Task, now: datetime) -> str:
    detail = "" if task.reason is None else f" ({task.reason})"
    advice = "it depends on something that does not happen by itself"
    if task.input is not None or task.reason == "input_required":
        advice = "answer its question: handle.input(name, value)"
    elif (due := task.next_attempt_at or task.run_at) is not None and due > now:
        left = due - now
        advice = f"it is due in {left}: advance({_measure(left)}) of the kit moves the clock"
    return f"task {task.task_id} of type {task.type} is {task.status}{detail}, and nothing more is due; {advice}"


def _measure(time: timedelta) -> str:
    """Return a time as an argument of `advance`, in its largest unit without a fraction: days=14, minutes=90."""
    for unit in ("days", "hours", "minutes"):
        count, rest = divmod(time, timedelta(**{unit: 1}))
        if count and not rest:
            return f"{unit}={count}"
    return f"seconds={time.total_seconds()!r}".removesuffix(".0")
