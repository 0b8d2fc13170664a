"""The ArchiveStore of the distributed engine: export and import."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from tasker.engines.postgres.attempts import insert_events
from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.groups import Member, TaskGroups
from tasker.engines.postgres.listener import LOCKS
from tasker.engines.postgres.retention import Erasure
from tasker.engines.postgres.tables import PostgresRows, Texts
from tasker.engines.postgres.ties import TiedTasks
from tasker.engines.postgres.transaction import Connection, Transaction
from tasker.engines.shared.groups import GroupChanges
from tasker.engines.shared.log import Entry
from tasker.engines.shared.refusals import check_keys, check_moved, check_stored, taken
from tasker.engines.shared.stored import attempt_of, event_of, key_of
from tasker.engines.shared.stores.families import find_parts, join_families, put_parts
from tasker.engines.shared.stores.records import find_records, find_records_of, put_records
from tasker.engines.shared.tables import ARCHIVED, InTheWay, Row, read_records
from tasker.errors import ArchiveError, Conflict
from tasker.model.archive import COLUMNS, TEXTS, StoredAttempt, StoredEvent, StoredRecord, StoredTask, bytes_of, text_of
from tasker.model.groups import state_of

_UNFIT = asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, RuntimeError, ValueError, OverflowError
"""Raised where an imported task or record cannot be stored."""


@dataclass
class PostgresArchive:
    """The ArchiveStore on the tables of one schema."""

    _connections: Connections
    _texts: Texts
    _erasure: Erasure
    _ties: TiedTasks
    _groups: TaskGroups

    async def read(self, *, at_once: int, size: int) -> AsyncGenerator[list[StoredRecord] | list[StoredTask]]:
        async with self._connections.snapshot() as connection:
            rows = PostgresRows(self._texts, connection)
            for shape in ARCHIVED.values():
                if records := await find_records_of(rows, shape):
                    yield records
            last = 0
            while tasks := await connection.fetch(self._texts.queries["archive_page"], last, at_once, size):
                last = tasks[-1]["seq"]
                yield await self._whole(connection, tasks)

    async def put(self, tasks: Sequence[StoredTask], *, rehearsal: bool = False) -> int:
        """After a lost answer, a retry finds the tasks of the first try, and counts them as stored before."""
        if rehearsal:
            return await self._rehearse(lambda connection: self._put(connection, tasks))

        async def work(tx: Transaction) -> int:
            stored = await self._put(tx, tasks)
            await self._join_families(tx, tasks)
            for task in tasks:
                if task.is_waiting and not task.is_held:
                    await self._ties.resume(tx, task.task_id, task.depends_on, task.depends_on_group)
            return stored

        return await self._connections.transact(work)

    async def _join_families(self, tx: Transaction, tasks: Sequence[StoredTask]) -> None:
        """Wake parents of which all children have ended, before the commit; others count ends of children meanwhile."""
        rows = PostgresRows(self._texts, tx.connection, tx)
        parents = await join_families(rows, tasks)
        if parents:
            await tx.execute(self._texts.queries["lock_steps"], [], [], [], [], [], parents)
        for parent in parents:
            await rows.run("recount_children", parent=parent)
            tx.family.attended.add(parent)

    async def find_many(self, task_ids: Sequence[UUID]) -> list[StoredTask | None]:
        return await self._connections.read(lambda connection: self._find(connection, task_ids))

    async def find_erased(self, task_ids: Sequence[UUID]) -> set[UUID]:
        return await self._connections.read(lambda connection: self._erasure.buried(connection, task_ids))

    async def put_records(self, records: Sequence[StoredRecord], *, rehearsal: bool = False) -> int:
        rows = read_records(records)
        if rehearsal:
            return await self._rehearse(lambda connection: self._put_records(connection, rows))

        async def work(tx: Transaction) -> int:
            return await self._put_records(tx, rows)

        return await self._connections.transact(work)

    async def find_records(self, records: Sequence[StoredRecord]) -> list[StoredRecord | None]:
        given = read_records(records)
        return await self._connections.read(
            lambda connection: find_records(PostgresRows(self._texts, connection), given)
        )

    async def _rehearse(self, do: Callable[[Connection], Awaitable[int]]) -> int:
        """Do work in a transaction, and roll it back; return or raise its outcome."""

        async def work(tx: Transaction) -> int | Exception:
            await tx.execute("SAVEPOINT rehearsal")
            try:
                return await do(tx)
            except Conflict as error:
                return error
            except asyncpg.UniqueViolationError:
                return taken()
            except _UNFIT as error:
                return ArchiveError(f"it cannot be stored as it is: {error}")
            finally:
                await tx.execute("ROLLBACK TO rehearsal")
                tx.groups = GroupChanges()

        outcome = await self._connections.transact(work)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _put_records(self, tx: Transaction, rows: Sequence[Row]) -> int:
        await tx.execute(self._texts.queries["import_alone"], LOCKS)
        try:
            return await put_records(PostgresRows(self._texts, tx.connection, tx), rows)
        except InTheWay as error:
            raise error.conflict from error

    async def _put(self, tx: Transaction, tasks: Sequence[StoredTask]) -> int:
        await tx.execute(self._texts.queries["import_alone"], LOCKS)
        known = await self._find(tx, [task.task_id for task in tasks])
        new = [task for task, there in zip(tasks, known, strict=True) if there is None]
        erased = await self._erasure.buried(tx, [task.task_id for task in new])
        new = [task for task in new if task.task_id not in erased]
        check_moved(tasks, known)
        keys = [one.key for task in new for one in task.keys]
        owners = await tx.fetch(self._texts.queries["key_owners"], keys) if keys else []
        check_keys(new, {row["key"]: row["task_id"] for row in owners})
        if new:
            await self._insert(tx, new)
            check_stored(new, await self._find(tx, [task.task_id for task in new]))
        return len(new)

    async def _find(self, connection: Connection, task_ids: Sequence[UUID]) -> list[StoredTask | None]:
        rows = await connection.fetch(self._texts.queries["archive_by_id"], task_ids)
        found = {task.task_id: task for task in await self._whole(connection, rows)}
        return [found.get(task_id) for task_id in task_ids]

    async def _insert(self, tx: Transaction, tasks: Sequence[StoredTask]) -> None:
        await tx.execute(self._texts.queries["begin_import"])  # nothing happens to these tasks now
        rows = await tx.fetchmany(self._texts.queries["insert_stored"], [_columns(task) for task in tasks])
        placed = [(row["seq"], task) for row, task in zip(rows, tasks, strict=True)]
        members = [(seq, task, task.group) for seq, task in placed]
        await self._groups.join(
            tx,
            [Member(seq, task.owner, name, state_of(task.status)) for seq, task, name in members if name is not None],
        )
        attempts = [_attempt_row(seq, one) for seq, task in placed for one in task.attempts]
        await tx.executemany(self._texts.queries["insert_attempt"], attempts)
        keys = [
            (one.key, task.task_id, one.fingerprint, one.expires_at, one.reply.encode())
            for task in tasks
            for one in task.keys
        ]
        await tx.executemany(self._texts.queries["insert_stored_key"], keys)
        await put_parts(PostgresRows(self._texts, tx.connection, tx), tasks)
        await insert_events(
            tx, self._texts.queries, [(seq, _entry(event)) for seq, task in placed for event in task.events]
        )

    async def _whole(self, connection: Connection, rows: Sequence[Any]) -> list[StoredTask]:
        """Return the tasks of these rows, each with its attempts, events, keys and webhooks."""
        if not rows:
            return []
        seqs, ids = [row["seq"] for row in rows], [row["task_id"] for row in rows]
        attempts, events, keys = defaultdict(list), defaultdict(list), defaultdict(list)
        for seq, *values in await connection.fetch(self._texts.queries["archive_attempts"], seqs):
            attempts[seq].append(attempt_of(*values))
        for seq, *values in await connection.fetch(self._texts.queries["archive_events"], seqs):
            events[seq].append(event_of(*values))
        for task_id, *values in await connection.fetch(self._texts.queries["archive_keys"], ids):
            keys[task_id].append(key_of(*values))
        parts = await find_parts(PostgresRows(self._texts, connection), ids)
        tasks = []
        for row in rows:
            own: dict[str, Any] = {name: text_of(row[name]) if name in TEXTS else row[name] for name in COLUMNS}
            if own["reason"] == "concurrency_limited":  # parked: internal to this store, as jobs are
                own["reason"] = "queued"
            seq, task_id = row["seq"], row["task_id"]
            tasks.append(
                StoredTask(
                    **own,
                    attempts=attempts[seq],
                    events=events[seq],
                    keys=keys[task_id],
                    steps=parts.steps.get(task_id, []),
                    child=parts.children.get(task_id),
                )
            )
        return tasks


def _columns(task: StoredTask) -> list[Any]:
    return [bytes_of(getattr(task, name)) if name in TEXTS else getattr(task, name) for name in COLUMNS]


def _attempt_row(seq: int, one: StoredAttempt) -> tuple[Any, ...]:
    times = one.started_at, one.finished_at
    return seq, one.attempt, one.worker, *times, one.ending, bytes_of(one.error), one.peak_memory


def _entry(event: StoredEvent) -> Entry:
    return Entry(event.sequence, event.attempt, event.type, event.time, event.data.encode())
