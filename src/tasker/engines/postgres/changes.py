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
from tasker.engines.postgres.connections import Connection
from tasker.engines.postgres.limits import Limits
from tasker.engines.postgres.line import Line
from tasker.engines.postgres.notices import News
from tasker.engines.postgres.promotion import promote
from tasker.engines.postgres.retention import Erasure
from tasker.engines.postgres.rows import head_of, task_of
from tasker.engines.postgres.ties import End, Options
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

    async def cancel(self, connection: Connection, news: News, task_id: UUID, again: bool) -> Task:
        """Cancel a pending task, or ask the worker of a running one to. `again`: an earlier try may have done it."""
        status = await self.cancel_if_open(connection, news, task_id)
        if status not in ("pending", "running") and not (again and status == "cancelled"):
            raise Conflict(f"the task is {status}: only a pending or running task can be cancelled")
        return await self._task(connection, task_id)

    async def cancel_if_open(self, connection: Connection, news: News, task_id: UUID) -> str:
        """Do what `cancel` does, or nothing if the task has ended; return the status that was found."""
        row = await self._locked(connection, task_id)
        if row["status"] == "running":
            await connection.execute(self._queries["request_cancel"], row["seq"])
            news.changes.append(Change(task_id, Status.RUNNING, cancel_requested=True))
        elif row["status"] == "pending":
            head = head_of(await connection.fetchrow(self._queries["cancel_pending"], row["seq"]))
            news.notes.append(ended(task_id, Status.CANCELLED, head.attempt, head.last + 1))
            await connection.execute(self._queries["forget_dependencies"], [row["seq"]])
            await self._options.leave_line(connection, [task_id])
            if row["concurrency_key"] is not None:  # others may have been parked behind it
                await self._limits.left(connection, news, [row])
            news.changes.append(Change(task_id, Status.CANCELLED))
            if row["has_dependants"]:
                await self._options.settle_dependants(connection, news, [End(task_id, Status.CANCELLED, None)])
        return str(row["status"])

    async def retry(self, connection: Connection, news: News, task_id: UUID, again: bool) -> Task:
        """Make a failed or cancelled task pending again. `again`: an earlier try may have done it."""
        await self._options.lock_key_of(connection, task_id)
        row = await self._locked(connection, task_id)
        if again and row["status"] in ("pending", "running"):
            return await self._task(connection, task_id)
        if row["status"] not in ("failed", "cancelled"):
            raise Conflict(f"the task is {row['status']}: only a failed or cancelled task can be retried")
        depends_on = read_extra(row["extra"])["depends_on"] if row["extra"] else ()
        waits_for, failed = await self._options.check_retry(
            connection, row["owner"], row["type"], row["unique_key"], depends_on, may_miss=row["saw_all"]
        )
        if failed is not None:
            raise Conflict(f"task {failed}, on which it depends, has not completed: retry that one first")
        await connection.execute(self._queries["keep_latest_attempt"], row["seq"])
        head = await connection.fetchrow(self._queries["head_by_seq"], row["seq"])
        entries = reopened(head_of(head), head["now"])
        await keep(connection, self._queries, [(row["seq"], entry) for entry in entries])
        news.notes.append(logged(task_id, entries[-1:]))
        await connection.execute(self._queries["retry_task"], row["seq"], entries[-1].sequence)
        if waits_for:
            await self._options.wait_for(connection, row["seq"], waits_for)
        await promote(connection, self._queries, self._line, news)
        news.changes.append(Change(task_id, Status.PENDING))
        return await self._task(connection, task_id)

    async def delete(self, connection: Connection, task_id: UUID, again: bool) -> None:
        """Erase a terminal task with all that belongs to it. `again`: an earlier try may have done it."""
        try:
            row = await self._locked(connection, task_id)
        except NotFound as error:
            if again and not isinstance(error, Expired):
                return
            raise
        if row["status"] in ("pending", "running"):
            raise Conflict(f"the task is {row['status']}: cancel it first, then delete it")
        if row["has_dependants"] and await connection.fetchval(self._queries["is_awaited"], task_id):
            raise Conflict("tasks that depend on it are about to hear of its end: delete it a little later")
        await self._erasure.delete(connection, row["seq"], task_id)

    async def prune(self, connection: Connection, erase_until: EraseUntil, limit: int) -> int:
        """Erase some of what is past its time: tasks, keys, and workers that have long said nothing."""
        if not await self._alone(connection, "prune"):
            return 0
        await connection.execute(self._queries["prune_workers"], KEEP_WORKERS_FOR)
        await connection.execute(self._queries["merge_usage"], limit)
        return await self._erasure.prune(connection, await erase_until(connection), limit)

    async def prune_journal(self, connection: Connection, work: Callable[[Connection], Awaitable[int]]) -> int:
        """Do `work`, unless another process does the same just now."""
        return await work(connection) if await self._alone(connection, "journal") else 0

    async def empty_log(self, connection: Connection) -> None:
        """Empty PgQueuer's log and statistics once they are large: at once, and only if nobody holds them just now.

        Raises Unavailable where somebody does: whoever waits for such a lock keeps all others waiting behind.
        """
        if await connection.fetchval(self._queries["log_size"]) <= LARGEST_LOG:
            return
        queries = self._line.queries(connection)
        try:  # a role that may not empty it leaves that to others; see tasker migrate
            await connection.execute("SET LOCAL lock_timeout = '100ms'")
            await queries.clear_queue_log()
            await queries.clear_statistics_log()
        except asyncpg.LockNotAvailableError as error:
            raise Unavailable("PgQueuer's log is in use") from error
        except asyncpg.InsufficientPrivilegeError as error:
            raise Unavailable("this role may not empty PgQueuer's log: grant it TRUNCATE") from error

    async def sweep(self, connection: Connection, news: News, limit: int) -> int:
        """Put right one window of the pending tasks and one of the line; the next call goes on behind them."""
        if not await self._alone(connection, "sweep"):
            return 0
        found = await self._sweep_pending(connection, limit) + await self._sweep_line(connection, limit)
        found += await self._limits.unpark_many(connection, news, limit)
        unsettled = await self._options.find_unsettled(connection, limit)
        if unsettled:
            await self._options.settle_rest(connection, news, unsettled)
        await promote(connection, self._queries, self._line, news, limit=limit)
        return found

    async def _sweep_pending(self, connection: Connection, limit: int) -> int:
        """Pending tasks that should be in line, and are not."""
        window = *self._pending_from, limit
        rows = await connection.fetch(self._queries["unlined"], *window)
        end = await connection.fetchrow(self._queries["pending_window"], *window)
        self._pending_from = _FIRST if end is None else (end["queue"], end["type"], end["due_at"], end["seq"])
        return len(rows)

    async def _sweep_line(self, connection: Connection, limit: int) -> int:
        """Jobs in line of which no open task knows."""
        rows = await connection.fetch(self._queries["strays"], self._jobs_from, limit)
        await self._line.leave(connection, [(row["id"], "deleted") for row in rows])
        self._jobs_from = await connection.fetchval(self._queries["jobs_window"], self._jobs_from, limit) or 0
        return len(rows)

    async def _alone(self, connection: Connection, chore: str) -> bool:
        """Tell whether this process is the one that does a chore; it is until the transaction ends."""
        return bool(await connection.fetchval(self._queries["only_one"], _CHORES, zlib.crc32(chore.encode()) >> 1))

    async def _locked(self, connection: Connection, task_id: UUID) -> asyncpg.Record:
        row: asyncpg.Record | None = await connection.fetchrow(self._queries["lock_task"], task_id)
        if row is None or row["is_over"]:
            tombstone = await self._erasure.find_tombstone(connection, task_id)
            if tombstone is not None:
                raise Expired.of(task_id, tombstone.expired_at)
            raise NotFound(f"there is no task {task_id}")
        return row

    async def _task(self, connection: Connection, task_id: UUID) -> Task:
        row: Any = await connection.fetchrow(self._queries["task_by_id"], task_id)
        return task_of(row)
