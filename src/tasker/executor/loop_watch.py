"""Notices when something blocks the event loop, from a thread of its own, and says what it was."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback

import structlog

from tasker.executor.on_loop import TASK_NAME

RECENT = 10.0
"""Seconds that a block is still told by `health` after it has ended: while it lasts, nobody can ask."""

_log = structlog.get_logger("tasker.executor")


class LoopWatch:
    """Asks the loop again and again for a sign of life. `threshold`: seconds without one that count as blocked."""

    def __init__(self, threshold: float = 1.0) -> None:
        self._threshold = threshold
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._asked_at: float | None = None
        self._is_reported = False
        self._blocked_by = ""
        self._lasted = 0.0
        self._ended_at = -RECENT
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Watch the running loop; call it on that loop."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="loop watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching. Idempotent."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    @property
    def blocked_for(self) -> float:
        """Seconds that the loop has now been blocked, 0 if it is not."""
        asked_at = self._asked_at
        silent = 0.0 if asked_at is None else time.monotonic() - asked_at
        return silent if silent > self._threshold else 0.0

    def health(self) -> str:
        """Return "ok", or what blocks the event loop or did so a moment ago."""
        seconds = self.blocked_for
        if not seconds and time.monotonic() - self._ended_at < RECENT:
            seconds = self._lasted
        return f"event loop blocked by {self._blocked_by} for {seconds:.1f} s" if seconds else "ok"

    def _watch(self) -> None:
        while not self._stopping.wait(self._threshold / 4):
            if self._asked_at is None:
                self._ask()
            elif self.blocked_for and not self._is_reported:
                self._report()

    def _ask(self) -> None:
        assert self._loop is not None
        self._is_reported = False
        self._asked_at = time.monotonic()
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # the loop is closed
            self._stopping.set()

    def _answer(self) -> None:
        seconds, self._asked_at = self.blocked_for, None
        if seconds:
            if not self._is_reported:
                self._blocked_by = "a call that also held the interpreter's lock"
            self._ended_at, self._lasted = time.monotonic(), seconds
            _log.warning("loop.goes_on", blocked_by=self._blocked_by, seconds=round(seconds, 3))

    def _report(self) -> None:
        self._is_reported = True
        self._blocked_by = self._name()
        frame = sys._current_frames().get(self._loop_thread)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        _log.error(
            "loop.blocked", blocked_by=self._blocked_by, seconds=round(self.blocked_for, 3), stack=stack,
            detail="nothing else runs or is answered: make the function a `def`, or have it await what takes long",
        )  # fmt: skip

    def _name(self) -> str:
        """Return the type of the task whose function runs on the loop, else what runs there."""
        task = asyncio.current_task(self._loop)
        if task is None:
            return "a callback"
        name = task.get_name()
        if name.startswith(TASK_NAME):
            return name
        return getattr(task.get_coro(), "__qualname__", name)
