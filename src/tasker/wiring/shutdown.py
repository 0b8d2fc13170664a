"""The end of the process: the first signal starts the drain, the second ends the process even if tasks hang."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from types import FrameType
from typing import Any, NoReturn

import structlog

from tasker.service.check_threads import CHECK_THREAD

END_WITHIN = timedelta(seconds=2.5)
"""How long the process may take to end after the drain, or after a second signal."""
FORCED = os.EX_SOFTWARE
"""Exit code (70) of a process that did not end by itself, or could not store the end of every attempt."""

_DEADLINE = "shutdown deadline"
_OURS = (_DEADLINE, CHECK_THREAD)
"""Names of our own threads that may be left: they end with the process."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_log = structlog.get_logger(__name__)


class Shutdown:
    """Listens to signals. stopping: set by the first one. force: set by the second.

    drain: how long running attempts may take to end after the first signal. END_WITHIN later the process is ended in
    any state; what it had accepted is stored. signals: the ones that stop it.
    """

    def __init__(self, drain: timedelta, signals: Sequence[signal.Signals] = STOP_SIGNALS) -> None:
        self.stopping = asyncio.Event()
        self.force = asyncio.Event()
        self._drain = drain
        self._signals = signals
        self._loop = asyncio.get_running_loop()
        self._count = 0

    def listen(self) -> None:
        """Install the handlers. They are Python's own, not the loop's: a blocked loop must not prevent the end."""
        for number in self._signals:
            signal.signal(number, self._on_signal)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it
            signal.signal(signal.SIGHUP, self._on_hangup)

    def _on_hangup(self, number: int, frame: FrameType | None) -> None:
        """Drain: the terminal was closed. The system and a shell may both send it, so it is never a second signal."""
        if self._count == 0:
            self._on_signal(number, frame)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if self._count <= 2:
            self._arm(END_WITHIN if self._count == 2 else self._drain + END_WITHIN)
            with contextlib.suppress(RuntimeError):  # the loop is closed: we are ending
                self._loop.call_soon_threadsafe((self.stopping if self._count == 1 else self.force).set)

    @staticmethod
    def _arm(after: timedelta) -> None:
        timer = threading.Timer(after.total_seconds(), _end_by_force)
        timer.name, timer.daemon = _DEADLINE, True
        timer.start()


def run(service: Coroutine[Any, Any, int]) -> NoReturn:
    """Run a service to its end, then end the process with its exit code. Raises what the service raises.

    The interpreter's own shutdown is skipped: threads, coroutines and atexit functions that tasks have left could
    block it for ever.
    """
    import uvloop

    try:
        code = uvloop.run(service)
    except SystemExit as error:  # raised by users' code on the service's own loop
        _log.critical("service.exited", detail=f"something called sys.exit({error.code!r})", exc_info=True)
        code = FORCED
    left = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    left = [name for name in left if name not in _OURS]
    if left:
        _log.warning("service.threads_left", threads=left[:10], detail="tasks left them; they end with the process")
    _end(code)


def _end_by_force() -> None:
    _log.critical("service.ended_by_force", detail="it did not end by itself in time; its running tasks run again")
    _end(FORCED)


def _end(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # it is closed, or its reader has gone
            stream.flush()
    os._exit(code)
