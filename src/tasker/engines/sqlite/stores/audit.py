"""The AuditStore of the embedded engine."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tasker.clock import from_micros
from tasker.engines.shared.values import NEWEST, from_cursor, to_cursor
from tasker.engines.sqlite.reader import Reader
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.transaction import Transaction, Write
from tasker.model.audit import AuditAction, AuditEntry, AuditPage


class SqliteAudit:
    """read, write: do work on the reading connection, or in a transaction of the writing one.

    erase_until: tells by what time to erase, in microseconds.
    """

    def __init__(self, read: Reader, write: Write, erase_until: Callable[[], int]) -> None:
        self._erase_until = erase_until
        self._read = read
        self._write = write

    async def begin(self, deed: AuditAction) -> int:
        row = deed.key_id, deed.owner, deed.action, deed.target, deed.address

        def work(tx: Transaction) -> int:
            tx.execute(QUERIES["begin_audit"], (tx.now, *row))
            return tx.connection.last_insert_rowid()

        return await self._write(work)

    async def end(self, sequence: int, outcome: int, target: str = "") -> None:
        row = (outcome, target, sequence)
        await self._write(lambda tx: tx.execute(QUERIES["end_audit"], row))

    async def find_many(self, *, limit: int, cursor: str | None = None) -> AuditPage:
        values = NEWEST if cursor is None else from_cursor(cursor), limit + 1
        rows: list[Any] = await self._read(
            lambda connection: connection.execute(QUERIES["audit_page"], values).fetchall()
        )
        items = [_entry(*row) for row in rows[:limit]]
        return AuditPage(items=items, next_cursor=to_cursor(items[-1].sequence) if len(rows) > limit else None)

    async def prune(self, *, keep: timedelta, limit: int) -> int:
        before = self._erase_until() - keep // timedelta(microseconds=1)

        def work(tx: Transaction) -> int:
            tx.execute(QUERIES["prune_audit"], (before, limit))
            return tx.connection.changes()

        return await self._write(work)


def _entry(
    sequence: int, time: int, key_id: str | None, owner: str, action: str, target: str, address: str,
    outcome: int | None,
) -> AuditEntry:  # fmt: skip
    deed = AuditAction(key_id=key_id, owner=owner, action=action, target=target, address=address)
    return AuditEntry(sequence=sequence, time=from_micros(time), deed=deed, outcome=outcome)
