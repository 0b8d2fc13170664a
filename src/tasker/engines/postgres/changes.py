"""What clients and chores change: cancel, retry, delete, prune and sweep. Each is one transaction."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg

from tasker.engines.postgres.attempts import keep
from tasker.engines.postgres.clock_steps import EraseUntil
from tasker.engines.postgres.limits import Limits
from tasker.engines.postgres.line import Line
from tasker.engines.postgres.promotion import promote
from tasker.engines.postgres.retention import Erasure
from tasker.engines.postgres.rows import head_of, task_of
from tasker.engines.postgres.ties import End, Options
from tasker.engines.postgres.transaction import Connection, Transaction
from tasker.engines.shared.journal import ended, logged
from tasker.engines.shared.log import reopened
from tasker.engines.shared.values import read_extra
from tasker.errors import Conflict, Expired, NotFound, Unavailable
from tasker.model import Change, Status, Task
from tasker.model.keeping import KEEP_WORKERS_FOR

LARGEST_LOG = 64 << 20
"""Bytes that PgQueuer's own log may take before it is emptied: nothing of ours reads it."""
_CHORES = 0x63686F72
"""The class of the advisory locks of chores: "chor"."""
_FIRST: tuple[str, str, datetime, int] = ("", "", datetime(1, 1, 1, tzinfo=UTC), 0)


