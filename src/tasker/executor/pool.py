"""The child processes of a service: started when needed, kept for the next attempt, replaced when worn out.

Why not a library: Pebble 5.2.3 is the best of its kind, and could not do what attempts need.
- Its children send one message at a task's start and one at its end; progress, logs and output cannot come between.
- A cancel is SIGTERM, then SIGKILL after 3 s. A function cannot notice it and stop cleanly in a grace of our choice.
- A kill reaches the child alone: processes that a task has started live on, as does a busy child of a killed service.
- An abnormal end is an exit code: neither the lack of memory nor the limit that the task exceeded is named.
- Results are pickles: to read one runs code of the task's choice in the service.
- Nothing that a task changes in its process is put back for the next task.
It is not faster either: the median of 2,500 `def` tasks, one after the other through one child that is replaced every
1,000, was 0.27 ms here and 0.35 ms with Pebble (spawn), measured side by side on two busy cores.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from tasker.executor.frames import Broken, FromChild, Line, Ready
from tasker.executor.kernel import resident_memory
from tasker.executor.process import ChildProcess, ChildSpec

START_WITHIN = 60.0
"""Seconds that a child may take to load its task types."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between starts of children that fail to start."""
END_WITHIN = 5.0
"""Seconds that killed processes get to end; only the kernel can hold them longer."""

_log = structlog.get_logger("tasker.executor")


class CannotStart(Exception):
    """A child process did not start; the message says why."""


class Starting:
    """The listener of a child until it is ready; `ready` raises CannotStart if the child fails to start."""

    def __init__(self) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_frame(self, frame: FromChild) -> None:
        match frame:
            case Ready() if not self.ready.done():
                self.ready.set_result(None)
            case Broken(detail):
                self._fail(detail)
            case Line():
                log_line(frame)

    def on_corrupt(self, reason: str) -> None:
        self._fail(reason)

    def on_exit(self, detail: str) -> None:
        self._fail(detail)

    def _fail(self, reason: str) -> None:
        if not self.ready.done():
            self.ready.set_exception(CannotStart(reason))


class Idle:
    """The listener of a child that waits for its next attempt. on_lost: called with the reason when it ends."""

    def __init__(self, on_lost: Callable[[str], None]) -> None:
        self.on_corrupt = self.on_exit = on_lost

    def on_frame(self, frame: FromChild) -> None:
        if isinstance(frame, Line):  # from a thread that an attempt has left behind
            log_line(frame)


class Ending:
    """The listener of a child that is no longer wanted: it ignores everything."""

    def on_frame(self, frame: FromChild) -> None:
        pass

    def on_corrupt(self, reason: str) -> None:
        pass

    def on_exit(self, detail: str) -> None:
        pass


class Slots:
    """A counting semaphore in order of asking. Unlike asyncio's it shows how many are free, and `take` never waits."""

    def __init__(self, size: int) -> None:
        self.free = size
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take a slot if one is free now."""
        if self.free == 0:
            return False
        self.free -= 1
        return True

    async def acquire(self) -> None:
        """Wait for a slot and take it."""
        if self.take():
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(granted)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Give the slot to the longest waiter, or mark it free."""
        while self._waiting:
            granted = self._waiting.popleft()
            if not granted.done():
                granted.set_result(None)
                return
        self.free += 1


