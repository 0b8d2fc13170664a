"""Gather the reports of running attempts: many reports a second become a few writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import structlog

from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.errors import Unavailable
from tasker.executor.loop_prints import MAX_LINE, MAX_LINES
from tasker.model import Lease, NewEvent, Progress, Report
from tasker.model.steps import NewStep
from tasker.model.usage import SUMMED, added, read_usage
from tasker.tasktypes.steps import StepEvent

FLUSH_AFTER = 0.05
"""Seconds between stores of an attempt's reports, unless many attempts report; see Pace."""
MANY = 64
"""Number of attempts reporting at the same time for each of which reports wait FLUSH_AFTER longer."""
MAX_CHUNK = 16 * 1024
"""Limit of characters in one output event, as readers keep several events in memory."""
MAX_HELD = 512 * 1024
"""Limit of an attempt's report bytes that wait to be stored; at more, its function has to wait."""
MAX_USAGE = 64 * 1024
"""Bytes that the usage of a task may take as JSON."""
MAX_PRINTED = 256 * 1024
"""How many characters of what an attempt prints are kept in its task's log, of MAX_LINES lines at most."""
_NO_MORE_PRINTS = f"printed lines beyond {MAX_LINES:,} or {MAX_PRINTED // 1024} KiB are only in the service's log"
_LEVELS = {"stdout": "info", "stderr": "warning"}
_OVERHEAD = 64
"""Bytes of memory that each report takes besides its text."""

_encode = msgspec.json.Encoder(enc_hook=str).encode
_log = structlog.get_logger(__name__)


