"""Webhooks and deliveries, and short forms of their steps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from tasker.engines.protocol import Engine
from tasker.model.webhooks import Delivery, DeliveryOutcome, DueDelivery, Failure, Webhook, WebhookSecret
from tasker.testing import ManualClock

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
REFUSED = Failure(name="refused", detail="the receiver answered 500")


def make_webhook(now: datetime, **fields: Any) -> Webhook:
    given = {
        "webhook_id": uuid4(), "url": "https://example.com/", "events": ("completed", "failed"), "created_at": now,
        "secrets": (WebhookSecret(secret="whsec_new"), WebhookSecret(secret="whsec_old", expires_at=now)), **fields,
    }  # fmt: skip
    return Webhook(**given)


def make_delivery(webhook: Webhook, now: datetime, *, sequence: int = 3, task_id: UUID | None = None) -> Delivery:
    return Delivery(
        delivery_id=uuid4(), webhook_id=webhook.webhook_id, task_id=task_id or uuid4(), sequence=sequence,
        event="completed", status="pending", lane=webhook.lane, created_at=now, due_at=now,
    )  # fmt: skip


def outcome(
    now: datetime, *, due_in: timedelta | None = None, error: Failure | None = None, **more: Any
) -> DeliveryOutcome:
    """Return the outcome of an attempt: delivered, failed for good, or to be tried again."""
    status = "delivered" if error is None else "failed" if due_in is None else "pending"
    due_at = None if due_in is None else now + due_in
    given = {"status": status, "at": now, "due_at": due_at, "response_code": 200, "duration": 0.25, "error": error}
    return DeliveryOutcome(**{**given, **more})


class Rig:
    """An engine, with short forms of dispatching and delivering."""

    def __init__(self, engine: Engine, clock: ManualClock) -> None:
        self.engine = engine
        self.clock = clock
        self.store = engine.webhooks
        self.position: str | None = None

    async def hook(self, **fields: Any) -> Webhook:
        webhook = make_webhook(self.clock.now(), **fields)
        await self.store.create(webhook, most=1000)
        return webhook

    async def dispatch(self, *found: Delivery) -> None:
        to = uuid4().hex
        assert await self.store.dispatch(found, after=self.position, to=to)
        self.position = to

    async def deliveries(self, webhook: Webhook) -> list[Delivery]:
        return (await self.store.find_deliveries(webhook.webhook_id, status=None, limit=100)).items

    async def due(
        self, *, full: Sequence[str] = (), full_owners: Sequence[str] = (), each: int = 10, limit: int = 100
    ) -> list[DueDelivery]:
        return await self.store.find_due(full=full, full_owners=full_owners, each=each, limit=limit)

    async def take(self) -> list[DueDelivery]:
        return await self.store.take(await self.due())

    async def settle(self, delivery: Delivery, how: DeliveryOutcome) -> bool:
        return await self.store.settle(delivery, how, failing_before=how.at - 3 * DAY, too_long="too long")

    async def get(self, webhook: Webhook) -> Webhook:
        found = await self.store.find(webhook.webhook_id)
        assert found is not None
        return found
