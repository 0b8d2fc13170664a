"""The WebhookStore of the distributed engine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec import structs

from tasker.engines.postgres.clock_steps import EraseUntil
from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.tables import Table
from tasker.engines.postgres.transaction import Connection, Transaction
from tasker.engines.shared.values import encode, from_cursor, no_delivery, no_webhook, to_cursor, too_many
from tasker.model.webhooks import (
    DELIVERY_LEASE,
    Delivery,
    DeliveryOutcome,
    DeliveryPage,
    DeliveryStatus,
    DispatchPosition,
    DueDelivery,
    Subscription,
    Webhook,
    WebhookPage,
)

_END = 1 << 62
_OWNERS = 0x686F6F6B
"""The class of the advisory locks of owners of webhooks: "hook"."""
_HELD_FOR = timedelta(seconds=10)
"""So long a process that dispatches keeps others from it after its last sign of life."""


class PostgresWebhooks:
    """The WebhookStore on the tables of one schema."""

    def __init__(
        self, connections: Connections, queries: dict[str, str], tables: dict[str, Table[Any]],
        erase_until: EraseUntil,
    ) -> None:  # fmt: skip
        self._connections = connections
        self._queries = queries
        self._erase_until = erase_until
        self._webhooks: Table[Webhook] = tables["webhook"]
        self._deliveries: Table[Delivery] = tables["webhook_delivery"]

    async def create(self, webhook: Webhook, *, most: int) -> None:
        async def work(tx: Transaction) -> None:
            if tx.is_retry and await self._webhooks.find(tx, webhook.webhook_id) is not None:
                return
            await tx.execute(self._queries["hold_owner"], _OWNERS, webhook.owner)
            if await tx.fetchval(self._queries["count_webhooks"], webhook.owner) >= most:
                raise too_many("webhooks of this owner", most)
            await self._webhooks.insert(tx, webhook)
            await tx.execute(self._queries["mark_webhook"], webhook.webhook_id)

        await self._connections.transact(work)

    async def find(self, webhook_id: UUID) -> Webhook | None:
        return await self._connections.read(lambda connection: self._webhooks.find(connection, webhook_id))

    async def find_many(self, *, owner: str | None, limit: int, cursor: str | None = None) -> WebhookPage:
        below = _END if cursor is None else from_cursor(cursor)
        rows = await self._fetch("webhooks_page", below, owner, limit + 1)
        items = [self._webhooks.value(tuple(row)[1:]) for row in rows[:limit]]
        return WebhookPage(items=items, next_cursor=_next(rows, limit))

    async def change(self, webhook_id: UUID, change: Callable[[Webhook], Webhook]) -> Webhook:
        async def work(tx: Transaction) -> Webhook:
            found = await self._webhooks.find(tx, webhook_id, lock=True)
            if found is None:
                raise no_webhook(webhook_id)
            changed = change(found)
            await self._webhooks.update(tx, changed)
            return changed

        return await self._connections.transact(work)

    async def delete(self, webhook_id: UUID) -> None:
        async def work(tx: Transaction) -> None:
            if not await self._webhooks.delete(tx, webhook_id) and not tx.is_retry:
                raise no_webhook(webhook_id)
            await tx.execute(self._queries["delete_webhook_deliveries"], webhook_id)

        await self._connections.transact(work)

    async def find_deliveries(
        self, webhook_id: UUID, *, status: DeliveryStatus | None, limit: int, cursor: str | None = None
    ) -> DeliveryPage:
        below = _END if cursor is None else from_cursor(cursor)
        rows = await self._fetch("deliveries_page", webhook_id, below, status, limit + 1)
        items = [self._deliveries.value(tuple(row)[1:]) for row in rows[:limit]]
        return DeliveryPage(items=items, next_cursor=_next(rows, limit))

    async def redeliver(self, webhook_id: UUID, delivery_id: UUID) -> Delivery:
        async def work(tx: Transaction) -> Delivery:
            row = await tx.fetchrow(self._queries["redeliver"], delivery_id, webhook_id)
            if row is None:
                raise no_delivery(delivery_id)
            return self._deliveries.value(tuple(row))

        return await self._connections.transact(work)

    async def find_position(self, holder: str) -> DispatchPosition | None:
        [row] = await self._fetch("turn", holder, _HELD_FOR)
        if row["is_held"] or row["is_idle"]:
            return DispatchPosition(position=row["position"], is_idle=row["is_idle"])
        if row["is_others"]:
            return None

        async def work(tx: Transaction) -> DispatchPosition | None:
            held = await tx.fetchrow(self._queries["hold_dispatch"], holder, _HELD_FOR)
            return None if held is None else DispatchPosition(position=held["position"], is_idle=False)

        return await self._connections.transact(work)

    async def find_subscriptions(self, task_ids: Collection[UUID]) -> list[Subscription]:
        rows = await self._fetch("webhooks_hearing", list(task_ids))
        return [Subscription(self._webhooks.value(columns), made_after) for made_after, *columns in map(tuple, rows)]

    async def dispatch(self, found: Sequence[Delivery], *, after: str | None, to: str) -> bool:
        async def work(tx: Transaction) -> bool:
            moved: str = await tx.execute(self._queries["move_dispatch"], to, after)
            if moved.endswith(" 0"):
                return tx.is_retry and to == await tx.fetchval(self._queries["dispatched"])
            to_whom = list({delivery.webhook_id for delivery in found})
            held = await tx.fetch(self._queries["hold_webhooks"], to_whom) if to_whom else ()
            there = {row["webhook_id"] for row in held}
            await self._deliveries.insert_many(tx, [one for one in found if one.webhook_id in there])
            return True

        return await self._connections.transact(work)

    async def find_due(
        self, *, full: Collection[str], full_owners: Collection[str] = (), each: int, limit: int
    ) -> list[DueDelivery]:
        async def query(connection: Connection) -> list[DueDelivery]:
            paused = [row[0] for row in await connection.fetch(self._queries["paused_webhooks"])]
            skipped = [*full, *paused]
            rows = await connection.fetch(self._queries["due_deliveries"], skipped, each, limit, list(full_owners))
            found = [self._deliveries.value(tuple(row)) for row in rows]
            to_whom = list({one.webhook_id for one in found})
            hooks = await connection.fetch(self._queries["webhooks_by_id"], to_whom) if found else ()
            by_id = {webhook.webhook_id: webhook for webhook in (self._webhooks.value(tuple(row)) for row in hooks)}
            return [
                DueDelivery(delivery=one, webhook=by_id[one.webhook_id]) for one in found if one.webhook_id in by_id
            ]

        return await self._connections.look(query)

    async def take(self, due: Sequence[DueDelivery]) -> list[DueDelivery]:
        ids, attempts = [one.delivery.delivery_id for one in due], [one.delivery.attempts for one in due]

        async def work(tx: Transaction) -> list[DueDelivery]:
            taken = await tx.fetch(self._queries["take_deliveries"], ids, attempts, DELIVERY_LEASE)
            rows = await tx.fetch(self._queries["deliveries_by_id"], [row["delivery_id"] for row in taken])
            now = {one.delivery_id: one for one in (self._deliveries.value(tuple(row)) for row in rows)}
            begun = [(one, now.get(one.delivery.delivery_id)) for one in due]
            return [structs.replace(one, delivery=found) for one, found in begun if found is not None]

        return await self._connections.transact(work)

    async def settle(
        self, delivery: Delivery, outcome: DeliveryOutcome, *, failing_before: datetime, too_long: str
    ) -> bool:
        due_at = outcome.at if outcome.due_at is None else outcome.due_at
        error = None if outcome.error is None else encode(outcome.error)
        values = (
            delivery.delivery_id, delivery.attempts, outcome.status, due_at, outcome.response_code, outcome.duration,
            error,
        )  # fmt: skip

        async def work(tx: Transaction) -> bool:
            webhook_id = await tx.fetchval(self._queries["settle_delivery"], *values)
            if webhook_id is None:
                return False
            if outcome.error is None:
                await tx.execute(self._queries["webhook_succeeded"], webhook_id)
                return True
            await tx.execute(self._queries["webhook_failed"], webhook_id, outcome.at)
            await tx.execute(self._queries["pause_webhook"], webhook_id, outcome.pause, too_long, failing_before)
            return True

        return await self._connections.transact(work)

    async def drop(self, delivery: Delivery) -> None:
        await self._connections.transact(lambda tx: self._deliveries.delete(tx, delivery.delivery_id))

    async def prune(self, *, keep: timedelta, limit: int) -> int:
        async def work(tx: Transaction) -> int:
            until = await self._erase_until(tx)
            done: str = await tx.execute(self._queries["prune_deliveries"], keep, limit, until)
            return int(done.split()[-1])

        return await self._connections.transact(work)

    async def _fetch(self, query: str, *values: Any) -> list[Any]:
        async def work(connection: Connection) -> list[Any]:
            rows: list[Any] = await connection.fetch(self._queries[query], *values)
            return rows

        return await self._connections.look(work)


def _next(rows: Sequence[Any], limit: int) -> str | None:
    return to_cursor(rows[limit - 1]["seq"]) if len(rows) > limit else None