class Changes:
    """The changes of clients and chores, on the tables of one schema."""

    def __init__(self, queries: dict[str, str], line: Line, limits: Limits, options: Options, erasure: Erasure) -> None:
        self._queries = queries
        self._erasure = erasure
        self._line = line
        self._limits = limits
        self._options = options
        self._pending_from = _FIRST
        self._jobs_from = 0

    async def cancel(self, tx: Transaction, task_id: UUID) -> Task:
        """Cancel a pending task, or ask the worker of a running one to. `again`: an earlier try may have done it."""
        status = await self.cancel_if_open(tx, task_id)
        if status not in ("pending", "running") and not (tx.is_retry and status == "cancelled"):
            raise Conflict(f"the task is {status}: only a pending or running task can be cancelled")
        return await self._task(tx, task_id)

    async def cancel_if_open(self, tx: Transaction, task_id: UUID) -> str:
        """Do what `cancel` does, or nothing if the task has ended; return the status that was found."""
        row = await self._locked(tx, task_id)
        if row["status"] == "running":
            await tx.execute(self._queries["request_cancel"], row["seq"])
            tx.changes.append(Change(task_id, Status.RUNNING, cancel_requested=True))
        elif row["status"] == "pending":
            head = head_of(await tx.fetchrow(self._queries["cancel_pending"], row["seq"]))
            tx.journal.append(ended(task_id, Status.CANCELLED, head.attempt, head.last + 1))
            await tx.execute(self._queries["forget_dependencies"], [row["seq"]])
            await self._options.leave_line(tx, [task_id])
            if row["concurrency_key"] is not None:  # others may have been parked behind it
                await self._limits.left(tx, [row])
            tx.changes.append(Change(task_id, Status.CANCELLED))
            if row["has_dependants"]:
                await self._options.settle_dependants(tx, [End(task_id, Status.CANCELLED, None)])
        return str(row["status"])

    async def retry(self, tx: Transaction, task_id: UUID) -> Task:
        """Make a failed or cancelled task pending again. `again`: an earlier try may have done it."""
        await self._options.lock_key_of(tx, task_id)
        row = await self._locked(tx, task_id)
        if tx.is_retry and row["status"] in ("pending", "running"):
            return await self._task(tx, task_id)
        if row["status"] not in ("failed", "cancelled"):
            raise Conflict(f"the task is {row['status']}: only a failed or cancelled task can be retried")
        depends_on = read_extra(row["extra"])["depends_on"] if row["extra"] else ()
        waits_for, failed = await self._options.check_retry(
            tx, row["owner"], row["type"], row["unique_key"], depends_on, may_miss=row["saw_all"]
        )
        if failed is not None:
            raise Conflict(f"task {failed}, on which it depends, has not completed: retry that one first")
        await tx.execute(self._queries["keep_latest_attempt"], row["seq"])
        head = await tx.fetchrow(self._queries["head_by_seq"], row["seq"])
        entries = reopened(head_of(head), head["now"])
        await keep(tx, self._queries, [(row["seq"], entry) for entry in entries])
        tx.journal.append(logged(task_id, entries[-1:]))
        await tx.execute(self._queries["retry_task"], row["seq"], entries[-1].sequence)
        if waits_for:
            await self._options.wait_for(tx, row["seq"], waits_for)
        await promote(tx, self._queries, self._line)
        tx.changes.append(Change(task_id, Status.PENDING))
        return await self._task(tx, task_id)

    async def delete(self, tx: Transaction, task_id: UUID) -> None:
        """Erase a terminal task with all that belongs to it. `again`: an earlier try may have done it."""
        try:
            row = await self._locked(tx, task_id)
        except NotFound as error:
            if tx.is_retry and not isinstance(error, Expired):
                return
            raise
        if row["status"] in ("pending", "running"):
            raise Conflict(f"the task is {row['status']}: cancel it first, then delete it")
        if row["has_dependants"] and await tx.fetchval(self._queries["is_awaited"], task_id):
            raise Conflict("tasks that depend on it are about to hear of its end: delete it a little later")
        await self._erasure.delete(tx, row["seq"], task_id)

    async def prune(self, tx: Transaction, erase_until: EraseUntil, limit: int) -> int:
        """Erase some of what is past its time: tasks, keys, and workers that have long said nothing."""
        if not await self._alone(tx, "prune"):
            return 0
        await tx.execute(self._queries["prune_workers"], KEEP_WORKERS_FOR)
        await tx.execute(self._queries["merge_usage"], limit)
        return await self._erasure.prune(tx, await erase_until(tx), limit)

    async def prune_journal(self, tx: Transaction, work: Callable[[Connection], Awaitable[int]]) -> int:
        """Do `work`, unless another process does the same just now."""
        return await work(tx) if await self._alone(tx, "journal") else 0

    async def empty_log(self, tx: Transaction) -> None:
        """Empty PgQueuer's log and statistics once they are large: at once, and only if nobody holds them just now.

        Raises Unavailable where somebody does: whoever waits for such a lock keeps all others waiting behind.
        """
        if await tx.fetchval(self._queries["log_size"]) <= LARGEST_LOG:
            return
        queries = self._line.queries(tx)
        try:  # a role that may not empty it leaves that to others; see tasker migrate
            await tx.execute("SET LOCAL lock_timeout = '100ms'")
            await queries.clear_queue_log()
            await queries.clear_statistics_log()
        except asyncpg.LockNotAvailableError as error:
            raise Unavailable("PgQueuer's log is in use") from error
        except asyncpg.InsufficientPrivilegeError as error:
            raise Unavailable("this role may not empty PgQueuer's log: grant it TRUNCATE") from error

    async def sweep(self, tx: Transaction, limit: int) -> int:
        """Put right one window of the pending tasks and one of the line; the next call goes on behind them."""
        if not await self._alone(tx, "sweep"):
            return 0
        found = await self._sweep_pending(tx, limit) + await self._sweep_line(tx, limit)
        found += await self._limits.unpark_many(tx, limit)
        unsettled = await self._options.find_unsettled(tx, limit)
        if unsettled:
            await self._options.settle_rest(tx, unsettled)
        await promote(tx, self._queries, self._line, limit=limit)
        return found

    async def _sweep_pending(self, tx: Transaction, limit: int) -> int:
        """Pending tasks that should be in line, and are not."""
        window = *self._pending_from, limit
        rows = await tx.fetch(self._queries["unlined"], *window)
        end = await tx.fetchrow(self._queries["pending_window"], *window)
        self._pending_from = _FIRST if end is None else (end["queue"], end["type"], end["due_at"], end["seq"])
        return len(rows)

    async def _sweep_line(self, tx: Transaction, limit: int) -> int:
        """Jobs in line of which no open task knows."""
        rows = await tx.fetch(self._queries["strays"], self._jobs_from, limit)
        await self._line.leave(tx, [(row["id"], "deleted") for row in rows])
        self._jobs_from = await tx.fetchval(self._queries["jobs_window"], self._jobs_from, limit) or 0
        return len(rows)

    async def _alone(self, tx: Transaction, chore: str) -> bool:
        """Tell whether this process is the one that does a chore; it is until the transaction ends."""
        return bool(await tx.fetchval(self._queries["only_one"], _CHORES, zlib.crc32(chore.encode()) >> 1))

    async def _locked(self, tx: Transaction, task_id: UUID) -> asyncpg.Record:
        row: asyncpg.Record | None = await tx.fetchrow(self._queries["lock_task"], task_id)
        if row is None or row["is_over"]:
            tombstone = await self._erasure.find_tombstone(tx, task_id)
            if tombstone is not None:
                raise Expired.of(task_id, tombstone.expired_at)
            raise NotFound(f"there is no task {task_id}")
        return row

    async def _task(self, tx: Transaction, task_id: UUID) -> Task:
        row: Any = await tx.fetchrow(self._queries["task_by_id"], task_id)
        return task_of(row)
