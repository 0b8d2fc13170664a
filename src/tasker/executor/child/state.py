"""Restore what an attempt has changed in its process, so that the next one starts from a clean state.

A snapshot is taken once the task types are loaded. After each attempt it is compared with the present state, which is
cheap, and only differences are written. If something cannot be restored, the service is told what, and replaces the
child. There are two steps, so that the service waits only for the first.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # as in `channel`
import builtins
import contextlib
import contextvars
import decimal
import faulthandler
import os
import random
import signal
from collections.abc import Callable
from typing import Any, TypeVar

from tasker.executor.child.channel import SIGNALS
from tasker.executor.child.leftovers import OpenFiles, OwnChildren, Threads
from tasker.executor.child.printed import Capture
from tasker.executor.child.settings import Table, first_settings, later_settings
from tasker.executor.child.status import OwnStatus

T = TypeVar("T")

_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)

# read while they are sure to be the real ones: a task may replace any of them
_BUILTINS = vars(builtins)
_builtin_values = _BUILTINS.values
_tuple: Callable[..., tuple[Any, ...]] = tuple
_CAUGHT = {signal.SIGINT, signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGBUS, signal.SIGILL}
"""Signals that Python or faulthandler handles. The kernel does not show if a handler was replaced by another."""


class ProcessState:
    """The state of this process as it was when `take` was called last."""

    def __init__(self, capture: Capture, status: OwnStatus) -> None:
        self._capture = capture
        self._status = status
        self._standard = [os.dup(descriptor) for descriptor in range(3)]
        self._children = OwnChildren()
        self._folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        self._threads, self._files, self._random = Threads(), OpenFiles(), _Random()
        self.take()

    def take(self) -> None:
        """Take the present state as the clean one."""
        self._first = Table(first_settings())
        self._names = dict(_BUILTINS)
        self._builtins = tuple(_builtin_values())
        self._later = Table(later_settings(self._standard[2]))
        self._handlers = list(map(_signal.getsignal, SIGNALS))
        self._caught = [(n, h) for n, h in zip(SIGNALS, self._handlers, strict=True) if n in _CAUGHT or callable(h)]
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._processors = os.sched_getaffinity(0)
        is_set = any(variable.name == "decimal_context" for variable in contextvars.copy_context())
        self._decimal = decimal.getcontext().copy() if is_set else None
        self._threads.take()
        self._files.take()
        self._blocked = _signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._state = self._status.read().state
        _signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)

    def run(self, function: Callable[[], T]) -> T:
        """Call a function with its own context variables and decimal context."""
        context = contextvars.copy_context()
        if self._decimal is not None:  # else a call that needs one gets the default
            context.run(decimal.setcontext, self._decimal.copy())
        return context.run(function)

    def begin_restore(self) -> tuple[list[str], int | None]:
        """Restore what disturbs our own code. Return what can never be restored, and the peak memory in bytes.

        Signals are blocked from here on, so that no handler of the attempt runs in our own code. A handler that was due
        already may raise anything here; then call this again.
        """
        _signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        _signal.setitimer(signal.ITIMER_REAL, 0)
        if _tuple(_builtin_values()) != self._builtins:
            _put_builtins_back(self._names)
        left = [*self._first.restore(), *self._threads.left(), *self._files.left()]
        if not self._capture.flush():
            self._put_files_back()
        if self._children.exist():
            left.append("processes of its own")
        status = self._status.read()
        if status.state != self._state:
            self._put_process_back()
            state = self._status.read().state
            if list(map(_without_real_time, state)) != list(map(_without_real_time, self._state)):
                left.append("another user, group, capability or signal handler")
            self._state = state
        return left, status.peak_memory

    def finish_restore(self) -> list[str]:
        """Restore the rest and unblock signals; return the names of what could not be restored, usually nothing.

        The service need not wait for this.
        """
        for number, handler in self._caught:
            if _signal.getsignal(number) is not handler:
                self._put_process_back()
        _signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        _signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.set_wakeup_fd(-1)
        os.fchdir(self._folder)
        for descriptor, kept in enumerate(self._standard):
            os.dup2(kept, descriptor)
        left = self._later.restore()
        self._random.settle()
        _signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
        return left

    def _put_files_back(self) -> None:
        for descriptor, kept in enumerate(self._standard):
            os.dup2(kept, descriptor)
        self._capture.reinstall()

    def _put_process_back(self) -> None:
        """Restore what `Status.state` shows, as far as we are allowed to."""
        for timer in _TIMERS:
            _signal.setitimer(timer, 0)
        os.umask(self._umask)
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, self._processors)
        for number in _signal.sigpending():
            if number != signal.SIGCHLD:  # which does nothing, and to ignore it would reap children
                signal.signal(number, signal.SIG_IGN)  # that drops it
        for number, handler in zip(SIGNALS, self._handlers, strict=True):
            if _signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        faulthandler.disable()  # its own handlers are not seen from Python: they may have been replaced
        faulthandler.enable(2)


def _without_real_time(line: bytes) -> bytes:
    """Return a line of `Status.state` without the real-time signals: libc handles some as soon as there are threads."""
    name, _, value = line.partition(b":\t")
    return b"%d" % (int(value, 16) & 0x7FFFFFFF) if name.startswith((b"Sig", b"Shd")) else line


def _put_builtins_back(clean: dict[str, Any]) -> None:
    _BUILTINS.clear()
    _BUILTINS.update(clean)


class _Random:
    """The generator of `random`: a task's seed must not make the numbers of the next task predictable.

    Seeding shows in `gauss_next`, the number that `gauss` has ready: we draw one, and seeding drops it.
    """

    def __init__(self) -> None:
        self._generator: Any = random._inst
        self._ready: float | None = None

    def settle(self) -> None:
        if self._ready is None or self._generator.gauss_next is not self._ready:
            random.seed()
            self._ready = self._generator.gauss_next = random.gauss(0.0, 1.0)
