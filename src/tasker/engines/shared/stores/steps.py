"""The reads of the StepStore. Each engine adds the writes, and the children."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Generic
from uuid import UUID

from tasker.engines.shared.rows import Database, R
from tasker.engines.shared.steps import as_read, asked_by, family_of
from tasker.engines.shared.tables import STEPS
from tasker.model.steps import Family, OpenQuestion, Step, StepKind


class StepReads(Generic[R]):
    """Reads of steps and questions."""

    def __init__(self, database: Database[R]) -> None:
        self._database = database

    async def find(self, task_id: UUID) -> list[Step]:
        steps = await self._database.look(lambda rows: rows.structs("steps_of", STEPS, task_id=task_id))
        return [as_read(step) for step in steps]

    async def find_last(self, task_id: UUID, *, limit: int, kind: StepKind | None = None) -> list[Step]:
        values: dict[str, Any] = {"task_id": task_id, "limit": limit} | ({} if kind is None else {"kind": kind})
        query = "last_steps_of" if kind is None else "last_steps_of_kind"
        steps = await self._database.look(lambda rows: rows.structs(query, STEPS, **values))
        return sorted(steps, key=lambda step: step.number)

    async def find_some(self, task_id: UUID, keys: Sequence[str]) -> list[Step]:
        steps = await self._database.look(
            lambda rows: rows.structs("some_steps_of", STEPS, task_id=task_id, keys=list(keys))
        )
        return [as_read(step) for step in steps]

    async def find_family(self, task_id: UUID) -> Family | None:
        found = await self._database.look(
            lambda rows: rows.fetch("family_of", int, str, datetime, bytes, task_id=task_id)
        )
        return family_of(task_id, *found[0]) if found else None

    async def find_questions(self, *, owner: str | None = None, limit: int) -> list[OpenQuestion]:
        values: dict[str, Any] = {"limit": limit} | ({} if owner is None else {"owner": owner})
        query = "questions" if owner is None else "questions_of"
        found = await self._database.look(lambda rows: rows.fetch(query, UUID, str, str, STEPS, **values))
        return [
            OpenQuestion(task_id=task_id, type=type_, owner=whose, key=step.key, asked=asked_by(step))
            for task_id, type_, whose, step in found
        ]
