"""The use cases of steps: what a task has done and waits for, its children, and the questions that people answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from msgspec import structs

from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.model import Task, TaskFilter
from tasker.model.keys import Caller
from tasker.model.steps import OpenQuestion, Step
from tasker.service.tasks import Tasks

SHOWN_CHILDREN = 20
"""Children that are shown with a task; its list of children has all of them."""


@dataclass
class StepService:
    """The steps of stored tasks. For a caller, tasks that it may not see do not exist."""

    _engine: Engine
    _clock: Clock
    _tasks: Tasks

    async def find(self, caller: Caller, task_id: UUID) -> list[Step]:
        """Return the steps of a task in the order of their numbers, secrets masked. Raises NotFound, Expired."""
        await self._tasks.get(caller, task_id)
        return [structs.replace(step, secret_value=None) for step in await self._engine.steps.find(task_id)]

    async def children(self, caller: Caller, task_id: UUID, *, limit: int = SHOWN_CHILDREN) -> list[Task]:
        """Return some children of a task, the newest first, as lists show tasks."""
        page = await self._tasks.find_many(caller, TaskFilter(parent=task_id), limit=limit)
        return page.items

    async def question(
        self, caller: Caller, task_id: UUID, name: str | None = None, asked_at: datetime | None = None
    ) -> Step:
        """Return the oldest open question of a task, or of that name; asked_at: the one that was asked then.

        Raises NotFound, Expired, Conflict (it does not ask this, or no more).
        """
        raise NotImplementedError

    async def answer(
        self, caller: Caller, task_id: UUID, name: str, value: bytes, *, asked_at: datetime | None = None
    ) -> Task:
        """Answer the oldest open question of that name with a JSON text; return the task.

        asked_at: answer only the question that was asked then (Asked.asked_at). The same answer again, by the same
        owner, changes nothing and is no error, unless the name is asked again. Raises NotFound, Expired, Conflict (it
        does not ask this, it is answered, or its time is over), Malformed, Invalid with every fault, each at a JSON
        Pointer below /value.
        """
        raise NotImplementedError

    async def questions(self, caller: Caller, *, limit: int) -> list[OpenQuestion]:
        """Return the questions that wait for people in tasks that the caller may see, oldest first."""
        return await self._engine.steps.find_questions(owner=caller.only, limit=limit)
