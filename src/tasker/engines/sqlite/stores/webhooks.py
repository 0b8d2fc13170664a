"""The WebhookStore of the embedded engine."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import apsw
from msgspec import structs

from tasker.clock import Clock, to_micros
from tasker.engines.shared.values import encode, from_cursor, no_delivery, no_webhook, to_cursor, too_many
from tasker.engines.sqlite.reader import Reader
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.tables import TABLES, Table
from tasker.engines.sqlite.transaction import Transaction, Write
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
_ERASED_AT_ONCE = 500
"""Deliveries that one transaction erases."""
_MICRO = timedelta(microseconds=1)
webhooks: Table[Webhook] = TABLES["webhook"]
deliveries: Table[Delivery] = TABLES["webhook_delivery"]


class SqliteWebhooks:
    """read, write: do work on the reading connection, or in a transaction of the writing one.

    follow_clock: returns once what is stored has followed the wall clock, if that was set. erase_until: tells by what
    time to erase, in microseconds.
    """

    def __init__(
        self, read: Reader, write: Write, clock: Clock, follow_clock: Callable[[], Awaitable[None]],
        erase_until: Callable[[], int],
    ) -> None:  # fmt: skip
        self._read = read
        self._write = write
        self._clock = clock
        self._follow_clock = follow_clock
        self._erase_until = erase_until

    async def create(self, webhook: Webhook, *, most: int) -> None:
        def work(tx: Transaction) -> None:
            if tx.execute(QUERIES["count_webhooks"], (webhook.owner,)).get >= most:
                raise too_many("webhooks of this owner", most)
            webhooks.insert(tx.connection, webhook)
            tx.execute(QUERIES["mark_webhook"], (webhook.webhook_id.bytes,))

        await self._write(work)

    async def find(self, webhook_id: UUID) -> Webhook | None:
        return await self._read(webhooks.find, webhook_id)

    async def find_many(self, *, owner: str | None, limit: int, cursor: str | None = None) -> WebhookPage:
        below = _END if cursor is None else from_cursor(cursor)
        values = {"below": below, "owner": owner, "limit": limit + 1}
        rows = await self._read(functools.partial(_all, query="webhooks_page", values=values))
        items = [webhooks.value(row[1:]) for row in rows[:limit]]
        return WebhookPage(items=items, next_cursor=to_cursor(rows[limit - 1][0]) if len(rows) > limit else None)

    async def change(self, webhook_id: UUID, change: Callable[[Webhook], Webhook]) -> Webhook:
        def work(tx: Transaction) -> Webhook:
            found = webhooks.find(tx.connection, webhook_id)
            if found is None:
                raise no_webhook(webhook_id)
            changed = change(found)
            webhooks.update(tx.connection, changed)
            return changed

        return await self._write(work)

    async def delete(self, webhook_id: UUID) -> None:
        def erase_some(tx: Transaction) -> bool:
            tx.execute(QUERIES["delete_some_deliveries"], (webhook_id.bytes, _ERASED_AT_ONCE))
            return tx.connection.changes() == _ERASED_AT_ONCE

        while await self._write(erase_some):  # there may be millions, and statements run on the event loop
            pass

        def work(tx: Transaction) -> None:
            if webhooks.find(tx.connection, webhook_id) is None:
                raise no_webhook(webhook_id)
            tx.execute(QUERIES["delete_webhook_deliveries"], (webhook_id.bytes,))
            webhooks.delete(tx.connection, webhook_id)

        await self._write(work)

    async def find_deliveries(
        self, webhook_id: UUID, *, status: DeliveryStatus | None, limit: int, cursor: str | None = None
    ) -> DeliveryPage:
        below = _END if cursor is None else from_cursor(cursor)
        values = {"webhook_id": webhook_id.bytes, "below": below, "status": status, "limit": limit + 1}
        rows = await self._read(functools.partial(_all, query="deliveries_page", values=values))
        items = [deliveries.value(row[1:]) for row in rows[:limit]]
        return DeliveryPage(items=items, next_cursor=to_cursor(rows[limit - 1][0]) if len(rows) > limit else None)

    async def redeliver(self, webhook_id: UUID, delivery_id: UUID) -> Delivery:
        def work(tx: Transaction) -> Delivery:
            row = tx.execute(QUERIES["redeliver"], (tx.now, delivery_id.bytes, webhook_id.bytes)).fetchone()
            if row is None:
                raise no_delivery(delivery_id)
            return deliveries.value(row)

        return await self._write(work)

    async def find_position(self, holder: str) -> DispatchPosition | None:
        [(position, is_idle)] = await self._read(functools.partial(_all, query="turn", values=()))
        return DispatchPosition(position=position, is_idle=bool(is_idle))

    async def find_subscriptions(self, task_ids: Collection[UUID]) -> list[Subscription]:
        return await self._read(functools.partial(_find_hearing, task_ids=task_ids))

    async def dispatch(self, found: Sequence[Delivery], *, after: str | None, to: str) -> bool:
        return await self._write(functools.partial(_dispatch, found=found, after=after, to=to))

    async def find_due(
        self, *, full: Collection[str], full_owners: Collection[str] = (), each: int, limit: int
    ) -> list[DueDelivery]:
        await self._follow_clock()
        return await self._read(
            functools.partial(_find_due, full=full, full_owners=full_owners, each=each, limit=limit, now=self._micros())
        )

    async def take(self, due: Sequence[DueDelivery]) -> list[DueDelivery]:
        return await self._write(functools.partial(_take, due=due))

    async def settle(
        self, delivery: Delivery, outcome: DeliveryOutcome, *, failing_before: datetime, too_long: str
    ) -> bool:
        work = functools.partial(
            _settle, delivery=delivery, outcome=outcome, failing_before=failing_before, too_long=too_long,
        )  # fmt: skip
        return await self._write(work)

    async def drop(self, delivery: Delivery) -> None:
        await self._write(lambda tx: deliveries.delete(tx.connection, delivery.delivery_id))

    async def prune(self, *, keep: timedelta, limit: int) -> int:
        before = self._erase_until() - keep // _MICRO

        def work(tx: Transaction) -> int:
            tx.execute(QUERIES["prune_deliveries"], (before, limit))
            return tx.connection.changes()

        return await self._write(work)

    def _micros(self) -> int:
        return to_micros(self._clock.now())


def _all(connection: apsw.Connection, *, query: str, values: Any) -> list[Any]:
    return connection.execute(QUERIES[query], values).fetchall()


def _find_hearing(connection: apsw.Connection, *, task_ids: Collection[UUID]) -> list[Subscription]:
    rows: list[Any] = connection.execute(QUERIES["webhooks_of_all"]).fetchall()
    for task_id in task_ids:
        rows += connection.execute(QUERIES["webhooks_of_task"], (task_id.bytes,)).fetchall()
    return [Subscription(webhooks.value(columns), made_after) for made_after, *columns in rows]


def _dispatch(tx: Transaction, *, found: Sequence[Delivery], after: str | None, to: str) -> bool:
    tx.execute(QUERIES["move_dispatch"], (to, after))
    if not tx.connection.changes():
        return False
    there = {
        webhook_id
        for webhook_id in {delivery.webhook_id for delivery in found}
        if tx.execute(QUERIES["webhook_exists"], (webhook_id.bytes,)).fetchone()
    }
    rows = [deliveries.row(delivery) for delivery in found if delivery.webhook_id in there]
    tx.connection.executemany(QUERIES["insert_delivery"], rows)
    return True


def _find_due(
    connection: apsw.Connection, *, full: Collection[str], full_owners: Collection[str], each: int, limit: int, now: int
) -> list[DueDelivery]:
    paused = [str(UUID(bytes=row[0])) for row in connection.execute(QUERIES["paused_webhooks"])]
    skipped, owners = encode([*full, *paused]).decode(), encode([*full_owners]).decode()
    values = {"now": now, "each": each, "full": skipped, "full_owners": owners, "limit": limit}
    found = [deliveries.value(row) for row in connection.execute(QUERIES["due_deliveries"], values)]
    to = {webhook_id: webhooks.find(connection, webhook_id) for webhook_id in {one.webhook_id for one in found}}
    return [DueDelivery(delivery=one, webhook=webhook) for one in found if (webhook := to[one.webhook_id]) is not None]


def _take(tx: Transaction, *, due: Sequence[DueDelivery]) -> list[DueDelivery]:
    taken = []
    for one in due:
        delivery = one.delivery
        values = tx.now, tx.now + DELIVERY_LEASE // _MICRO, delivery.delivery_id.bytes, delivery.attempts
        row = tx.execute(QUERIES["take_delivery"], values).fetchone()
        if row is not None:
            taken.append(structs.replace(one, delivery=deliveries.value(row)))
    return taken


def _settle(
    tx: Transaction, *, delivery: Delivery, outcome: DeliveryOutcome, failing_before: datetime,
    too_long: str,
) -> bool:  # fmt: skip
    # The pause is a length of time: from now on, also where the clock was set since the attempt ended.
    due_at = tx.now + (timedelta(0) if outcome.due_at is None else outcome.due_at - outcome.at) // _MICRO
    error = None if outcome.error is None else encode(outcome.error)
    values = (
        outcome.status, due_at, outcome.response_code, outcome.duration, error, delivery.delivery_id.bytes,
        delivery.attempts,
    )  # fmt: skip
    tx.execute(QUERIES["settle_delivery"], values)
    if not tx.connection.changes():
        return False
    webhook_id = delivery.webhook_id.bytes
    if outcome.error is None:
        tx.execute(QUERIES["webhook_succeeded"], (webhook_id,))
        return True
    tx.execute(QUERIES["webhook_failed"], {"webhook_id": webhook_id, "at": to_micros(outcome.at)})
    pausing = {
        "webhook_id": webhook_id, "pause": outcome.pause, "too_long": too_long, "before": to_micros(failing_before),
    }  # fmt: skip
    tx.execute(QUERIES["pause_webhook"], pausing)
    return True
