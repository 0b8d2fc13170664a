"""The use cases of those who wait for a task, or follow what happens to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from uuid import UUID

from tasker.engines.protocol import Engine
from tasker.model import Event, Task
from tasker.model.keys import Caller
from tasker.service.feed import HEARTBEAT
from tasker.service.hub import Hub
from tasker.service.tasks import Tasks

EVENTS_AT_ONCE = 25
"""So many events of a task are read at once at the most: a reader that is slow has no more of them in memory."""
_LAST_LOOK = 15.0
"""Seconds between looks at a task that is followed: news of it may have been lost."""
_FIRST_LOOK = 0.25
"""The same at first, then longer each time, where other processes run the tasks: they tell of words and ends alone."""


class Following:
    """Waits for ends and changes of tasks, and their logs as they grow. Nothing here outlives the service's stop."""

    def __init__(self, engine: Engine, tasks: Tasks, hub: Hub) -> None:
        self._engine = engine
        self._tasks = tasks
        self._hub = hub
        self._first_look = _FIRST_LOOK if engine.is_shared else _LAST_LOOK

    async def wait(self, caller: Caller, task_id: UUID, at_most: timedelta) -> Task:
        """Return the task once it has ended, or as it is when time is up or the service stops. Raises NotFound."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + at_most.total_seconds()
        while True:
            with self._hub.ending(task_id) as ended:
                task = await self._tasks.get(caller, task_id)
                if task.status.is_terminal or self._hub.closed or loop.time() >= deadline:
                    return task
                del task  # thousands may wait, and params are large
                timer = loop.call_at(min(deadline, loop.time() + _LAST_LOOK), _finish, ended)
                try:
                    await ended
                finally:
                    timer.cancel()

    async def wait_for_change(
        self, caller: Caller, task_id: UUID, at_most: timedelta, is_new: Callable[[Task], Awaitable[bool]]
    ) -> Task:
        """Return the task once it is another than the caller knows, and otherwise as `wait` does. Raises NotFound."""
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + at_most.total_seconds(), self._first_look
        while True:
            with self._hub.changing(task_id) as changed:
                task, left = await self._tasks.get(caller, task_id), deadline - loop.time()
                if task.status.is_terminal or self._hub.closed or left <= 0 or await is_new(task):
                    return task
                del task
                if not (await asyncio.wait([changed], timeout=min(left, pause)))[0]:
                    pause = min(pause * 2, _LAST_LOOK)

    async def events(self, caller: Caller, task_id: UUID, *, after: int = 0) -> list[Event]:
        """Return the first events of a task with a sequence above `after`, at most EVENTS_AT_ONCE.

        Raises NotFound for another owner's task.
        """
        await self._tasks.check_owner(caller, task_id)
        return await self._events(task_id, after)

    async def _events(self, task_id: UUID, after: int) -> list[Event]:
        return await self._engine.find_events(task_id, after=after, limit=EVENTS_AT_ONCE)

    async def follow(self, caller: Caller, task_id: UUID, *, after: int = 0) -> AsyncIterator[list[Event]]:
        """Yield what happens to a task as it happens, from behind `after` on, until it has ended or the service stops.

        Nothing is kept for the reader: while it is slow, nothing more is read for it. Where nothing comes, an empty
        list does every HEARTBEAT seconds. A task that is run again later has a log that goes on: follow it anew.
        Raises NotFound for another owner's task.
        """
        await self._tasks.check_owner(caller, task_id)
        loop = asyncio.get_running_loop()
        pause, told_at = self._first_look, loop.time()
        while not self._hub.closed:
            with self._hub.changing(task_id) as changed:
                events = await self._events(task_id, after)
                if events or loop.time() - told_at >= HEARTBEAT:
                    yield events
                    told_at = loop.time()
                if events:
                    after, pause = events[-1].sequence, self._first_look
                elif await self._is_over(task_id, after):
                    return
                elif not (await asyncio.wait([changed], timeout=min(pause, told_at + HEARTBEAT - loop.time())))[0]:
                    pause = min(pause * 2, _LAST_LOOK)

    async def _is_over(self, task_id: UUID, after: int) -> bool:
        """Tell whether the event `after` is the task's last one: it is erased, or has ended and is not run again."""
        task = await self._engine.find(task_id)
        if task is None:
            return True
        return task.status.is_terminal and not await self._engine.find_events(task_id, after=after, limit=1)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
