"""Threads for checks of params by code of task types' authors, so that a slow check blocks no other request.

While such a check computes, Python switches to the service's event loop every SWITCH_EVERY seconds. Native code that
holds the interpreter's lock, such as a regular expression of `re`, blocks the loop here as anywhere.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from queue import SimpleQueue
from typing import Any, TypeVar

import structlog

from tasker.errors import CheckStopped, Unavailable
from tasker.service.places import Places

THREADS = 8
"""Limit of concurrent checks, each of another owner; because of the interpreter lock only one computes at a time."""
WITHIN = 5.0
"""Seconds that a check may take."""
PATIENCE = 5.0
"""Seconds that a request waits for earlier checks."""
SLOW_AFTER = 0.25
"""Seconds after which a check counts as slow."""
ENDS_WITHIN = 2.0
"""Seconds after which a check that does not stop is abandoned, with its thread."""
MAX_LEFT = 8
"""Number of abandoned threads at which no further check begins."""
SWITCH_EVERY = 0.001
"""Seconds after which a computing check gives way to the loop; Python's default of 5 ms adds up in a request."""
_AGAIN_AFTER = 0.2
"""Seconds between attempts to stop a check that goes on."""

CHECK_THREAD = "tasker-check"
"""The name of each thread; an idle one may be left when the service ends."""

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class CheckTimeout(Exception):
    """A check has taken longer than it may."""


class CheckThreads:
    """Runs checks, one at a time for each owner, so that an owner of slow checks delays nobody else.

    within: seconds that a check may take. patience: seconds that it waits for a thread and for the owner's earlier
    checks. slow_after: seconds after which its owner counts as slow; slow owners share half of the threads.
    """

    def __init__(
        self,
        *,
        threads: int = THREADS,
        within: float = WITHIN,
        patience: float = PATIENCE,
        slow_after: float = SLOW_AFTER,
    ) -> None:
        self.within = within
        self._patience = patience
        self._slow_after = slow_after
        self._places = Places(threads)
        self._turns: dict[str, _Turn] = {}
        self._idle: list[_Thread] = []
        self._left: list[_Thread] = []
        self._endings: set[asyncio.Task[None]] = set()
        self._running = 0
        self._switch_otherwise = sys.getswitchinterval()

    async def run(self, owner: str, check: Callable[[], T]) -> T:
        """Return what `check` returns, or raise what it raises.

        Raises CheckTimeout, and Unavailable if the check could not begin because the owner's other checks take long.
        """
        turn = self._turns.setdefault(owner, _Turn())
        turn.users += 1
        try:
            async with self._waiting_for(owner, turn):
                thread = self._take()
                running = self._begin(thread, check)
        except BaseException:
            self._leave(owner, turn)
            raise
        return await self._finish(owner, turn, thread, running)

    def close(self) -> None:
        """End the threads that are idle. A later check gets a new one."""
        idle, self._idle = self._idle, []
        for thread in idle:
            thread.end()
        for thread in idle:
            thread.join()

    @asynccontextmanager
    async def _waiting_for(self, owner: str, turn: _Turn) -> AsyncIterator[None]:
        """Take the owner's lock and a slot; give both back if the body fails."""
        try:
            async with asyncio.timeout(self._patience):
                await turn.lock.acquire()
                try:
                    await self._places.take(owner)
                except BaseException:
                    turn.lock.release()
                    raise
        except TimeoutError:
            raise _busy() from None
        try:
            yield
        except BaseException:
            self._give_back(owner, turn)
            raise

    async def _finish(self, owner: str, turn: _Turn, thread: _Thread, running: asyncio.Future[T]) -> T:
        try:
            slow_after = min(self._slow_after, self.within)
            await asyncio.wait([running], timeout=slow_after)
            if not running.done():
                self._places.note_slow(owner)
                await asyncio.wait([running], timeout=self.within - slow_after)
        finally:
            if running.done():
                self._idle.append(thread)
                self._end(owner, turn)
            else:  # it took too long, or the request was cancelled
                ending = asyncio.create_task(self._stop(owner, turn, thread, running))
                self._endings.add(ending)
                ending.add_done_callback(self._endings.discard)
        if not running.done():
            raise CheckTimeout
        return running.result()

    async def _stop(self, owner: str, turn: _Turn, thread: _Thread, running: asyncio.Future[Any]) -> None:
        """Stop a check, then let the next one begin."""
        running.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody awaits its result
        until = asyncio.get_running_loop().time() + ENDS_WITHIN
        while thread.is_alive() and not running.done() and asyncio.get_running_loop().time() < until:
            thread.stop()
            await asyncio.wait([running], timeout=_AGAIN_AFTER)
        thread.end()
        if thread.is_alive() and not running.done():
            self._left.append(thread)
            _log.error("check.hangs", detail="a check of params does not end: correct it, and restart the service")
        self._end(owner, turn)

    def _begin(self, thread: _Thread, check: Callable[[], T]) -> asyncio.Future[T]:
        if not self._running:
            self._switch_otherwise = sys.getswitchinterval()
            sys.setswitchinterval(min(SWITCH_EVERY, self._switch_otherwise))
        self._running += 1
        return thread.begin(check)

    def _take(self) -> _Thread:
        if self._idle:
            return self._idle.pop()
        self._left = [thread for thread in self._left if thread.is_alive()]
        if len(self._left) >= MAX_LEFT:
            raise Unavailable("checks of params hang: see the service's log", retry_after=timedelta(minutes=1))
        return _Thread()

    def _end(self, owner: str, turn: _Turn) -> None:
        self._running -= 1
        if not self._running:
            sys.setswitchinterval(self._switch_otherwise)
        self._give_back(owner, turn)
        self._leave(owner, turn)

    def _give_back(self, owner: str, turn: _Turn) -> None:
        self._places.give_back(owner)
        turn.lock.release()

    def _leave(self, owner: str, turn: _Turn) -> None:
        turn.users -= 1
        if not turn.users:
            del self._turns[owner]


