"""Passes the reports of a function on a loop to the service's loop, no faster than they can be stored."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tasker.executor.attempt import Observer
from tasker.executor.frames import PIECE
from tasker.executor.loop_prints import LoopPrints
from tasker.executor.reporter import ClosableReporter
from tasker.executor.task_loop import Mailbox
from tasker.model import Progress
from tasker.tasktypes.steps import StepEvent

_IN_FLIGHT = 256 * 1024
"""Limit of reported bytes that no write to the store includes yet."""
_LONGEST_WAIT = 1.0
"""Longest delay in seconds of a reporting function while the store does not keep up."""
_REPORT = 200
"""About how many bytes a report takes besides its text."""
_first_report = threading.Lock()


class Home(Protocol):
    """The loop that a function runs on, or reports to."""

    def post(self, callback: Callable[..., None], *args: Any) -> None:
        """Call `callback(*args)` in that loop's thread."""


class ServiceLoop:
    """The service's own loop as the home of built-in functions: a post is a call, except from another thread."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._thread = threading.get_ident()

    @property
    def is_here(self) -> bool:
        """Whether this is the loop's thread."""
        return threading.get_ident() == self._thread

    def post(self, callback: Callable[..., None], *args: Any) -> None:
        if threading.get_ident() == self._thread:
            callback(*args)
        else:
            self._mailbox.post(callback, *args)


class InFlight:
    """The bytes that an attempt has reported and that are not stored yet. A thread that exceeds the limit waits."""

    def __init__(self) -> None:
        self._taken = 0
        self._is_behind = False
        self._freed = threading.Condition()

    def take(self, size: int) -> bool:
        """Wait for space and take it; return False if none is freed in time, and never wait again after that."""
        with self._freed:
            wait = 0 if self._is_behind else _LONGEST_WAIT
            fits = self._freed.wait_for(lambda: not self._taken or self._taken + size <= _IN_FLIGHT, wait)
            self._is_behind = not fits
            self._taken += size if fits else 0
            return fits

    def free(self, size: int) -> None:
        """Give space back."""
        with self._freed:
            self._taken -= size
            self._freed.notify_all()


class LoopReporter(ClosableReporter):
    """A ClosableReporter for use from every thread: it posts reports to the service's loop.

    If it reports more than can be stored, any thread but that of the service's loop waits for a moment, which blocks
    the function's own loop. What does not fit then is dropped, and the task's log says how much.
    """

    __slots__ = ("_back", "_dropped", "_in_flight", "_observer", "_prints")

    def __init__(self, observer: Observer, back: Home) -> None:
        super().__init__(observer)
        self._observer = observer
        self._back = back
        self._in_flight: InFlight | None = None
        self._prints: LoopPrints | None = None
        self._dropped = 0

    def progress(self, progress: Progress) -> None:
        self._post(_REPORT, super().progress, progress)

    def output(self, chunk: str) -> None:
        for start in range(0, len(chunk), PIECE):
            piece = chunk[start : start + PIECE]
            self._post(len(piece), super().output, piece)

    def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        self._post(_REPORT + len(message), super().log, level, message, fields)

    def printed(self, stream: str, text: str) -> None:
        """Take a piece of what the function prints."""
        (self._prints or self._begin_prints()).write(stream, text)

    def end_prints(self) -> None:
        """Take what was printed without an end of line."""
        if self._prints is not None:
            self._prints.end()

    def _begin_prints(self) -> LoopPrints:
        """Begin to make lines, at the first print: most attempts print nothing."""
        with _first_report:
            # The lines are few enough that none has to wait.
            self._prints = self._prints or LoopPrints(lambda *line: self._back.post(self._printed, *line))
            return self._prints

    def usage(self, usage: Mapping[str, Any]) -> None:
        self._back.post(super().usage, usage)

    def step(self, event: StepEvent, data: Mapping[str, Any]) -> None:
        self._post(_REPORT, super().step, event, data)

    def _post(self, size: int, report: Callable[..., None], *args: Any) -> None:
        if self._observer.is_cut_off:
            return
        if isinstance(self._back, ServiceLoop) and self._back.is_here:
            report(*args)
            return
        in_flight = self._in_flight or self._count_in_flight()
        if in_flight.take(size):
            self._back.post(self._deliver, in_flight, size, report, args)
        else:
            self._dropped += 1

    def _count_in_flight(self) -> InFlight:
        """Begin to count, at the first report: most attempts report nothing."""
        with _first_report:
            self._in_flight = self._in_flight or InFlight()
            return self._in_flight

    def report_dropped(self) -> None:
        """On the service's loop: log how many reports were dropped, if any."""
        dropped, self._dropped = self._dropped, 0
        if dropped:
            super().log("warning", f"{dropped:,} reports dropped: they could not be stored in time", {})

    def _printed(self, stream: str, line: str) -> None:
        if self._reporter is not None:
            self._observer.printed(line, stream)

    def _deliver(self, in_flight: InFlight, size: int, report: Callable[..., None], args: tuple[Any, ...]) -> None:
        """On the service's loop: report, and free the space once it is stored, or about to be."""
        self.report_dropped()
        report(*args)
        self._observer.when_not_full(lambda: in_flight.free(size))
