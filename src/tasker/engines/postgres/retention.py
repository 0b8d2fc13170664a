"""Erase tasks, for their clients or when they expire, and repair the job table."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from tasker.engines.postgres.attachments import erase_webhooks
from tasker.engines.postgres.clock_steps import EraseUntil
from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.groups import TaskGroups
from tasker.engines.postgres.jobs import Jobs
from tasker.engines.postgres.parking import Parking
from tasker.engines.postgres.tables import PostgresRows, Texts
from tasker.engines.postgres.ties import TiedTasks
from tasker.engines.postgres.transaction import Connection, Transaction
from tasker.engines.shared.stores.failures import prune_failures
from tasker.errors import Unavailable
from tasker.model import Tombstone
from tasker.model.failures import KEEP_FAILURES_FOR
from tasker.model.keeping import FOREVER, KEEP_TOMBSTONES_FOR, KEEP_WORKERS_FOR

_STEP_SIZE = 4 << 20
"""Bytes of tasks that are erased in one transaction; the last task may exceed it."""
_MERGED_AT_ONCE = 2000
"""Hourly counts of failures that one step merges."""
LARGEST_LOG = 64 << 20
"""Size in bytes at which PgQueuer's own log is emptied: we do not read it."""
_RECOUNTED = 5000
"""Children that one sweep counts again; the last parent may exceed it."""
_MEMBERS = 4
"""How many times as many members of groups a sweep looks at as other rows."""
_CHORES = 0x63686F72
"""The class of the advisory locks of chores: "chor"."""
_FIRST: tuple[str, str, datetime, int] = ("", "", datetime(1, 1, 1, tzinfo=UTC), 0)


class Erasure:
    """Erases tasks, on the tables of one schema."""

    def __init__(self, queries: dict[str, str], groups: TaskGroups) -> None:
        self._queries = queries
        self._groups = groups

    async def delete(self, tx: Transaction, seq: int, task_id: UUID) -> None:
        """Erase a task for its client, with its keys."""
        await tx.execute(self._queries["bury_deleted"], [seq], KEEP_TOMBSTONES_FOR, FOREVER)
        await tx.execute(self._queries["delete_keys"], task_id)
        await self._erase(tx, [seq], [task_id])

    async def mark_deleted(self, tx: Transaction, seq: int, task_id: UUID) -> None:
        """Let a task with children be gone for its clients at once; `prune` erases it after them."""
        await tx.execute(self._queries["bury_deleted"], [seq], KEEP_TOMBSTONES_FOR, FOREVER)
        await tx.execute(self._queries["delete_keys"], task_id)
        await tx.execute(self._queries["mark_deleted"], seq)

    async def forget_members(self, tx: Transaction, seqs: Sequence[int]) -> None:
        """Take tasks that others have erased out of their groups."""
        await self._groups.erase(tx, seqs)

    async def prune(self, tx: Transaction, until: datetime, limit: int) -> int:
        """Erase some tasks and keys that expired before `until`; return how many rows are gone."""
        done = 0
        for query in ("prune_keys", "prune_tombstones"):
            done += _count(await tx.execute(self._queries[query], limit, until))
        rows = await tx.fetch(self._queries["past_their_time"], limit, until)
        if not rows:
            return done
        rows = _first(rows)
        seqs = [row["seq"] for row in rows]
        events = _count(await tx.execute(self._queries["delete_some_events"], seqs, 10 * limit))
        if events == 10 * limit:  # there may be more keys: the tasks are erased in another step
            return done + events
        await tx.execute(self._queries["delete_some_steps"], seqs, limit, _STEP_SIZE)
        if await tx.fetchval(self._queries["has_steps"], seqs):  # likewise
            return done + events + 1
        await tx.execute(self._queries["bury"], seqs, KEEP_TOMBSTONES_FOR, FOREVER)
        task_ids = [row["task_id"] for row in rows]
        await tx.execute(self._queries["outlive_tasks"], task_ids)
        await self._erase(tx, seqs, task_ids)
        return done + len(seqs)

    async def find_tombstone(self, connection: Connection, task_id: UUID) -> Tombstone | None:
        """Return the tombstone of an expired task, erased or not."""
        row = await connection.fetchrow(self._queries["when_expired"], [task_id])
        return None if row is None else Tombstone(task_id=task_id, owner=row["owner"], expired_at=row["expired_at"])

    async def buried(self, connection: Connection, task_ids: Sequence[UUID]) -> set[UUID]:
        """Return those of these tasks that were erased here."""
        return {row["task_id"] for row in await connection.fetch(self._queries["buried"], task_ids)}

    async def _erase(self, tx: Transaction, seqs: Sequence[int], task_ids: Sequence[UUID]) -> None:
        """Erase tasks and all their rows in other tables, except idempotency keys. No other code erases tasks."""
        await self._groups.erase(tx, seqs)
        await tx.execute(self._queries["erase_tasks"], seqs)
        await tx.execute(self._queries["delete_task_secrets"], task_ids)
        await erase_webhooks(tx, self._queries, task_ids)


