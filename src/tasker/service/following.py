"""The use cases of following one task: wait for its end or a change, and read its events as they come."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import structlog

from tasker.engines.protocol import Engine
from tasker.errors import Unavailable
from tasker.model import Event, Task
from tasker.model.keys import Caller
from tasker.service.feed import HEARTBEAT
from tasker.service.hub import Hub
from tasker.service.tasks import Tasks

EVENTS_AT_ONCE = 25
"""Events of a task that are read at a time, which bounds the memory for a slow reader."""
_LAST_LOOK = 15.0
"""Longest pause in seconds between reads of a followed task: a notification may have been lost."""
_FIRST_LOOK = 0.25
"""First pause if other processes run the tasks, doubled each time: they notify only of reports and ends."""
_MARK_AGAIN, _LONGEST_MARK_PAUSE = 0.01, 1.0
"""Pauses in seconds between tries to have a task followed, doubled each time."""
_LONGEST_OUTAGE_PAUSE = _LAST_LOOK
"""The longest such pause while the store takes no writes, for example a standby: then no task ends either."""
_log = structlog.get_logger(__name__)


class Following:
    """Waits for ends, changes and events of tasks. Every wait ends when the service stops.

    On a shared store other processes notify only of tasks that are followed (`Peers.follow_task`): each wait that finds
    its task open has it followed, and then looks again.
    """

    def __init__(self, engine: Engine, tasks: Tasks, hub: Hub) -> None:
        self._engine = engine
        self._tasks = tasks
        self._hub = hub
        self._first_look = _FIRST_LOOK if engine.is_shared else _LAST_LOOK

    async def wait(self, caller: Caller, task_id: UUID, at_most: timedelta, *, is_followed: bool = False) -> Task:
        """Return the task once it has ended, or as it is when time is up or the service stops. Raises NotFound.

        is_followed: whether it was submitted as a followed task (Draft.is_awaited).
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + at_most.total_seconds()
        mark = _Mark(self._engine, task_id, is_made=is_followed)
        while True:
            with self._hub.ending(task_id) as ended:
                task = await self._tasks.get(caller, task_id)
                if task.status.is_terminal or self._hub.closed or loop.time() >= deadline:
                    return task
                del task  # thousands may wait, and params are large
                if not mark.is_made and await mark.make():
                    continue
                timer = loop.call_at(min(deadline, loop.time() + min(_LAST_LOOK, mark.pause)), _finish, ended)
                try:
                    await ended
                finally:
                    timer.cancel()

    async def wait_for_change(
        self, caller: Caller, task_id: UUID, at_most: timedelta, is_new: Callable[[Task], Awaitable[bool]]
    ) -> Task:
        """Return the task once `is_new` accepts it, or as `wait` does. Raises NotFound."""
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + at_most.total_seconds(), self._first_look
        mark = _Mark(self._engine, task_id)
        while True:
            with self._hub.changing(task_id) as changed:
                task, left = await self._tasks.get(caller, task_id), deadline - loop.time()
                if task.status.is_terminal or self._hub.closed or left <= 0 or await is_new(task):
                    return task
                del task
                if not mark.is_made and await mark.make():
                    continue
                if not (await asyncio.wait([changed], timeout=min(left, pause, mark.pause)))[0]:
                    pause = min(pause * 2, _LAST_LOOK)

    async def events(self, caller: Caller, task_id: UUID, *, after: int = 0) -> list[Event]:
        """Return the first events of a task with a sequence above `after`, at most EVENTS_AT_ONCE.

        Raises NotFound for another owner's task.
        """
        await self._tasks.check_owner(caller, task_id)
        return await self._events(task_id, after)

    async def _events(self, task_id: UUID, after: int) -> list[Event]:
        return await self._engine.find_events(task_id, after=after, limit=EVENTS_AT_ONCE)

    async def follow(self, caller: Caller, task_id: UUID, *, after: int = 0) -> AsyncGenerator[list[Event], None]:
        """Yield the events of a task with a sequence above `after` as they come, until it ends or the service stops.

        Nothing is read ahead of a slow reader. While nothing happens, an empty list comes every HEARTBEAT seconds. The
        events of a task that is retried later go on: follow it again. Raises NotFound for another owner's task.
        """
        await self._tasks.check_owner(caller, task_id)
        loop = asyncio.get_running_loop()
        pause, sent_at = self._first_look, loop.time()
        mark = _Mark(self._engine, task_id)
        while not self._hub.closed:
            with self._hub.changing(task_id) as changed:
                events = await self._events(task_id, after)
                if events or loop.time() - sent_at >= HEARTBEAT:
                    yield events
                    sent_at = loop.time()
                if events:
                    after, pause = events[-1].sequence, self._first_look
                elif await self._is_over(task_id, after):
                    return
                elif mark.is_made or not await mark.make():
                    until_heartbeat = sent_at + HEARTBEAT - loop.time()
                    if not (await asyncio.wait([changed], timeout=min(pause, until_heartbeat, mark.pause)))[0]:
                        pause = min(pause * 2, _LAST_LOOK)

    async def _is_over(self, task_id: UUID, after: int) -> bool:
        """Tell whether no event follows `after`: the task is erased, or has ended and does not run again."""
        task = await self._engine.find(task_id)
        if task is None:
            return True
        return task.status.is_terminal and not await self._engine.find_events(task_id, after=after, limit=1)


class _Mark:
    """Has one task followed, for one wait. is_made: whether it is, so that its end will be heard."""

    def __init__(self, engine: Engine, task_id: UUID, *, is_made: bool = False) -> None:
        self._engine = engine
        self._task_id = task_id
        self._pause = _MARK_AGAIN
        self.is_made = is_made or not engine.is_shared

    @property
    def pause(self) -> float:
        """Longest pause in seconds until the task is looked at again, and the mark tried again if it is not made."""
        return math.inf if self.is_made else self._pause

    async def make(self) -> bool:
        """Try to have the task followed; return whether it is. Then the task must be looked at again."""
        longest = _LONGEST_MARK_PAUSE
        try:
            self.is_made = await self._engine.peers.follow_task(self._task_id)
        except Unavailable as error:
            longest = _LONGEST_OUTAGE_PAUSE
            if self._pause == _MARK_AGAIN:  # the first of many tries
                _log.warning("task.not_followed", task_id=str(self._task_id), reason=error.detail)
        self._pause = min(2 * self._pause, longest)
        return self.is_made


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
