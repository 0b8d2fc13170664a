"""The AuditStore."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from msgspec import structs

from tasker.engines.shared.rows import Database, Rows
from tasker.engines.shared.stores.pages import cut, start_of
from tasker.model.audit import AuditAction, AuditEntry, AuditPage

_COLUMNS = (int, datetime, str, str, str, str, str, int)


class Audit:
    """The audit log. A lost answer may leave an entry without an outcome."""

    def __init__(self, database: Database[Any]) -> None:
        self._database = database

    async def begin(self, deed: AuditAction) -> int:
        async def work(rows: Rows) -> int:
            return await rows.count("begin_audit", **structs.asdict(deed))

        return await self._database.write(work)

    async def end(self, sequence: int, outcome: int, target: str = "") -> None:
        await self._database.write(
            lambda rows: rows.run("end_audit", sequence=sequence, outcome=outcome, target=target)
        )

    async def find_many(self, *, limit: int, cursor: str | None = None) -> AuditPage:
        values = {"below": start_of(cursor), "limit": limit + 1}
        found = await self._database.read(lambda rows: rows.fetch("audit_page", *_COLUMNS, **values))
        items, next_cursor = cut([(row[0], row) for row in found], limit)
        return AuditPage(items=[_entry(*row) for row in items], next_cursor=next_cursor)

    async def prune(self, *, keep: timedelta, limit: int) -> int:
        async def work(rows: Rows) -> int:
            before = await self._database.erase_until(rows) - keep
            return await rows.run("prune_audit", before=before, limit=limit)

        return await self._database.write(work)


def _entry(sequence: int, time: datetime, *columns: Any) -> AuditEntry:
    key_id, owner, action, target, address, outcome = columns
    deed = AuditAction(key_id=key_id, owner=owner, action=action, target=target, address=address)
    return AuditEntry(sequence=sequence, time=time, deed=deed, outcome=outcome)
