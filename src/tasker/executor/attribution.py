"""Find the attempt to which code on a task loop belongs, by the context of the callback that runs or has raised."""

from __future__ import annotations

import asyncio
import os
from contextvars import ContextVar
from types import FrameType, TracebackType
from typing import Any, NoReturn, Protocol

import structlog


class HostedAttempt(Protocol):
    """An attempt as its loop knows it. `name` shows its type and task; `home` is the loop that it is on."""

    home: Any

    @property
    def name(self) -> str:
        """Return its name for the log."""

    @property
    def is_decided(self) -> bool:
        """Return whether its outcome is known."""

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the function; called once, in the loop's thread."""

    def exited(self, error: BaseException) -> None:
        """Handle an exception by which the attempt's code tried to end the process; called in the loop's thread."""

    def lost_home(self) -> None:
        """Handle the loss of the loop, on which nothing continues; called in the loop's thread."""


CURRENT: ContextVar[HostedAttempt] = ContextVar("tasker_attempt")
"""Set in the context of each attempt on a task loop; its tasks, callbacks and to_thread() calls inherit it."""

_log = structlog.get_logger("tasker.executor")
_RUN_HANDLE = asyncio.Handle._run.__code__


def find_attempt(place: TracebackType | FrameType | None) -> HostedAttempt | None:
    """Return the attempt that a callback of asyncio's own loop belongs to, None if it belongs to none.

    place: the traceback of what it raised, or the frame that runs. uvloop's callbacks leave no frame: None.
    """
    while place is not None:
        frame = place.tb_frame if isinstance(place, TracebackType) else place
        handle = frame.f_locals.get("self") if frame.f_code is _RUN_HANDLE else None
        if handle is not None:
            attempt: HostedAttempt | None = handle._context.get(CURRENT)
            return attempt
        place = place.tb_next if isinstance(place, TracebackType) else place.f_back
    return None


def guard_exit() -> None:
    """Make os._exit() in an attempt's code log the task and end this process with an exit code that means failure.

    The end itself cannot be prevented. Processes that the code has forked exit as they ask.
    """
    real, service = os._exit, os.getpid()

    def exit_by_task(status: int) -> NoReturn:
        attempt = CURRENT.get(None)
        if attempt is not None and os.getpid() == service:
            detail = f"it called os._exit({status!r}); it runs again, after three such ends in a process of its own"
            _log.critical("task.ended_the_service", by=attempt.name, detail=detail)
            status = os.EX_SOFTWARE
        real(status)

    if real.__module__ != __name__:
        os._exit = exit_by_task
