"""Steps of tasks in transactions: stored by attempts, copied, forgotten. The tasks' rows are locked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from tasker.engines.postgres.tables import Texts
from tasker.engines.postgres.transaction import Transaction
from tasker.engines.shared.steps import to_forget
from tasker.engines.shared.tables import STEPS, Table
from tasker.model.steps import Forget, NewStep, Step


class Reported(NamedTuple):
    """Steps that one attempt reports. seq: of its task."""

    seq: int
    attempt: int
    owner: str
    steps: Sequence[NewStep]


class StoredSteps:
    """The steps, on the tables of one schema."""

    def __init__(self, texts: Texts) -> None:
        self._queries = texts.queries
        self._table: Table[Step] = texts.tables[STEPS]

    async def put(self, tx: Transaction, reported: Sequence[Reported]) -> None:
        """Store steps; those whose key is stored stay as they are, but for the end of a sleep."""
        rows, sleeps, asking = [], [], []
        for seq, attempt, owner, steps in reported:
            for place, step in enumerate(steps, start=1):
                asks = owner if step.kind == "input" and step.finished_at is None else None
                times = step.started_at, step.finished_at, step.until
                values = asks, step.question, step.value, step.secret_value
                rows.append((seq, place, step.key, step.name, step.kind, attempt, *times, *values))
                if asks is not None:
                    asking.append(seq)
                elif step.kind == "sleep" and step.finished_at is not None:
                    sleeps.append((seq, step.key, step.finished_at))
        if rows:
            await tx.execute(self._queries["insert_steps"], *_columns(rows))
        if sleeps:
            await tx.execute(self._queries["end_sleeps"], *_columns(sleeps))
        if asking:
            await tx.execute(self._queries["concern_others"], asking)

    async def find(self, tx: Transaction, seq: int) -> list[Step]:
        """Return the steps of a task, in order."""
        return [self.value(row) for row in await tx.fetch(self._queries["steps_by_seq"], seq)]

    async def find_one(self, tx: Transaction, seq: int, key: str) -> Step | None:
        """Return a step of a task."""
        row = await tx.fetchrow(self._queries["step_by_key"], seq, key)
        return None if row is None else self.value(row)

    async def forget(self, tx: Transaction, seq: int, forget: Forget) -> None:
        """Have steps of an ended task forgotten before the commit. Raises Invalid."""
        steps = await self.find(tx, seq)
        tx.family.forgotten += [(seq, step.number) for step in to_forget(steps, forget)]

    async def copy(self, tx: Transaction, copies: Sequence[tuple[UUID, UUID]]) -> None:
        """Give new tasks the steps of others, without their children: each pair is a new task and the other one."""
        seqs = {row["task_seq"] for row in await tx.fetch(self._queries["copy_steps"], *_columns(copies))}
        if seqs:
            await tx.execute(self._queries["concern_others"], list(seqs))

    def value(self, row: Any) -> Step:
        """Return the Step of a row of the shape's columns."""
        return self._table.value(row.values())


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
