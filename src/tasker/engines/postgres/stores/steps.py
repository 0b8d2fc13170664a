"""The StepStore of the distributed engine."""

from __future__ import annotations

import functools
from typing import Any
from uuid import UUID

from tasker.engines.postgres.attempts import insert_events
from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.control import TaskChanges
from tasker.engines.postgres.families import Families
from tasker.engines.postgres.jobs import Jobs
from tasker.engines.postgres.rows import head_of
from tasker.engines.postgres.stored_steps import StoredSteps
from tasker.engines.postgres.submit import Submits
from tasker.engines.postgres.tables import PostgresDatabase, PostgresRows, Texts
from tasker.engines.postgres.transaction import Connection, Transaction
from tasker.engines.shared.journal import logged
from tasker.engines.shared.log import Entry
from tasker.engines.shared.refusals import id_taken
from tasker.engines.shared.steps import COLLECT_BYTES, as_read, check_room, given_data, to_store
from tasker.engines.shared.stores.steps import StepReads
from tasker.engines.shared.values import decode_problem
from tasker.errors import Conflict
from tasker.model import Lease, Status, Task
from tasker.model.steps import Child, NewChildren, Step

_AGAIN_AT_ONCE = 500
"""Limit of the children that one transaction runs again."""


class PostgresSteps(StepReads[PostgresRows]):
    """Steps and children, on the tables of one schema."""

    def __init__(
        self,
        connections: Connections,
        database: PostgresDatabase,
        texts: Texts,
        steps: StoredSteps,
        submits: Submits,
        changes: TaskChanges,
        jobs: Jobs,
        families: Families,
    ) -> None:
        super().__init__(database)
        self._connections = connections
        self._queries = texts.queries
        self._steps = steps
        self._submits = submits
        self._changes = changes
        self._families = families
        self._jobs = jobs

    async def start_children(self, lease: Lease, children: NewChildren, *, most: int) -> Step | None:
        return await self._connections.transact(lambda tx: self._start_children(tx, lease, children, most))

    async def run_children_again(self, lease: Lease, key: str) -> Step | None:
        step: Step | None = None
        after: int | None = -1
        while after is not None:
            work = functools.partial(self._run_again, lease=lease, key=key, after=after)
            step, after = await self._connections.transact(work)
        return step

    async def find_children(self, task_id: UUID, key: str, *, first: int = 0, limit: int = 1000) -> list[Child]:
        values = task_id, key, first, limit, COLLECT_BYTES

        async def query(connection: Connection) -> list[Child]:
            return [_child_of(row) for row in await connection.fetch(self._queries["children_at"], *values)]

        return await self._connections.look(query)

    async def close_question(self, lease: Lease, key: str, value: bytes | None) -> Step | None:
        async def work(tx: Transaction) -> Step | None:
            row = await self._lock_lease(tx, lease)
            if row is None:
                return None
            await tx.execute(self._queries["close_question"], row["seq"], key, value, None)
            return await self._find(tx, row["seq"], key)

        return await self._connections.transact(work)

    async def answer(self, task_id: UUID, key: str, value: bytes, by: str) -> Task:
        return await self._connections.transact(lambda tx: self._answer(tx, task_id, key, value, by))

    async def _lock_lease(self, tx: Transaction, lease: Lease) -> Any:
        """Lock the row of a lease's task; None if the lease is not current."""
        return await tx.fetchrow(self._queries["lock_lease"], lease.task_id, lease.attempt)

    async def _find(self, tx: Transaction, seq: int, key: str) -> Step | None:
        step = await self._steps.find_one(tx, seq, key)
        return None if step is None else as_read(step)

    # children

    async def _start_children(self, tx: Transaction, lease: Lease, children: NewChildren, most: int) -> Step | None:
        task = await self._lock_lease(tx, lease)
        if task is None:
            return None
        parent, new = task["seq"], children.step
        step = await self._steps.find_one(tx, parent, new.key)
        if step is None:
            check_room(await tx.fetchval(self._queries["total_children"], parent), new.total, most)
            values = new.key, new.name, lease.attempt, new.started_at, new.total, children.max_in_flight
            await tx.execute(self._queries["insert_children_step"], parent, *values)
            await tx.execute(self._queries["concern_others"], [parent])
        elif step.kind != "children":
            return as_read(step)
        row = await tx.fetchrow(self._queries["lock_step"], parent, new.key)
        await self._store_children(tx, parent, row, children)
        return await self._find(tx, parent, new.key)

    async def _store_children(self, tx: Transaction, parent: int, step: Any, children: NewChildren) -> None:
        """Store the children that were not stored before. Raises Conflict if an id belongs to another task."""
        new = to_store(children, step["stored"])
        if not new:
            return
        free = len(new) if step["max_in_flight"] is None else max(0, step["max_in_flight"] - step["in_flight"])
        held = {draft.task_id for draft in list(new.values())[free:]}
        seqs = await self._submits.insert_children(tx, list(new.values()), held)
        taken = [draft.task_id for draft in new.values() if draft.task_id not in seqs]
        if taken:
            raise id_taken(taken[0])
        columns = (
            [seqs[draft.task_id] for draft in new.values()],
            list(new),
            [draft.task_id in held for draft in new.values()],
        )
        step_id = parent, step["number"]
        await tx.execute(self._queries["insert_children"], *step_id, children.level, children.is_detached, *columns)
        await tx.execute(self._queries["step_stored"], *step_id, len(new), len(new) - len(held))

    async def _run_again(self, tx: Transaction, lease: Lease, key: str, after: int) -> tuple[Step | None, int | None]:
        """Run some failed and cancelled children again, of places after `after`; return where to go on, if not done."""
        task = await self._lock_lease(tx, lease)
        step = None if task is None else await self._find(tx, task["seq"], key)
        if step is None or not step.may_run_again:
            return step, None
        values = task["seq"], step.number, after, _AGAIN_AT_ONCE
        rows = await tx.fetch(self._queries["children_to_run_again"], *values)
        if rows:
            await self._changes.reopen(tx, rows)
            limit = await tx.fetchrow(self._queries["lock_step"], task["seq"], key)
            if limit["max_in_flight"] is not None:
                await self._hold(tx, [row["seq"] for row in rows])
        if len(rows) < _AGAIN_AT_ONCE:
            await tx.execute(self._queries["ran_again"], task["seq"], step.number)
        await self._families.finish(tx)
        await self._jobs.promote(tx)
        return await self._find(tx, task["seq"], key), rows[-1]["place"] if len(rows) == _AGAIN_AT_ONCE else None

    async def _hold(self, tx: Transaction, seqs: list[int]) -> None:
        """Hold children that are to run again; as many of them start as there is room for."""
        await tx.execute(self._queries["hold_children"], seqs)
        await tx.execute(self._queries["wait_for_others"], seqs)
        tx.family.held.update(seqs)

    # questions

    async def _answer(self, tx: Transaction, task_id: UUID, key: str, value: bytes, by: str) -> Task:
        """Store an answer; the log entry of a pending task comes before its next attempt."""
        task = await self._changes.lock(tx, task_id)
        seq, status = task["seq"], task["status"]
        step = await self._steps.find_one(tx, seq, key)
        if step is None or step.kind != "input" or status not in ("pending", "running"):
            raise Conflict(f"the task does not ask {key!r}")
        if step.finished_at is not None:
            if tx.is_retry and (step.value, step.answered_by) == (value, by):
                return await self._changes.find(tx, task_id)
            raise Conflict(f"{key!r} is answered already, or its time is over")
        row = await tx.fetchrow(self._queries["head_by_seq"], seq)
        if step.until is not None and step.until <= row["now"]:
            raise Conflict(f"the time to answer {key!r} is over")
        head = head_of(row)
        entry = Entry(head.last + 1, head.attempt, "input_given", row["now"], given_data(step, by))
        await insert_events(tx, self._queries, [(seq, entry)])
        tx.journal.append(logged(task_id, [entry]))
        await tx.execute(self._queries["set_sequence"], seq, entry.sequence)
        is_awaited = await tx.fetchval(self._queries["close_question"], seq, key, value, by)
        tx.family.note_present(seq, is_awaited=bool(is_awaited))
        await self._families.finish(tx)
        return await self._changes.find(tx, task_id)


def _child_of(row: Any) -> Child:
    error = row["error"]
    return Child(
        place=row["place"],
        task_id=row["task_id"],
        status=Status(row["status"]),
        result=row["result"],
        error=None if error is None else decode_problem(error),
    )
