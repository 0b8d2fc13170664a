"""The use cases of following one task: wait for its end or a change, and read its events as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
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
_log = structlog.get_logger(__name__)


class Following:
    """Waits for ends, changes and events of tasks. Every wait ends when the service stops.

    On a shared store other processes notify only of tasks that are followed (`Engine.follow`): each wait that finds its
    task open has it followed, and then looks again.
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
        is_followed = is_followed or not self._engine.is_shared
        while True:
            with self._hub.ending(task_id) as ended:
                task = await self._tasks.get(caller, task_id)
                if task.status.is_terminal or self._hub.closed or loop.time() >= deadline:
                    return task
                del task  # thousands may wait, and params are large
                if not is_followed:
                    is_followed = await self._follow(task_id)
                    continue
                timer = loop.call_at(min(deadline, loop.time() + _LAST_LOOK), _finish, ended)
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
        is_followed = not self._engine.is_shared
        while True:
            with self._hub.changing(task_id) as changed:
                task, left = await self._tasks.get(caller, task_id), deadline - loop.time()
                if task.status.is_terminal or self._hub.closed or left <= 0 or await is_new(task):
                    return task
                del task
                if not is_followed:
                    is_followed = await self._follow(task_id)
                elif not (await asyncio.wait([changed], timeout=min(left, pause)))[0]:
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
        """Yield the events of a task with a sequence above `after` as they come, until it ends or the service stops.

        Nothing is read ahead of a slow reader. While nothing happens, an empty list comes every HEARTBEAT seconds. The
        events of a task that is retried later go on: follow it again. Raises NotFound for another owner's task.
        """
        await self._tasks.check_owner(caller, task_id)
        loop = asyncio.get_running_loop()
        pause, sent_at = self._first_look, loop.time()
        is_followed = not self._engine.is_shared
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
                elif not is_followed:
                    is_followed = await self._follow(task_id)
                elif not (await asyncio.wait([changed], timeout=min(pause, sent_at + HEARTBEAT - loop.time())))[0]:
                    pause = min(pause * 2, _LAST_LOOK)

    async def _follow(self, task_id: UUID) -> bool:
        """Have the task followed, and return True; if the store cannot now, the waits look by themselves."""
        try:
            await self._engine.follow(task_id)
        except Unavailable as error:
            _log.warning("task.not_followed", task_id=str(task_id), reason=error.detail)
        return True

    async def _is_over(self, task_id: UUID, after: int) -> bool:
        """Tell whether no event follows `after`: the task is erased, or has ended and does not run again."""
        task = await self._engine.find(task_id)
        if task is None:
            return True
        return task.status.is_terminal and not await self._engine.find_events(task_id, after=after, limit=1)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
