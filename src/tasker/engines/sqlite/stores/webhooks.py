"""The WebhookStore of the embedded engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from uuid import UUID

from tasker.engines.shared.stores.webhooks import Webhooks
from tasker.engines.sqlite.tables import SqliteDatabase, SqliteRows
from tasker.model.webhooks import DispatchPosition, DueDelivery

_ERASED_AT_ONCE = 500
"""Deliveries that one transaction erases."""


class SqliteWebhooks(Webhooks[SqliteRows]):
    """Implements WebhookStore. follow_clock: returns once stored times have followed a step of the wall clock."""

    def __init__(self, database: SqliteDatabase, follow_clock: Callable[[], Awaitable[None]]) -> None:
        super().__init__(database)
        self._follow_clock = follow_clock

    async def find_position(self, holder: str) -> DispatchPosition | None:
        [(position, is_idle)] = await self._database.look(lambda rows: rows.fetch("find_position", str, bool))
        return DispatchPosition(position=position, is_idle=is_idle)

    async def delete(self, webhook_id: UUID) -> None:
        """Erase the deliveries first, in batches: there may be millions, and statements run on the event loop."""
        values = {"webhook_id": webhook_id, "limit": _ERASED_AT_ONCE}
        while await self._database.write(lambda rows: rows.run("delete_some_deliveries", **values)) == _ERASED_AT_ONCE:
            pass
        await super().delete(webhook_id)

    async def find_due(
        self, *, full: Collection[str], full_owners: Collection[str] = (), each: int, limit: int
    ) -> list[DueDelivery]:
        await self._follow_clock()
        return await super().find_due(full=full, full_owners=full_owners, each=each, limit=limit)
