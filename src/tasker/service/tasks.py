"""The use cases of tasks: find, get, list, cancel, retry, delete."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from uuid import UUID

import msgspec

from tasker.engines.protocol import Engine
from tasker.errors import Conflict, Expired, NotFound
from tasker.model import LOG_LEVELS, Attempt, LogLevel, LogPage, Page, Task, TaskCount, TaskFilter
from tasker.model.keys import Caller
from tasker.model.steps import Forget
from tasker.requests.steps import check_names
from tasker.rules.secrets import find_masks
from tasker.service.admission import OpenQueues
from tasker.service.cursors import Cursors
from tasker.service.inbox import Inbox
from tasker.tasktypes.registry import Registry

_MOST_STEPS = 1_000_000
"""Steps of a task whose names are looked up: all of them."""


@dataclass
class Tasks:
    """The stored tasks. For a caller, tasks that it may not see do not exist."""

    _engine: Engine
    _registry: Registry
    _cursors: Cursors
    _open_queues: OpenQueues
    _inbox: Inbox

    async def find(self, caller: Caller, task_id: UUID) -> Task | None:
        """Return the task; None if there is none, or the caller may not see it."""
        task = await self._engine.find(task_id)
        if task is None and self._inbox.store is not None:
            # Read again: it has been taken in, or another process has just done that.
            task = await self._inbox.find(task_id) or await self._engine.find(task_id)
        return task if task is None or caller.sees(task.owner) else None

    async def get(self, caller: Caller, task_id: UUID) -> Task:
        """Return the task. Raises NotFound, Expired."""
        task = await self.find(caller, task_id)
        if task is None:
            raise await self._missing(caller, task_id)
        return task

    async def _missing(self, caller: Caller, task_id: UUID) -> NotFound:
        """Return the error for a task that does not exist."""
        tombstone = await self._engine.tombstones.find(task_id)
        if tombstone is not None and caller.sees(tombstone.owner):
            return Expired.of(task_id, tombstone.expired_at)
        return NotFound(f"there is no task {task_id}")

    async def check_owner(self, caller: Caller, task_id: UUID) -> None:
        """Raise NotFound for another owner's task. One check is enough: a task never changes its owner."""
        if caller.only is not None:
            await self.get(caller, task_id)

    async def find_many(self, caller: Caller, where: TaskFilter, *, limit: int, cursor: str | None = None) -> Page:
        """Return tasks, newest first. Raises Invalid for a cursor that no page returned."""
        seen = caller.narrow(where)
        if seen is None:
            return Page(items=[])
        found = partial(self._engine.find_many, seen, limit=limit)
        return await self._cursors.page("task", cursor, lambda at: found(cursor=at))

    async def count(self, caller: Caller, where: TaskFilter, *, at_most: int = 10_001) -> TaskCount:
        """Count the tasks that `find_many` would list, as Engine.count does."""
        seen = caller.narrow(where)
        return TaskCount(0, is_exact=True) if seen is None else await self._engine.count(seen, at_most=at_most)

    async def attempts(self, caller: Caller, task_id: UUID) -> list[Attempt]:
        """Return the attempts of a task, oldest first. Raises NotFound for another owner's."""
        await self.check_owner(caller, task_id)
        return await self._engine.find_attempts(task_id)

    async def log(
        self, caller: Caller, task_id: UUID, *, level: LogLevel = "debug", limit: int = 100, before: int | None = None
    ) -> LogPage:
        """Return the last log events of a level or a higher one, before a sequence if given. Raises NotFound."""
        await self.get(caller, task_id)
        levels = None if level == LOG_LEVELS[0] else LOG_LEVELS[LOG_LEVELS.index(level) :]
        return await self._engine.find_log(task_id, levels=levels, limit=limit, before=before)

    async def cancel(self, caller: Caller, task_id: UUID) -> Task:
        """Cancel a pending task; ask a running one to stop. Raises NotFound, Conflict (it has ended)."""
        await self.check_owner(caller, task_id)
        try:
            return await self._engine.cancel(task_id)
        except NotFound:
            if not await self._inbox.admit(task_id):
                raise
        return await self._engine.cancel(task_id)

    async def retry(self, caller: Caller, task_id: UUID, forget: Forget | None = None) -> Task:
        """Make a failed or cancelled task pending again; it runs the steps again that it has to `forget`.

        Raises NotFound, Conflict (any other status, or its owner has too many open queues), Invalid (there is no step
        of a name in `forget`).
        """
        await self.check_owner(caller, task_id)
        if any(task_type.secrets is not None for task_type in self._registry.known()):
            await self._check_secrets(task_id)
        task = await self._engine.find(task_id)
        if task is None or not task.status.is_terminal:
            return await self._engine.retry(task_id)  # raises what is wrong
        if forget is not None:
            check_names(forget, await self._engine.steps.find_last(task_id, limit=_MOST_STEPS))
        entered = task.owner or "", task.queue
        await self._open_queues.enter(*entered)
        try:
            return await self._engine.retry(task_id, forget)
        finally:
            self._open_queues.leave([entered])

    async def _check_secrets(self, task_id: UUID) -> None:
        """Raise Conflict for a task that cannot run again because its secret params were erased when it ended."""
        task = await self._engine.find(task_id)
        task_type = None if task is None else self._registry.find(task.type)
        if task is None or task_type is None or task_type.secrets is None or not task.status.is_terminal:
            return
        if find_masks(msgspec.json.decode(task.params), task_type.secrets):
            raise Conflict("its secret params were erased when it ended: submit it again")

    async def delete(self, caller: Caller, task_id: UUID) -> None:
        """Erase a task that has ended. Raises NotFound, Conflict (it is open)."""
        await self.check_owner(caller, task_id)
        await self._engine.delete(task_id)