class Pool:
    """At most `size` children at a time. `fault` is why the last start failed, None while children start."""

    def __init__(self, spec: ChildSpec, *, size: int, max_attempts: int, max_memory: int | None) -> None:
        self.fault: str | None = None
        self._spec = spec
        self._max_attempts = max_attempts
        self._max_memory = max_memory
        self._slots = Slots(size)
        self._idle: list[ChildProcess] = []
        self._children: set[ChildProcess] = set()
        self._spare: asyncio.Task[ChildProcess] | None = None
        self._starts: set[asyncio.Task[ChildProcess]] = set()
        self._failures = 0
        self._start_after = 0.0
        self._is_closed = False

    @property
    def free(self) -> int:
        """The number of attempts that could begin at once."""
        return self._slots.free

    def open(self) -> None:
        """Start a first child; do not wait for it."""
        self._start_spare()

    async def close(self) -> None:
        """Kill every child and what it has started, and wait until they are gone. Idempotent."""
        self._is_closed = True
        for start in self._starts:
            start.cancel()
        if self._starts:
            await asyncio.wait(self._starts)
        self._idle.clear()
        children = list(self._children)
        for child in children:
            child.kill()
        if children:
            await asyncio.wait([child.exited for child in children], timeout=END_WITHIN)

    def take(self) -> ChildProcess | None:
        """Return an idle child if there is one and a free slot: `acquire` without waiting."""
        return self._idle.pop() if self._idle and self._slots.take() else None

    async def acquire(self) -> ChildProcess:
        """Wait for a slot and return a child that is ready. Raises CannotStart."""
        await self._slots.acquire()
        try:
            return self._idle.pop() if self._idle else await self._next()
        except BaseException:
            self._slots.release()
            raise

    async def start_alone(self, gpt: Mapping[str, Any] | None) -> ChildProcess:
        """Return a fresh child outside the slots, for one attempt. Raises CannotStart."""
        return await self._start(gpt)

    def release(self, child: ChildProcess, *, leftovers: bool) -> None:
        """Give back a child from `acquire` or `take`: it is kept for the next attempt, or ended."""
        self._slots.release()
        if child.is_usable and not leftovers and not self._is_worn(child) and not self._is_closed:
            self._keep(child)
            return
        self.end(child, leftovers=leftovers)
        self._start_spare()

    def end(self, child: ChildProcess, *, leftovers: bool) -> None:
        """End a child that has done its work."""
        child.listener = Ending()
        if leftovers:
            child.kill()
        else:
            child.kill_alone()

    def _keep(self, child: ChildProcess) -> None:
        child.listener = Idle(lambda detail: self._lose(child, detail))
        self._idle.append(child)

    def _lose(self, child: ChildProcess, detail: str) -> None:
        if child in self._idle:
            self._idle.remove(child)
            _log.warning("child.ended_while_idle", pid=child.pid, detail=detail)

    def _is_worn(self, child: ChildProcess) -> bool:
        if child.attempts >= self._max_attempts:
            return True
        return self._max_memory is not None and resident_memory(child.pid) > self._max_memory

    def _start_spare(self) -> None:
        """Have one child ready before it is needed."""
        if self._spare is None and not self._idle and self.free > 0 and not self._is_closed:
            self._spare = asyncio.get_running_loop().create_task(self._start())
            self._starts.add(self._spare)
            self._spare.add_done_callback(self._spare_started)

    def _spare_started(self, spare: asyncio.Task[ChildProcess]) -> None:
        self._starts.discard(spare)
        if spare is self._spare:
            self._spare = None
            self._keep_started(spare)

    def _keep_started(self, spare: asyncio.Task[ChildProcess]) -> None:
        if not spare.cancelled() and spare.exception() is None:
            self._keep(spare.result())

    async def _next(self) -> ChildProcess:
        """Return the child that is being started as a spare, else start one."""
        if self._spare is None:
            return await self._start()
        spare, self._spare = self._spare, None
        try:
            return await asyncio.shield(spare)
        except asyncio.CancelledError:  # leave it to another attempt
            if self._spare is None and not spare.done():
                self._spare = spare
            else:
                spare.add_done_callback(self._keep_started)
            raise

    async def _start(self, gpt: Mapping[str, Any] | None = None) -> ChildProcess:
        await asyncio.sleep(max(0.0, self._start_after - asyncio.get_running_loop().time()))
        try:
            child = await self._start_now(gpt)
        except (CannotStart, OSError) as error:
            self._failed(str(error))
            raise CannotStart(f"the child process for the task did not start: {error}") from None
        self._failures, self.fault = 0, None
        return child

    def _failed(self, reason: str) -> None:
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        self._start_after = asyncio.get_running_loop().time() + pause
        self.fault = reason
        _log.error("child.did_not_start", reason=reason, next_try_seconds=pause)

    async def _start_now(self, gpt: Mapping[str, Any] | None) -> ChildProcess:
        starting = Starting()
        child = ChildProcess(self._spec, starting)
        self._children.add(child)
        child.exited.add_done_callback(lambda _: self._children.discard(child))
        try:
            async with asyncio.timeout(START_WITHIN):
                await child.connect(self._spec.init(gpt))
                await starting.ready
        except TimeoutError:
            self.end(child, leftovers=True)
            raise CannotStart(f"it took longer than {START_WITHIN:g} s to load the tasks") from None
        except BaseException:
            self.end(child, leftovers=True)
            raise
        return child


def log_line(line: Line, **names: Any) -> None:
    """Write a line of a child into the service's log, at the nearest standard level."""
    level = min(50, max(10, line.level // 10 * 10))
    _log.log(level, line.text, source=line.source, **names)
