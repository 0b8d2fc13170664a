"""The event loops of users' `async def` functions: each in its own thread, apart from the service's loop.

A function that blocks, calls sys.exit() or refuses to stop harms the loop that it is on, never the service's own:
heartbeats, requests and shutdown go on. Loops are asyncio's, not uvloop's: their handles can be found in a stack, and
a handle's context shows which attempt a callback belongs to.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from tasker.executor.attribution import HostedAttempt, find_attempt, guard_exit
from tasker.executor.loop_watch import LoopWatch

MAX_LOOPS = 8
"""Task loops at most. A further one is made only while all others are blocked."""
_LOOK_AGAIN = 0.25
"""Seconds after which an attempt that found every loop blocked tries again."""
CLOSE_WITHIN = 0.5
"""Seconds that cancelled functions get to end when a loop closes."""

_unending: list[asyncio.Task[Any]] = []
"""Tasks that swallow their cancellation. They are kept because freeing one closes its coroutine, which may block."""

_log = structlog.get_logger("tasker.executor")


class Mailbox:
    """Calls functions on a loop, in the order of their posts, from any thread. Posts share wake-ups of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._posted: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._is_woken = False

    def post(self, callback: Callable[..., None], *args: Any) -> None:
        """Have the loop call `callback(*args)`. Dropped if the loop is closed."""
        self._posted.append((callback, args))
        if not self._is_woken:
            self._is_woken = True
            self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._is_woken = False  # cleared before the posts are read, so that a later post wakes the loop again
        try:
            while self._posted:
                callback, args = self._posted.popleft()
                callback(*args)
        finally:
            if self._posted:
                self._wake()


class TaskLoop:
    """One event loop in a daemon thread. Its methods are for the service's thread.

    hosted: its attempts whose outcome is not known yet.
    on_blocked: called in the watching thread when the loop has given no sign of life for a second.
    """

    def __init__(self, number: int, on_blocked: Callable[[TaskLoop], None]) -> None:
        self._service = asyncio.get_running_loop()
        self._loop = asyncio.SelectorEventLoop()
        self._mailbox = Mailbox(self._loop)
        self._waiting: deque[HostedAttempt] = deque()
        self.hosted: set[HostedAttempt] = set()
        self._begun = 0
        self._is_announced = False
        self._is_closing = False
        self._has_ended = False
        self._stopping: asyncio.Task[None] | None = None
        self._watch = LoopWatch(
            on_blocked=lambda: on_blocked(self),
            count=lambda: None if self.hosted else self._begun,
            advice="other async tasks on its loop wait, new ones go to another loop; use `def`, or await slow calls",
        )
        self._thread = threading.Thread(target=self._run, name=f"task loop {number}", daemon=True)
        self._thread.start()
        self._watch.start(self._loop, self._thread)

    @property
    def is_blocked(self) -> bool:
        return self._watch.blocked_for > 0

    @property
    def is_usable(self) -> bool:
        return not self._is_closing and not self._has_ended and not self.is_blocked

    @property
    def has_ended(self) -> bool:
        return self._has_ended

    @property
    def blocked_by(self) -> str:
        return self._watch.blocked_by

    def start(self, attempt: HostedAttempt) -> None:
        """Begin an attempt on the loop."""
        attempt.home = self
        self.hosted.add(attempt)
        self._begun += 1
        self._waiting.append(attempt)
        if not self._is_announced:
            self._is_announced = True
            self._service.call_soon(self._announce)
        if self._has_ended:  # the loop has just broken, and may have missed the attempt
            attempt.lost_home()

    def _announce(self) -> None:
        """Tell the loop of all attempts that the service's loop has started in one turn: each wake-up of it is dear."""
        self._is_announced = False
        self._mailbox.post(self._begin_waiting)

    def not_begun(self) -> list[HostedAttempt]:
        """Take back the attempts that the loop has not begun yet."""
        taken = []
        while (attempt := self._take_waiting()) is not None:
            taken.append(attempt)
            self.hosted.discard(attempt)
        return taken

    def _take_waiting(self) -> HostedAttempt | None:
        """Return the next attempt that has not begun; called in both threads."""
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def post(self, callback: Callable[..., None], *args: Any) -> None:
        self._mailbox.post(callback, *args)

    def close(self) -> None:
        """Cancel what runs on the loop and stop it; does not wait. Idempotent."""
        if not self._is_closing:
            self._is_closing = True
            self._watch.stop()
            self._mailbox.post(self._cancel_all)

    def join(self, until: float) -> bool:
        """Wait until a moment of the monotonic clock for the thread's end; return False if it goes on."""
        self._thread.join(max(0.0, until - time.monotonic()))
        return not self._thread.is_alive()

    # in the loop's thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._has_ended:  # a function may stop its loop as well
            self._run_once()
        self._watch.end()
        with contextlib.suppress(Exception):  # users' code may have left the loop in any state
            self._loop.close()

    def _run_once(self) -> None:
        """Run the loop until it is stopped, code on it tries to end the process, or it breaks."""
        try:
            self._loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:  # asyncio lets these end a loop, which can go on after them
            self._contain(error)
        except BaseException:  # the loop itself is broken: a function has closed its files, say
            _log.exception("task.loop_broken", detail="the async tasks on it are run again, on another loop")
            self._has_ended = True
            _unending.extend(asyncio.all_tasks(self._loop))
            for attempt in tuple(self.hosted):
                attempt.lost_home()

    def _contain(self, error: BaseException) -> None:
        attempt = find_attempt(error.__traceback__)
        by = attempt.name if attempt else "an unknown task"
        detail = "the service goes on; the attempt that it belongs to fails"
        _log.error("task.tried_to_exit", raised=type(error).__name__, by=by, detail=detail)
        if attempt is not None:
            attempt.exited(error)

    def _begin_waiting(self) -> None:
        self._reset_loop()
        while (attempt := self._take_waiting()) is not None:
            self._begin(attempt)

    def _begin(self, attempt: HostedAttempt) -> None:
        try:
            attempt.begin(self._loop)
        except BaseException as error:
            attempt.exited(error)

    def _reset_loop(self) -> None:
        """Undo what attempts have changed in the loop that all share. To begin an attempt runs none of its code."""
        loop: Any = self._loop
        loop.set_task_factory(None)
        loop.set_exception_handler(None)
        if loop._executor_shutdown_called:
            loop._default_executor, loop._executor_shutdown_called = None, False

    def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._stopping = asyncio.Task(self._stop_after(tasks), loop=self._loop)

    async def _stop_after(self, tasks: set[asyncio.Task[Any]]) -> None:
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=CLOSE_WITHIN)
            _unending.extend(pending)
        await self._loop.shutdown_asyncgens()
        self._has_ended = True
        self._loop.stop()


