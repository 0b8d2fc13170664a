"""The AuditStore on the tables of one schema."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tasker.engines.postgres.clock_steps import EraseUntil
from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.transaction import Transaction
from tasker.engines.shared.values import NEWEST, from_cursor, to_cursor
from tasker.model.audit import AuditAction, AuditEntry, AuditPage


class PostgresAudit:
    """The record, written by every process. An answer that is lost may leave an entry without an outcome."""

    def __init__(self, connections: Connections, queries: dict[str, str], erase_until: EraseUntil) -> None:
        self._erase_until = erase_until
        self._connections = connections
        self._queries = queries

    async def begin(self, deed: AuditAction) -> int:
        values = deed.key_id, deed.owner, deed.action, deed.target, deed.address

        async def work(tx: Transaction) -> int:
            sequence: int = await tx.fetchval(self._queries["begin_audit"], *values)
            return sequence

        return await self._connections.transact(work)

    async def end(self, sequence: int, outcome: int, target: str = "") -> None:
        async def work(tx: Transaction) -> None:
            await tx.execute(self._queries["end_audit"], sequence, outcome, target)

        await self._connections.transact(work)

    async def find_many(self, *, limit: int, cursor: str | None = None) -> AuditPage:
        values = NEWEST if cursor is None else from_cursor(cursor), limit + 1
        rows = await self._connections.read(lambda connection: connection.fetch(self._queries["audit_page"], *values))
        items = [_entry(row) for row in rows[:limit]]
        return AuditPage(items=items, next_cursor=to_cursor(items[-1].sequence) if len(rows) > limit else None)

    async def prune(self, *, keep: timedelta, limit: int) -> int:
        async def work(tx: Transaction) -> int:
            until = await self._erase_until(tx)
            done: str = await tx.execute(self._queries["prune_audit"], keep, limit, until)
            return int(done.split()[-1])

        return await self._connections.transact(work)


def _entry(row: Any) -> AuditEntry:
    deed = AuditAction(**{name: row[name] for name in AuditAction.__struct_fields__})
    return AuditEntry(sequence=row["sequence"], time=row["time"], deed=deed, outcome=row["outcome"])
