"""Notice from a separate thread when something blocks an event loop, and name what it was."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import structlog

from tasker.executor.attribution import find_attempt

RECENT = 10.0
"""Seconds for which `health` reports a block after its end: during a block, `health` cannot be asked."""
TASK_NAME = "task type "
"""Prefix of the names of asyncio tasks that run a function; its type follows."""

_log = structlog.get_logger("tasker.executor")
_held_until: dict[int, float] = {}
"""Until when threads are, or were, held by a person: moments of the monotonic clock, by the threads' numbers."""


@contextmanager
def holding_loop() -> Iterator[None]:
    """Let nothing be said about a block of this thread's loop: a person holds it in a debugger, and types there."""
    thread = threading.get_ident()
    _held_until[thread] = math.inf
    try:
        yield
    finally:
        _held_until[thread] = time.monotonic()


class LoopWatch:
    """Asks a loop for a sign of life, again and again.

    threshold: seconds without one that count as blocked. on_blocked: called once for each block, in the watching
    thread. advice: what the log says about a block. count: returns how many functions the loop has begun to run; None
    while one runs. A loop that has answered since the last one is left asleep.
    """

    def __init__(
        self,
        threshold: float = 1.0,
        *,
        on_blocked: Callable[[], None] | None = None,
        count: Callable[[], int | None] = lambda: None,
        advice: str = "no request is answered and no task ends: report this as a bug in Tasker",
    ) -> None:
        self._threshold = threshold
        self._on_blocked = on_blocked
        self._count = count
        self._last_count: int | None = None
        self._advice = advice
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread: int | None = 0
        self._asked_at: float | None = None
        self._is_reported = False
        self.blocked_by = ""
        self._lasted = 0.0
        self._ended_at = -RECENT
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, loop: asyncio.AbstractEventLoop | None = None, thread: threading.Thread | None = None) -> None:
        """Watch a loop and the thread that runs it; without them, the running loop and this thread."""
        self._loop = loop or asyncio.get_running_loop()
        self._loop_thread = threading.get_ident() if thread is None else thread.ident
        self._thread = threading.Thread(target=self._watch, name="loop watch", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop watching soon; does not wait."""
        self._stopping.set()

    def stop(self) -> None:
        """Stop watching. Idempotent."""
        self.end()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    @property
    def blocked_for(self) -> float:
        """Seconds for which the loop has been blocked, 0 if it is not."""
        asked_at = self._asked_at
        silent = 0.0 if asked_at is None else time.monotonic() - asked_at
        return silent if silent > self._threshold else 0.0

    def health(self) -> str:
        """Return "ok", or what blocks the event loop, or did so within the last RECENT seconds."""
        seconds = self.blocked_for
        if not seconds and time.monotonic() - self._ended_at < RECENT:
            seconds = self._lasted
        return f"event loop blocked by {self.blocked_by} for {seconds:.1f} s" if seconds else "ok"

    def _watch(self) -> None:
        pause = self._threshold / 4
        while not self._stopping.wait(pause):
            if self._asked_at is None:
                last, self._last_count = self._last_count, self._count()
                if self._last_count is None or self._last_count != last:
                    self._ask()
                pause = self._threshold  # both threads wake up for it, in idle processes as well
            else:
                if self.blocked_for and not self._is_reported:
                    self._report()
                pause = self._threshold / 4

    def _ask(self) -> None:
        assert self._loop is not None
        self._is_reported = False
        self._asked_at = time.monotonic()
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # the loop is closed
            self._stopping.set()

    def _is_held(self) -> bool:
        """Tell whether a person has held the loop at any time since it was asked."""
        asked_at = self._asked_at
        return asked_at is not None and _held_until.get(self._loop_thread or 0, -math.inf) >= asked_at

    def _answer(self) -> None:
        is_held = self._is_held()
        seconds, self._asked_at = self.blocked_for, None
        if seconds and not is_held:
            if not self._is_reported:
                self.blocked_by = "a call that also held the interpreter's lock"
            self._ended_at, self._lasted = time.monotonic(), seconds
            _log.warning("loop.unblocked", blocked_by=self.blocked_by, seconds=round(seconds, 3))

    def _report(self) -> None:
        self._is_reported = True
        if self._is_held():
            self.blocked_by = "a debugger"
        else:
            self._log_block()
        if self._on_blocked is not None:
            self._on_blocked()

    def _log_block(self) -> None:
        frame = sys._current_frames().get(self._loop_thread or 0)
        self.blocked_by = self._name(frame)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        seconds = round(self.blocked_for, 3)
        _log.error("loop.blocked", blocked_by=self.blocked_by, seconds=seconds, stack=stack, detail=self._advice)

    def _name(self, frame: FrameType | None) -> str:
        """Name the attempt whose code blocks the loop, else the asyncio task that runs there."""
        attempt = find_attempt(frame)
        if attempt is not None:
            return attempt.name
        task = asyncio.current_task(self._loop)
        if task is None:
            return "a callback"
        name = task.get_name()
        if name.startswith(TASK_NAME):
            return name
        return getattr(task.get_coro(), "__qualname__", name)