class TaskLoops:
    """The task loops of one executor: one suffices, unless a function blocks it."""

    def __init__(self) -> None:
        self._service = asyncio.get_running_loop()
        self._loops: list[TaskLoop] = []
        self._numbers = itertools.count(1)

    def start(self, attempt: HostedAttempt) -> None:
        """Begin an attempt on a loop that is not blocked, as soon as there is one."""
        if attempt.is_decided:
            return
        loop = self._pick()
        if loop is None:
            self._service.call_later(_LOOK_AGAIN, self.start, attempt)
        else:
            loop.start(attempt)

    def forget(self, attempt: HostedAttempt) -> None:
        """Drop an attempt whose outcome is known."""
        if isinstance(attempt.home, TaskLoop):  # the attempt was given to a loop
            attempt.home.hosted.discard(attempt)

    def _pick(self) -> TaskLoop | None:
        """Return a loop that is not blocked, a new one if necessary; None if all MAX_LOOPS are blocked."""
        for loop in self._loops:
            if loop.is_usable:
                return loop
        self._loops = [loop for loop in self._loops if not loop.has_ended]
        if len(self._loops) >= MAX_LOOPS:
            return None
        guard_exit()
        self._loops.append(TaskLoop(next(self._numbers), self._on_blocked))
        return self._loops[-1]

    def health(self) -> str:
        """Return "ok", or that every loop is blocked, and by what."""
        if len(self._loops) < MAX_LOOPS or any(loop.is_usable for loop in self._loops):
            return "ok"
        names = ", ".join(sorted({loop.blocked_by for loop in self._loops}))
        return f"all {MAX_LOOPS} event loops for async tasks are blocked, by {names}"

    async def close(self) -> bool:
        """End the loops; return False if a function still runs that only the end of the process can stop."""
        for loop in self._loops:
            loop.close()
        loops, self._loops = self._loops, []
        return not loops or await asyncio.to_thread(_join, loops, time.monotonic() + 2 * CLOSE_WITHIN)

    def _on_blocked(self, loop: TaskLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the service's loop is closed
            self._service.call_soon_threadsafe(self._move, loop)

    def _move(self, loop: TaskLoop) -> None:
        """Move attempts that a blocked loop has not begun to other loops."""
        if loop.is_blocked and loop in self._loops:
            for attempt in loop.not_begun():
                self.start(attempt)


def _join(loops: Sequence[TaskLoop], until: float) -> bool:
    return not [loop for loop in loops if not loop.join(until)]
