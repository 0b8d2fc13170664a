"""Webhooks and their deliveries."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from tasker.model.webhooks import (
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


class WebhookStore(Protocol):
    """The webhooks, and what each has to be told: deliveries, which are tried by one process at a time."""

    async def create(self, webhook: Webhook, *, most: int) -> None:
        """Store a new webhook. Raises Conflict where its owner has `most` already."""

    async def find(self, webhook_id: UUID) -> Webhook | None:
        """Return the webhook, or None."""

    async def find_many(self, *, owner: str | None, limit: int, cursor: str | None = None) -> WebhookPage:
        """Return webhooks, newest first, but none of tasks; an owner's without those of all owners. Raises Invalid."""

    async def change(self, webhook_id: UUID, change: Callable[[Webhook], Webhook]) -> Webhook:
        """Store what `change` makes of the webhook as it is, and return that; it may run again. Raises NotFound."""

    async def delete(self, webhook_id: UUID) -> None:
        """Erase a webhook and its deliveries. Raises NotFound."""

    async def find_deliveries(
        self, webhook_id: UUID, *, status: DeliveryStatus | None, limit: int, cursor: str | None = None
    ) -> DeliveryPage:
        """Return deliveries of a webhook, newest first. Raises Invalid (the cursor)."""

    async def redeliver(self, webhook_id: UUID, delivery_id: UUID) -> Delivery:
        """Make a delivery due now, with all its tries. Raises NotFound."""

    async def find_position(self, holder: str) -> DispatchPosition | None:
        """Return how far the journal has become deliveries, or None while another process goes on with it."""

    async def find_subscriptions(self, task_ids: Collection[UUID]) -> list[Subscription]:
        """Return every webhook but those that came with other tasks than these."""

    async def dispatch(self, found: Sequence[Delivery], *, after: str | None, to: str) -> bool:
        """Store deliveries, each event once for a webhook, and move on in the journal, in one commit.

        False, and no change, if it was moved on from `after` already. Those of webhooks that are erased are left out.
        """

    async def find_due(
        self, *, full: Collection[str], full_owners: Collection[str] = (), each: int, limit: int
    ) -> list[DueDelivery]:
        """Return deliveries whose time has come, at most `each` of a lane, none of a paused webhook.

        First comes the oldest of each owner's webhooks, then the second of each, and so on; of these the oldest first.
        None of a lane, or of a share of lanes (`share_of`), that is among those which are `full`, and none of an owner
        among `full_owners`.
        """

    async def take(self, due: Sequence[DueDelivery]) -> list[DueDelivery]:
        """Begin an attempt of each, for DELIVERY_LEASE; return, as they are now, those that nobody else has begun."""

    async def settle(
        self, delivery: Delivery, outcome: DeliveryOutcome, *, failing_before: datetime, too_long: str
    ) -> bool:
        """Store how an attempt went. False, and no change, if it is not the latest one of a delivery that is pending.

        A webhook that has failed since `failing_before` without a success is paused, and why is `too_long`.
        """

    async def drop(self, delivery: Delivery) -> None:
        """Erase a delivery about which there is nothing to tell any more."""

    async def prune(self, *, keep: timedelta, limit: int) -> int:
        """Erase deliveries that have ended, or waited in vain, for longer than `keep`; return how many."""
