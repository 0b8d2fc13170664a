"""The WebhookStore of the distributed engine: one process at a time dispatches."""

from __future__ import annotations

from datetime import timedelta

from tasker.engines.postgres.tables import PostgresRows
from tasker.engines.shared.stores.webhooks import Webhooks
from tasker.model.webhooks import DispatchPosition

_HELD_FOR = timedelta(seconds=4)
"""How long the dispatching process excludes others after its last sign of life."""


class PostgresWebhooks(Webhooks[PostgresRows]):
    async def find_position(self, holder: str) -> DispatchPosition | None:
        values = {"holder": holder, "held_for": _HELD_FOR}
        [(position, is_idle, is_held, is_others)] = await self._database.look(
            lambda rows: rows.fetch("find_position", str, bool, bool, bool, **values)
        )
        if is_held or is_idle:
            return DispatchPosition(position=position, is_idle=is_idle)
        if is_others:
            return None
        held = await self._database.write(lambda rows: rows.fetch("hold_dispatch", str, **values))
        return DispatchPosition(position=held[0][0], is_idle=False) if held else None