class Pace:
    """The times at which all attempts of a worker store their reports, so that they share commits.

    The interval is FLUSH_AFTER; up to three times as long while many attempts report, as each store wakes readers.
    """

    def __init__(self) -> None:
        self._next = 0.0
        self._reporting = 0

    def next(self, now: float) -> float:
        """Return the next time to store; each attempt with something to report asks once per interval."""
        if now >= self._next:
            every = FLUSH_AFTER * min(3, 1 + self._reporting // MANY)
            self._next, self._reporting = (now // every + 1) * every, 0
        self._reporting += 1
        return self._next


class ReportBuffer:
    """The Observer of one attempt: gathers reports for a moment, then stores all of them at once.

    max_output: bytes that the attempt may report in all, None for no limit; the rest is dropped, and a line in the
    task's log says so. is_cut_off: whether that has happened. usage: of earlier attempts of the task; this one's is
    added to it. lost: whether the engine has answered that the attempt is no longer the current one. peak: most bytes
    that its process has held, None if unknown; stored with the attempt's end. scrub: removes secrets from reports.
    """

    def __init__(
        self,
        engine: Engine,
        lease: Lease,
        clock: Clock,
        usage: bytes = b"{}",
        pace: Pace | None = None,
        *,
        max_output: int | None = None,
    ) -> None:
        self._engine = engine
        self._pace = pace or Pace()
        self._lease = lease
        self._clock = clock
        self._events: list[NewEvent] = []
        self._output: list[str] = []
        self._progress: Progress | None = None
        self._used_before = usage
        self._usage: dict[str, Any] = {}
        self._usage_changed = False
        self._steps: list[NewStep] = []
        self._step_waiters: list[asyncio.Future[bool]] = []
        self._timer: asyncio.Handle | None = None
        self._is_urgent = False
        self._storing: asyncio.Task[None] | None = None
        self.max_output = max_output
        self.is_cut_off = False
        self._is_finished = False
        self._reported = 0
        self._held = 0
        self._lines_left = MAX_LINES
        self._characters_left = MAX_PRINTED
        self._waiting: list[Callable[[], None]] = []
        self.scrub: Callable[[Report], Report] | None = None
        self.lost = False
        self.peak: int | None = None

    @property
    def is_full(self) -> bool:
        """Whether more than MAX_HELD bytes wait to be stored, so that a reporter should wait; see `when_not_full`."""
        return self._held > MAX_HELD

    def when_not_full(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, as soon as the buffer is not full."""
        if self.is_full:
            self._waiting.append(callback)
        else:
            callback()

    def peak_memory(self, size: int) -> None:
        self.peak = size

    def progress(self, progress: Progress) -> None:
        self._count(0)  # a progress is counted only when it is taken: notice here if the last one exceeded the limit
        self._progress = progress
        self._flush_soon()

    def output(self, chunk: str) -> None:
        size = _size(chunk)
        if self._count(size):
            self._output.append(chunk)
            self._held += size + _OVERHEAD
            self._flush_soon()

    def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        data = _encode({"level": level, "message": message, "fields": dict(fields)})
        if self._count(len(data)):
            self._add_log(data)

    def step(self, event: StepEvent, data: Mapping[str, Any]) -> None:
        text = _encode(dict(data))
        if self._count(len(text)):
            self._add_event(event, text)

    def event(self, event: NewEvent) -> None:
        """Take an event that the worker itself makes; it does not count as output."""
        self._end_output()
        self._events.append(event)
        self._flush_soon()

    def end_sleep(self, step: NewStep, event: NewEvent) -> None:
        """Take the end of a sleep; it is stored soon, with the next reports."""
        self._steps.append(step)
        self.event(event)

    async def store_step(self, step: NewStep, event: NewEvent | None = None) -> bool:
        """Store a step now, with its event, after all that was reported before; wait while the store is unavailable.

        Return whether it is stored. False: the attempt is no longer the current one, or has ended. Raises what a bug
        raises.
        """
        if self.lost or self._is_finished:
            return False
        if event is not None:
            self._end_output()
            self._events.append(event)
        self._steps.append(step)
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._step_waiters.append(stored)
        self._flush_at_once()
        return await stored

    def printed(self, line: str, stream: str | None = None) -> bool:
        if not self._count(len(line)):
            return False
        if stream is not None and line and self._lines_left >= 0:
            self._keep_printed(line, stream)
        return True

    def _keep_printed(self, line: str, stream: str) -> None:
        """Add a printed line to the task's log, or once that it takes no more of them."""
        line = line if len(line) <= MAX_LINE else line[:MAX_LINE] + "..."
        self._lines_left -= 1
        self._characters_left -= len(line)
        if self._lines_left >= 0 and self._characters_left >= 0:
            self._add_line(_LEVELS[stream], line, stream=stream)
        else:
            self._lines_left = -1
            self._add_line("warning", _NO_MORE_PRINTS)

    def _add_line(self, level: str, message: str, **fields: Any) -> None:
        self._add_log(_encode({"level": level, "message": message, "fields": fields}))

    def usage(self, usage: Mapping[str, Any]) -> None:
        merged = {**self._usage, **usage}
        if len(_encode(merged)) > MAX_USAGE:
            merged = {**_counted(merged), "dropped": f"more than {MAX_USAGE:,} bytes of usage"}
        self._usage = merged
        self._usage_changed = True
        self._flush_soon()

    async def finish(self) -> Report | None:
        """Wait for a write in progress; return the unstored rest of the reports, or None."""
        self._is_finished = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._storing is not None:
            await asyncio.wait([self._storing])
        left = self._take() if self._has_reports else None
        _resolve(self._take_waiters(), False)
        self._held = 0
        if self._waiting:
            self._call_waiting()
        return None if left is None else self._scrubbed(left)

    def _count(self, size: int) -> bool:
        """Count a report of `size` bytes; return whether to keep it. The first dropped one is noted in the log."""
        if self.lost or self.is_cut_off:
            return False
        self._reported += size
        if self.max_output is None or self._reported <= self.max_output:
            return True
        self.is_cut_off = True
        message = f"output cut off at {self.max_output:,} bytes: TASKER_MAX_OUTPUT; the task goes on"
        self._add_line("warning", message)
        _log.warning(
            "task.output_cut_off", task_id=str(self._lease.task_id), attempt=self._lease.attempt, detail=message
        )
        return False

    def _add_log(self, data: bytes) -> None:
        self._add_event("log", data)

    def _add_event(self, type_: Any, data: bytes) -> None:
        self._end_output()  # so that output and other events keep their order
        self._add(type_, data)
        self._held += len(data) + _OVERHEAD
        self._flush_soon()

    def _call_waiting(self) -> None:
        while self._waiting and not self.is_full:
            self._waiting.pop()()

    @property
    def _has_reports(self) -> bool:
        return bool(self._events or self._output or self._steps or self._progress is not None or self._usage_changed)

    def _flush_soon(self) -> None:
        if self._timer is None and self._storing is None and not self.lost and not self._is_finished:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._pace.next(loop.time()), self._flush)

    def _flush_at_once(self) -> None:
        """Store as soon as the coroutines that are ready have run: steps of several may share the commit."""
        if self._storing is not None or self._is_urgent:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._is_urgent = True
        self._timer = asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._timer, self._is_urgent = None, False
        storing = self._store(self._take(), self._held, self._take_waiters())
        self._storing = asyncio.get_running_loop().create_task(storing)

    async def _store(self, report: Report, held: int, waiters: list[asyncio.Future[bool]]) -> None:
        """Store a report that takes `held` bytes of memory; more may come meanwhile.

        It is kept for another try only if the store is unavailable. In any other case waiting reporters may continue.
        waiters: of its steps.
        """
        is_unavailable = False
        try:
            self.lost = not await self._engine.record(self._lease, self._scrubbed(report))
            _resolve(waiters, not self.lost)
        except Unavailable as error:
            held, is_unavailable = 0, True
            self._put_back(report)
            self._step_waiters = [*waiters, *self._step_waiters]
            _log.warning("report.not_stored", task_id=str(self._lease.task_id), reason=error.detail)
        except Exception as error:  # a bug of ours
            _log.exception("report.lost", task_id=str(self._lease.task_id), attempt=self._lease.attempt)
            _fail(waiters, error)
        finally:
            self._storing = None
            self._held = 0 if self.lost else self._held - held
            self._call_waiting()
            self._go_on(at_once=not is_unavailable)

    def _go_on(self, *, at_once: bool) -> None:
        """Store what has come meanwhile; if there are steps, at once."""
        if self.lost:
            _resolve(self._take_waiters(), False)
        if self._step_waiters and at_once and not self._is_finished:
            self._flush_at_once()
        elif self._has_reports:
            self._flush_soon()

    def has_secret(self, text: bytes) -> bool:
        """Tell whether a JSON text holds a secret of the task."""
        if self.scrub is None:
            return False
        step = NewStep(key="", name="", kind="step", started_at=self._clock.now(), value=text)
        return self.scrub(Report(steps=(step,))).steps[0].secret_value is not None

    def _scrubbed(self, report: Report) -> Report:
        return report if self.scrub is None else self.scrub(report)

    def _add(self, type_: Any, data: bytes) -> None:
        self._events.append(NewEvent(type=type_, time=self._clock.now(), data=data))

    def _end_output(self) -> None:
        text, self._output = "".join(self._output), []
        for start in range(0, len(text), MAX_CHUNK):
            self._add("output", _encode({"chunk": text[start : start + MAX_CHUNK]}))

    def _take(self) -> Report:
        self._end_output()
        progress, self._progress = self._progress, None
        if progress is not None:
            data = _encode(progress)
            if not self.is_cut_off:
                self._add("progress", data)
            self._reported += len(data)
        events, self._events = tuple(self._events), []
        changed, self._usage_changed = self._usage_changed, False
        usage = self._all_usage() if changed else None
        steps, self._steps = tuple(self._steps), []
        return Report(events=events, steps=steps, progress=progress, usage=usage)

    def _take_waiters(self) -> list[asyncio.Future[bool]]:
        waiters, self._step_waiters = self._step_waiters, []
        return waiters

    def _all_usage(self) -> bytes:
        before = read_usage(self._used_before)
        usage = _encode(added(before, self._usage))
        return usage if len(usage) <= MAX_USAGE else _encode(added(_counted(before), self._usage))

    def _put_back(self, report: Report) -> None:
        events = report.events
        if report.progress is not None and self._progress is None:  # its event is made again
            events = tuple(event for event in events if event.type != "progress")
            self._progress = report.progress
        self._events = [*events, *self._events]
        self._steps = [*report.steps, *self._steps]
        self._usage_changed = self._usage_changed or report.usage is not None


def _resolve(waiters: Sequence[asyncio.Future[bool]], is_stored: bool) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(is_stored)


def _fail(waiters: Sequence[asyncio.Future[bool]], error: Exception) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_exception(error)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _counted(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a usage that add up over attempts."""
    return {name: usage[name] for name in SUMMED if name in usage}
