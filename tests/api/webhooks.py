"""Deliveries without a receiver."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from tasker.model.webhooks import Delivery, DeliveryOutcome, Failure
from tests.api.conftest import Rig


async def tell_in_vain(rig: Rig, detail: str = "the receiver answered 500") -> Delivery:
    """Make a delivery to the newest webhook that fails with `detail`, and return it."""
    store, now = rig.engine.webhooks, rig.clock.now()
    [webhook] = (await store.find_many(owner=None, limit=1)).items
    position = await store.find_position("test")
    assert position is not None
    delivery = Delivery(
        delivery_id=uuid4(), webhook_id=webhook.webhook_id, task_id=uuid4(), sequence=3, event="completed",
        status="pending", lane=webhook.lane, created_at=now, due_at=now,
    )  # fmt: skip
    assert await store.dispatch([delivery], after=position.position, to=uuid4().hex)
    [taken] = await store.take(await store.find_due(full=(), each=9, limit=9))
    failure = Failure(name="refused", detail=detail)
    outcome = DeliveryOutcome(status="failed", at=now, due_at=None, response_code=500, duration=0.5, error=failure)
    assert await store.settle(taken.delivery, outcome, failing_before=now - timedelta(days=3), too_long="")
    return delivery
