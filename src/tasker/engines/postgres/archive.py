"""The Archive of the distributed engine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any

from tasker.engines.log import Entry
from tasker.engines.postgres.attempts import keep
from tasker.engines.postgres.connections import Connection, Connections
from tasker.engines.postgres.news import News
from tasker.engines.values import check_keys, check_moved, check_stored
from tasker.stored import COLUMNS, TEXTS, StoredAttempt, StoredEvent, StoredKey, StoredTask, bytes_of, text_of


class PostgresArchive:
    """The Archive on the tables of one schema."""

    def __init__(self, connections: Connections, queries: dict[str, str]) -> None:
        self._connections = connections
        self._queries = queries

    async def read(self, *, at_once: int) -> AsyncIterator[list[StoredTask]]:
        last = 0
        while True:

            async def page(connection: Connection, after: int = last) -> tuple[int, list[StoredTask]]:
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    rows = await connection.fetch(self._queries["archive_page"], after, at_once)
                    return (rows[-1]["seq"] if rows else after), await self._whole(connection, rows)

            last, found = await self._connections.read(page)
            if not found:
                return
            yield found

    async def put(self, tasks: Sequence[StoredTask]) -> tuple[int, list[StoredTask]]:
        """Again after a lost answer: what that stored is known then, and counts as stored before."""

        async def work(connection: Connection, _news: News, _again: bool) -> tuple[int, list[StoredTask]]:
            return await self._put(connection, tasks)

        result, _ = await self._connections.transact(work)
        return result

    async def _put(self, connection: Connection, tasks: Sequence[StoredTask]) -> tuple[int, list[StoredTask]]:
        known = await self._find(connection, tasks)
        new = [task for task, there in zip(tasks, known, strict=True) if there is None]
        check_moved(tasks, known)
        keys = [one.key for task in new for one in task.keys]
        owners = await connection.fetch(self._queries["key_owners"], keys) if keys else []
        check_keys(new, {row["key"]: row["task_id"] for row in owners})
        for task in new:
            await self._insert(connection, task)
        check_stored(new, await self._find(connection, new))
        return len(new), [there or task for task, there in zip(tasks, known, strict=True)]

    async def _find(self, connection: Connection, tasks: Sequence[StoredTask]) -> list[StoredTask | None]:
        rows = await connection.fetch(self._queries["archive_by_id"], [task.task_id for task in tasks])
        found = {task.task_id: task for task in await self._whole(connection, rows)}
        return [found.get(task.task_id) for task in tasks]

    async def _insert(self, connection: Connection, task: StoredTask) -> None:
        values = [bytes_of(getattr(task, name)) if name in TEXTS else getattr(task, name) for name in COLUMNS]
        seq = await connection.fetchval(self._queries["insert_stored"], *values)
        attempts = [
            (seq, one.attempt, one.worker, one.started_at, one.finished_at, one.ending, bytes_of(one.error))
            for one in task.attempts
        ]
        keys = [(one.key, task.task_id, one.fingerprint, one.expires_at, one.reply.encode()) for one in task.keys]
        if attempts:
            await connection.executemany(self._queries["insert_attempt"], attempts)
        if keys:
            await connection.executemany(self._queries["insert_stored_key"], keys)
        events = [Entry(one.sequence, one.attempt, one.type, one.time, one.data.encode()) for one in task.events]
        await keep(connection, self._queries, [(seq, event) for event in events])

    async def _whole(self, connection: Connection, rows: Sequence[Any]) -> list[StoredTask]:
        """Return the tasks of these rows with all that belongs to them."""
        if not rows:
            return []
        seqs, ids = [row["seq"] for row in rows], [row["task_id"] for row in rows]
        attempts, events, keys = defaultdict(list), defaultdict(list), defaultdict(list)
        for seq, *values, error in await connection.fetch(self._queries["archive_attempts"], seqs):
            attempts[seq].append(StoredAttempt(**_named(StoredAttempt, [*values, text_of(error)])))
        for seq, *values, data in await connection.fetch(self._queries["archive_events"], seqs):
            events[seq].append(StoredEvent(**_named(StoredEvent, [*values, data.decode()])))
        for task_id, *values, reply in await connection.fetch(self._queries["archive_keys"], ids):
            keys[task_id].append(StoredKey(**_named(StoredKey, [*values, reply.decode()])))
        tasks = []
        for row in rows:
            own: dict[str, Any] = {name: text_of(row[name]) if name in TEXTS else row[name] for name in COLUMNS}
            seq = row["seq"]
            tasks.append(StoredTask(**own, attempts=attempts[seq], events=events[seq], keys=keys[row["task_id"]]))
        return tasks


def _named(struct: Any, values: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(struct.__struct_fields__, values, strict=True))