class _Turn:
    """The lock by which an owner's checks run one at a time. users: how many run or wait."""

    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class _Thread:
    """A thread for one check at a time; a daemon, so that the process can end without it."""

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], bool]] = SimpleQueue()
        self._door = _Door()
        self._thread = threading.Thread(target=_serve, args=(self._work,), name=CHECK_THREAD, daemon=True)
        self._thread.start()

    def __del__(self) -> None:
        self.end()

    def begin(self, check: Callable[[], T]) -> asyncio.Future[T]:
        """Run `check` in the thread; return the future of its result."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        door = self._door

        def work() -> bool:
            settle, outcome = _outcome_of(door, check, future)
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_unless_done, future, settle, outcome)
            return True

        self._work.put(work)
        return future

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> None:
        """End the thread once it is idle."""
        self._work.put(lambda: False)

    def join(self) -> None:
        """Wait for the end of a thread that was idle."""
        self._thread.join()

    def stop(self) -> None:
        """Stop the check that runs in the thread at its next step in Python."""
        if self._thread.ident is not None:
            self._door.stop(self._thread.ident)


def _serve(work: SimpleQueue[Callable[[], bool]]) -> None:
    while work.get()():
        pass


class _Door:
    """Raises CheckStopped in a thread, but only while it runs a check."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open = False

    def open(self) -> None:
        self._is_open = True

    def stop(self, thread: int) -> None:
        with self._lock:
            if self._is_open:
                _raise_in(thread, ctypes.py_object(CheckStopped))

    def close(self) -> None:
        """Cancel a CheckStopped that has not been raised yet. The thread itself calls this."""
        with self._lock:
            self._is_open = False
            _raise_in(threading.get_ident(), None)


def _raise_in(thread: int, kind: Any) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), kind)


def _outcome_of(door: _Door, check: Callable[[], T], future: asyncio.Future[T]) -> tuple[Callable[[Any], None], Any]:
    """Run a check; return the method that settles the future, and its argument."""
    try:
        door.open()
        try:
            return future.set_result, check()
        except Exception as error:
            return future.set_exception, error
        finally:
            door.close()
    except CheckStopped:
        door.close()
        return future.set_exception, CheckTimeout()


def _unless_done(future: asyncio.Future[Any], settle: Callable[[Any], None], outcome: Any) -> None:
    if not future.done():
        settle(outcome)


def _busy() -> Unavailable:
    return Unavailable("other checks of params take long: ask again", retry_after=timedelta(seconds=2))
