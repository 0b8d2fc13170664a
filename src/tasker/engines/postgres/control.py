"""What clients change about tasks: cancel, retry, delete. Tasks of a filter: count and choose them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg

from tasker.engines.postgres.attempts import insert_events
from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.groups import TaskGroups
from tasker.engines.postgres.jobs import Jobs
from tasker.engines.postgres.lists import Lists
from tasker.engines.postgres.parking import Parking
from tasker.engines.postgres.reads import Reads
from tasker.engines.postgres.retention import Erasure, OnTasks
from tasker.engines.postgres.rows import head_of
from tasker.engines.postgres.stored_steps import StoredSteps
from tasker.engines.postgres.ties import End, TiedTasks
from tasker.engines.postgres.transaction import Transaction
from tasker.engines.shared.journal import ended, logged
from tasker.engines.shared.log import reopened
from tasker.engines.shared.refusals import cannot, child_of_open, dependency_not_completed, not_settled
from tasker.engines.shared.values import read_extra
from tasker.errors import Expired, NotFound
from tasker.model import Change, Draft, Status, Task, TaskFilter
from tasker.model.control import Chosen, Counted
from tasker.model.steps import Forget


class TaskChanges(OnTasks):
    """Cancel, retry and delete, on the tables of one schema."""

    def __init__(
        self,
        queries: dict[str, str],
        jobs: Jobs,
        parking: Parking,
        ties: TiedTasks,
        erasure: Erasure,
        steps: StoredSteps,
        groups: TaskGroups,
        reads: Reads,
    ) -> None:
        super().__init__(queries, jobs, parking, ties, erasure)
        self._steps = steps
        self._groups = groups
        self._reads = reads

    async def cancel(self, tx: Transaction, task_id: UUID) -> Task:
        """Cancel a pending task, or ask the worker of a running one to."""
        status = await self.cancel_if_open(tx, task_id)
        if status not in ("pending", "running") and not (tx.is_retry and status == "cancelled"):
            raise cannot("cancel", status)
        return await self.find(tx, task_id)

    async def cancel_if_open(self, tx: Transaction, task_id: UUID) -> str:
        """Cancel a task unless it has ended; return the status that it had."""
        row = await self.lock(tx, task_id)
        if row["status"] == "running":
            await tx.execute(self._queries["request_cancel"], row["seq"])
            tx.changes.append(Change(task_id, Status.RUNNING, cancel_requested=True))
        elif row["status"] == "pending":
            head = head_of(await tx.fetchrow(self._queries["cancel_pending"], row["seq"]))
            tx.journal.append(ended(task_id, Status.CANCELLED, head.attempt, head.last + 1))
            await tx.execute(self._queries["forget_dependencies"], [row["seq"]])
            await self._jobs.remove_pending(tx, [task_id])
            await self._parking.left(tx, [row])
            tx.changes.append(Change(task_id, Status.CANCELLED))
            if row["has_dependants"]:
                await self._ties.settle_dependants(tx, [End(task_id, Status.CANCELLED, None, row["seq"])])
        return str(row["status"])

    async def retry(self, tx: Transaction, task_id: UUID, forget: Forget | None = None) -> Task:
        """Make a failed or cancelled task pending again."""
        await self._ties.lock_key_of(tx, task_id)
        row = await self.lock(tx, task_id)
        if tx.is_retry and row["status"] in ("pending", "running"):
            return await self.find(tx, task_id)
        if row["status"] not in ("failed", "cancelled"):
            raise cannot("retry", row["status"])
        extra = read_extra(row["extra"]) if row["extra"] else _NO_TIES
        depends_on, after = extra["depends_on"], extra["depends_on_group"]
        waits_for, failed = await self._ties.check_retry(
            tx, row["owner"], row["type"], row["unique_key"], depends_on, may_miss=row["saw_all"]
        )
        if failed is not None:
            raise dependency_not_completed(failed)
        waits_for_group = after is not None and await self._groups.check_retry(tx, row["owner"], after)
        if forget is not None:
            await self._steps.forget(tx, row["seq"], forget)
        await self.reopen(tx, [row])
        if waits_for_group:
            await self._groups.wait_for(tx, row["seq"], row["owner"], after)
        if waits_for or waits_for_group:
            await self._ties.wait_for(tx, row["seq"], waits_for)
        await self._jobs.promote(tx)
        return await self.find(tx, task_id)

    async def reopen(self, tx: Transaction, rows: Sequence[Any]) -> None:
        """Make failed and cancelled tasks pending, due at once; their rows are locked."""
        tasks = {row["seq"]: row for row in rows}
        seqs = list(tasks)
        await tx.execute(self._queries["keep_latest_attempts"], seqs)
        sequences: dict[int, int] = {}
        entries = []
        for row in await tx.fetch(self._queries["heads_by_seq"], seqs):
            new = reopened(head_of(row), row["now"])
            entries += [(row["seq"], entry) for entry in new]
            tx.journal.append(logged(tasks[row["seq"]]["task_id"], new[-1:]))
            sequences[row["seq"]] = new[-1].sequence
        await insert_events(tx, self._queries, entries)
        await tx.execute(self._queries["retry_tasks"], list(sequences), list(sequences.values()))
        await tx.execute(self._queries["forget_failures"], seqs)
        tx.changes += [Change(row["task_id"], Status.PENDING) for row in rows]
        related = [row for row in rows if row["has_dependants"]]
        if related:
            tx.family.reopened.update((row["seq"], Status(row["status"])) for row in related)
            tx.family.retried.update(row["seq"] for row in related)
            await tx.execute(self._queries["ask_again"], [row["seq"] for row in related])
            await self._groups.move(tx, {row["task_id"]: Status.PENDING for row in related})

    async def delete(self, tx: Transaction, task_id: UUID) -> None:
        """Erase a terminal task with all that belongs to it."""
        try:
            row = await self.lock(tx, task_id)
        except NotFound as error:
            if tx.is_retry and not isinstance(error, Expired):
                return
            raise
        if row["status"] in ("pending", "running"):
            raise cannot("delete", row["status"])
        if row["has_dependants"] and await tx.fetchval(self._queries["is_awaited"], task_id):
            raise not_settled()
        if row["has_dependants"] and await tx.fetchval(self._queries["has_open_parent"], row["seq"]):
            raise child_of_open()
        if row["has_dependants"] and await tx.fetchval(self._queries["has_children"], row["seq"]):
            await self._erasure.mark_deleted(tx, row["seq"], task_id)
            tx.family.deleted.add(row["seq"])
            return
        await self._erasure.delete(tx, row["seq"], task_id)

    async def lock(self, tx: Transaction, task_id: UUID) -> asyncpg.Record:
        """Lock a task's row, and return it. Raises NotFound, Expired."""
        row: asyncpg.Record | None = await tx.fetchrow(self._queries["lock_task"], task_id)
        if row is None or row["is_over"]:
            tombstone = await self._erasure.find_tombstone(tx, task_id)
            if tombstone is not None:
                raise Expired.of(task_id, tombstone.expired_at)
            raise NotFound(f"there is no task {task_id}")
        return row

    async def find(self, tx: Transaction, task_id: UUID) -> Task:
        """Return a task that exists."""
        task = await self._reads.find(tx, task_id)
        assert task is not None
        return task


_NO_TIES: dict[str, Any] = {"depends_on": (), "depends_on_group": None}


class PostgresControl:
    """The Control of the distributed engine."""

    def __init__(self, connections: Connections, queries: dict[str, str], lists: Lists) -> None:
        self._connections = connections
        self._queries = queries
        self._lists = lists

    async def find_draft(self, task_id: UUID) -> Draft | None:
        row = await self._connections.read(
            lambda connection: connection.fetchrow(self._queries["draft_by_id"], task_id)
        )
        return None if row is None else Draft(**(dict(row) | {"tags": tuple(row["tags"])}))

    async def count(self, where: TaskFilter, *, cursor: str | None = None) -> Counted:
        return await self._connections.read(lambda connection: self._lists.count(connection, where, cursor))

    async def choose(self, where: TaskFilter, *, limit: int, cursor: str | None) -> Chosen:
        return await self._connections.read(lambda connection: self._lists.choose(connection, where, limit, cursor))
