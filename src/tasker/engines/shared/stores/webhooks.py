"""The WebhookStore."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Generic
from uuid import UUID

from msgspec import structs

from tasker.engines.shared.refusals import missing, no_delivery, too_many
from tasker.engines.shared.rows import Database, R, Rows
from tasker.engines.shared.stores.pages import cut, start_of
from tasker.engines.shared.tables import DELIVERIES, WEBHOOKS
from tasker.engines.shared.values import encode
from tasker.errors import Conflict
from tasker.model.webhooks import (
    DELIVERY_LEASE,
    MAX_WEBHOOKS_OF_TASK,
    Delivery,
    DeliveryOutcome,
    DeliveryPage,
    DeliveryStatus,
    DueDelivery,
    Subscription,
    Webhook,
    WebhookPage,
)

_OWNERS = 0x686F6F6B
"""The class of the locks under which an owner's webhooks are counted: "hook"."""


class Webhooks(Generic[R]):
    """Webhooks and their deliveries. Each engine adds `find_position`, which decides which process dispatches."""

    def __init__(self, database: Database[R]) -> None:
        self._database = database

    async def create(self, webhook: Webhook, *, most: int) -> None:
        async def work(rows: R) -> None:
            if rows.is_retry and await rows.find(WEBHOOKS, webhook.webhook_id) is not None:
                return
            await rows.lock(_OWNERS, webhook.owner)
            if await rows.count("count_webhooks", owner=webhook.owner) >= most:
                raise too_many("webhooks of this owner", most)
            await rows.insert(WEBHOOKS, webhook)
            await rows.run("mark_webhook", webhook_id=webhook.webhook_id)

        await self._database.write(work)

    async def find(self, webhook_id: UUID) -> Webhook | None:
        return await self._database.read(lambda rows: rows.find(WEBHOOKS, webhook_id))

    async def find_many(self, *, owner: str | None, limit: int, cursor: str | None = None) -> WebhookPage:
        values = {"owner": owner, "below": start_of(cursor), "limit": limit + 1}
        found = await self._database.read(lambda rows: rows.numbered("webhooks_page", WEBHOOKS, **values))
        items, next_cursor = cut(found, limit)
        return WebhookPage(items=items, next_cursor=next_cursor)

    async def change(self, webhook_id: UUID, change: Callable[[Webhook], Webhook]) -> Webhook:
        async def work(rows: R) -> Webhook:
            found = await rows.find(WEBHOOKS, webhook_id, lock=True)
            if found is None:
                raise missing("webhook", webhook_id)
            changed = change(found)
            await rows.update(WEBHOOKS, changed)
            return changed

        return await self._database.write(work)

    async def delete(self, webhook_id: UUID) -> None:
        async def work(rows: R) -> None:
            if not await rows.delete(WEBHOOKS, webhook_id) and not rows.is_retry:
                raise missing("webhook", webhook_id)
            await rows.run("delete_webhook_deliveries", webhook_id=webhook_id)

        await self._database.write(work)

    async def find_deliveries(
        self, webhook_id: UUID, *, status: DeliveryStatus | None, limit: int, cursor: str | None = None
    ) -> DeliveryPage:
        values = {"webhook_id": webhook_id, "status": status, "below": start_of(cursor), "limit": limit + 1}
        found = await self._database.read(lambda rows: rows.numbered("deliveries_page", DELIVERIES, **values))
        items, next_cursor = cut(found, limit)
        return DeliveryPage(items=items, next_cursor=next_cursor)

    async def redeliver(self, webhook_id: UUID, delivery_id: UUID) -> Delivery:
        async def work(rows: R) -> Delivery:
            found = await rows.structs("redeliver", DELIVERIES, delivery_id=delivery_id, webhook_id=webhook_id)
            if not found:
                raise no_delivery(delivery_id)
            return found[0]

        return await self._database.write(work)

    async def find_subscriptions(self, task_ids: Collection[UUID]) -> list[Subscription]:
        found = await self._database.look(
            lambda rows: rows.numbered("subscriptions", WEBHOOKS, task_ids=list(task_ids))
        )
        return [Subscription(webhook, made_after) for made_after, webhook in found]

    async def dispatch(self, found: Sequence[Delivery], *, after: str | None, to: str) -> bool:
        async def work(rows: R) -> bool:
            if not await rows.run("move_dispatch", after=after, to=to):
                return rows.is_retry and to == await rows.value("dispatch_position", str)
            asked = list({delivery.webhook_id for delivery in found})
            there = set(await rows.values("hold_webhooks", UUID, webhook_ids=asked)) if asked else ()
            await rows.insert_many(DELIVERIES, [one for one in found if one.webhook_id in there])
            return True

        return await self._database.write(work)

    async def find_due(
        self, *, full: Collection[str], full_owners: Collection[str] = (), each: int, limit: int
    ) -> list[DueDelivery]:
        async def query(rows: R) -> list[DueDelivery]:
            paused = map(str, await rows.values("paused_webhooks", UUID))
            found = await rows.structs(
                "due_deliveries", DELIVERIES, full=[*full, *paused], full_owners=[*full_owners], each=each, limit=limit
            )
            ids = list({one.webhook_id for one in found})
            webhooks = await rows.structs("webhooks_by_id", WEBHOOKS, webhook_ids=ids) if ids else ()
            by_id = {webhook.webhook_id: webhook for webhook in webhooks}
            return [
                DueDelivery(delivery=one, webhook=by_id[one.webhook_id]) for one in found if one.webhook_id in by_id
            ]

        return await self._database.look(query)

    async def take(self, due: Sequence[DueDelivery]) -> list[DueDelivery]:
        ids, attempts = [one.delivery.delivery_id for one in due], [one.delivery.attempts for one in due]

        async def work(rows: R) -> list[DueDelivery]:
            taken = await rows.structs(
                "take_deliveries", DELIVERIES, delivery_ids=ids, attempts=attempts, lease=DELIVERY_LEASE
            )
            now = {one.delivery_id: one for one in taken}
            begun = [(one, now.get(one.delivery.delivery_id)) for one in due]
            return [structs.replace(one, delivery=found) for one, found in begun if found is not None]

        return await self._database.write(work)

    async def settle(
        self, delivery: Delivery, outcome: DeliveryOutcome, *, failing_before: datetime, too_long: str
    ) -> bool:
        values = {
            "delivery_id": delivery.delivery_id,
            "attempts": delivery.attempts,
            "status": outcome.status,
            # Store the pause as a duration from now: the clock may have been set since the attempt ended.
            "wait": timedelta(0) if outcome.due_at is None else outcome.due_at - outcome.at,
            "response_code": outcome.response_code,
            "duration": outcome.duration,
            "error": None if outcome.error is None else encode(outcome.error),
        }
        webhook_id = delivery.webhook_id

        async def work(rows: R) -> bool:
            if not await rows.run("settle_delivery", **values):
                return False
            if outcome.error is None:
                await rows.run("webhook_succeeded", webhook_id=webhook_id)
                return True
            await rows.run("webhook_failed", webhook_id=webhook_id, at=outcome.at)
            await rows.run(
                "pause_webhook", webhook_id=webhook_id, pause=outcome.pause, too_long=too_long, before=failing_before
            )
            return True

        return await self._database.write(work)

    async def drop(self, delivery: Delivery) -> None:
        await self._database.write(lambda rows: rows.delete(DELIVERIES, delivery.delivery_id))

    async def prune(self, *, keep: timedelta, limit: int) -> int:
        async def work(rows: R) -> int:
            before = await self._database.erase_until(rows) - keep
            return await rows.run("prune_deliveries", before=before, limit=limit)

        return await self._database.write(work)


async def attach(rows: Rows, webhooks: Iterable[tuple[Webhook, UUID]]) -> None:
    """Store the webhooks that came with the submissions of tasks."""
    await rows.insert_many(WEBHOOKS, [structs.replace(webhook, task_id=task_id) for webhook, task_id in webhooks])


async def attach_to_joined(rows: Rows, webhook: Webhook, task_id: UUID) -> None:
    """Add a submission's webhook to the task that answers for it, unless that task has one to the same receiver."""
    if not await rows.count("webhooks_of_task_to", task_id=task_id, url=webhook.url):
        await attach(rows, [(webhook, task_id)])


async def check_join(rows: Rows, webhook: Webhook, task_id: UUID) -> Conflict | None:
    """Return the refusal of a webhook if the task has MAX_WEBHOOKS_OF_TASK, none of them to this receiver."""
    if await rows.count("webhooks_of_task_to", task_id=task_id, url=webhook.url):
        return None
    if await rows.count("webhooks_of_task", task_id=task_id) < MAX_WEBHOOKS_OF_TASK:
        return None
    return too_many(f"webhooks of task {task_id}", MAX_WEBHOOKS_OF_TASK)