class OnTasks:
    """Work on the tasks of one schema, with their jobs, parking, ties and erasure."""

    def __init__(
        self, queries: dict[str, str], jobs: Jobs, parking: Parking, ties: TiedTasks, erasure: Erasure
    ) -> None:
        self._queries = queries
        self._jobs = jobs
        self._parking = parking
        self._ties = ties
        self._erasure = erasure


class Retention(OnTasks):
    """Chores on the tables of one schema: prune what is past its time, repair what has drifted apart."""

    def __init__(self, texts: Texts, jobs: Jobs, parking: Parking, ties: TiedTasks, erasure: Erasure) -> None:
        super().__init__(texts.queries, jobs, parking, ties, erasure)
        self._texts = texts
        self._pending_from = _FIRST
        self._jobs_from = 0
        self._parents_from = self._unsettled_from = self._members_from = 0

    async def prune(self, tx: Transaction, erase_until: EraseUntil, limit: int) -> int:
        """Erase some expired tasks and keys, and workers that have long been silent; return how many tasks and keys."""
        if not await self._alone(tx, "prune"):
            return 0
        await tx.execute(self._queries["prune_workers"], KEEP_WORKERS_FOR)
        await tx.execute(self._queries["merge_usage"], limit)
        merged = int(await tx.fetchval(self._queries["merge_failures"], _MERGED_AT_ONCE))
        until = await erase_until(tx)
        done = await prune_failures(PostgresRows(self._texts, tx.connection, tx), until - KEEP_FAILURES_FOR, limit)
        done += merged if merged == _MERGED_AT_ONCE else 0  # there are more; fewer are left to the next minute
        return done + await self._erasure.prune(tx, until, limit)

    async def prune_journal(self, tx: Transaction, work: Callable[[Connection], Awaitable[int]]) -> int:
        """Do `work`, unless another process is pruning the journal now."""
        return await work(tx) if await self._alone(tx, "journal") else 0

    async def empty_log(self, tx: Transaction) -> None:
        """Empty PgQueuer's log and statistics once they are large.

        Raises Unavailable if they are in use: waiting for the lock would make all later transactions wait behind it.
        """
        if await tx.fetchval(self._queries["log_size"]) <= LARGEST_LOG:
            return
        pgqueuer = self._jobs.pgqueuer(tx)
        try:  # a role that may not empty it leaves that to others; see tasker migrate
            await tx.execute("SET LOCAL lock_timeout = '100ms'")
            await pgqueuer.clear_queue_log()
            await pgqueuer.clear_statistics_log()
        except asyncpg.LockNotAvailableError as error:
            raise Unavailable("PgQueuer's log is in use") from error
        except asyncpg.InsufficientPrivilegeError as error:
            raise Unavailable("this role may not empty PgQueuer's log: grant it TRUNCATE") from error

    async def sweep(self, tx: Transaction, limit: int) -> int:
        """Repair one window of pending tasks and one of jobs; the next call continues after them. Return how many."""
        if not await self._alone(tx, "sweep"):
            return 0
        found = await self._sweep_pending(tx, limit) + await self._sweep_jobs(tx, limit)
        found += await self._parking.unpark_many(tx, limit)
        unsettled = await self._ties.find_unsettled(tx, limit) + await self._find_unsettled_parents(tx, limit)
        unsettled += await self._sweep_members(tx, _MEMBERS * limit)
        if unsettled:
            await self._ties.settle_rest(tx, unsettled)
        await self._sweep_parents(tx, limit)
        await self._jobs.promote(tx, limit=limit)
        return found

    async def _sweep_pending(self, tx: Transaction, limit: int) -> int:
        """Queue pending tasks again that are marked as queued but have no job."""
        window = *self._pending_from, limit
        rows = await tx.fetch(self._queries["unlined"], *window)
        end = await tx.fetchrow(self._queries["pending_window"], *window)
        self._pending_from = _FIRST if end is None else (end["queue"], end["type"], end["due_at"], end["seq"])
        return len(rows)

    async def _sweep_jobs(self, tx: Transaction, limit: int) -> int:
        """Remove jobs whose task is not open."""
        rows = await tx.fetch(self._queries["strays"], self._jobs_from, limit)
        await self._jobs.remove(tx, [(row["id"], "deleted") for row in rows])
        await tx.execute(self._queries["lift_steps"], self._jobs_from, limit)
        self._jobs_from = await tx.fetchval(self._queries["jobs_window"], self._jobs_from, limit) or 0
        return len(rows)

    async def _find_unsettled_parents(self, tx: Transaction, limit: int) -> list[UUID]:
        """Return ended parents, of one window, with children for which their ends are not settled.

        Children of erased parents go on alone.
        """
        rows = await tx.fetch(self._queries["unsettled_parents"], self._unsettled_from, limit)
        self._unsettled_from = rows[-1]["seq"] if len(rows) == limit else 0
        erased = [row["seq"] for row in rows if row["task_id"] is None]
        if erased:
            await tx.execute(self._queries["go_on_alone"], erased)
        return [row["task_id"] for row in rows if row["has_ended"]]

    async def _sweep_members(self, tx: Transaction, limit: int) -> list[UUID]:
        """Return tasks, of one window of members of groups, whose ends were not counted; forget erased ones."""
        row = await tx.fetchrow(self._queries["uncounted_members"], self._members_from, limit)
        self._members_from = row["last"] if row["number"] == limit else 0
        if row["erased"]:
            await self._erasure.forget_members(tx, row["erased"])
        return row["ended"] or []

    async def _sweep_parents(self, tx: Transaction, limit: int) -> None:
        """Count the children of one window of parents that wait again; wake these, or start held children, if due."""
        rows = await tx.fetch(self._queries["parents_to_attend"], self._parents_from, limit, _RECOUNTED)
        if not rows and self._parents_from:
            rows = await tx.fetch(self._queries["parents_to_attend"], 0, limit, _RECOUNTED)
        self._parents_from = rows[-1]["task_seq"] if rows else 0
        parents = {row["task_seq"] for row in rows}
        tx.family.attended |= parents
        tx.family.recounted |= parents

    async def _alone(self, tx: Transaction, chore: str) -> bool:
        """Try to lock a chore until the transaction ends; return False if another process has the lock."""
        return bool(await tx.fetchval(self._queries["only_one"], _CHORES, zlib.crc32(chore.encode()) >> 1))


class PostgresTombstones:
    """The TombstoneStore of the distributed engine."""

    def __init__(self, connections: Connections, erasure: Erasure) -> None:
        self._connections = connections
        self._erasure = erasure

    async def find(self, task_id: UUID) -> Tombstone | None:
        return await self._connections.read(lambda connection: self._erasure.find_tombstone(connection, task_id))


def _first(rows: Sequence[Connection]) -> Sequence[Connection]:
    """Return the first rows, up to the one that reaches the size of one step."""
    size = 0
    for place, row in enumerate(rows, start=1):
        size += row["size"]
        if size > _STEP_SIZE:
            return rows[:place]
    return rows


def _count(status: str) -> int:
    """Return how many rows a statement has changed."""
    return int(status.split()[-1])
