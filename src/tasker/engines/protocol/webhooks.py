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
    """Stores webhooks and their deliveries. One process at a time attempts a delivery."""

    async def create(self, webhook: Webhook, *, most: int) -> None:
        """Store a new webhook. Raises Conflict where its owner has `most` already."""

    async def find(self, webhook_id: UUID) -> Webhook | None:
        """Return the webhook, or None."""

    async def find_many(self, *, owner: str | None, limit: int, cursor: str | None = None) -> WebhookPage:
        """Return webhooks, newest first, without those of single tasks; only those of `owner`, if given.

        Raises Invalid (the cursor).
        """

    async def change(self, webhook_id: UUID, change: Callable[[Webhook], Webhook]) -> Webhook:
        """Store what `change` returns for the stored webhook, and return it. It may run twice. Raises NotFound."""

    async def delete(self, webhook_id: UUID) -> None:
        """Erase a webhook and its deliveries. Raises NotFound."""

    async def find_deliveries(
        self, webhook_id: UUID, *, status: DeliveryStatus | None, limit: int, cursor: str | None = None
    ) -> DeliveryPage:
        """Return deliveries of a webhook, newest first. Raises Invalid (the cursor)."""

    async def redeliver(self, webhook_id: UUID, delivery_id: UUID) -> Delivery:
        """Make a delivery due now, with all its tries. Raises NotFound."""

    async def find_position(self, holder: str) -> DispatchPosition | None:
        """Return the dispatch position in the journal; None while another process dispatches."""

    async def find_subscriptions(self, task_ids: Collection[UUID]) -> list[Subscription]:
        """Return the webhooks that are not for a single task, and those of the given tasks."""

    async def dispatch(self, found: Sequence[Delivery], *, after: str | None, to: str) -> bool:
        """Store deliveries, at most one per event and webhook, and move the position to `to`, in one commit.

        False, and no change, if the position is no longer `after`. Deliveries of erased webhooks are left out.
        """

    async def find_due(
        self, *, full: Collection[str], full_owners: Collection[str] = (), each: int, limit: int
    ) -> list[DueDelivery]:
        """Return due deliveries, at most `each` of a slot pool, none of a paused webhook.

        The order is fair: the oldest delivery for each owner, then the second of each, and so on; among equals the
        oldest. Deliveries of a slot pool, or of a share of pools (`share_of`), that is in `full` are left out, and so
        are those of an owner in `full_owners`.
        """

    async def take(self, due: Sequence[DueDelivery]) -> list[DueDelivery]:
        """Begin an attempt of each, for DELIVERY_LEASE; return those that no other process has begun, as stored now."""

    async def settle(
        self, delivery: Delivery, outcome: DeliveryOutcome, *, failing_before: datetime, too_long: str
    ) -> bool:
        """Store the outcome of an attempt. False, and no change, if it is not the latest one of a pending delivery.

        A webhook that has failed since `failing_before` without a success is paused, with the reason `too_long`.
        """

    async def drop(self, delivery: Delivery) -> None:
        """Erase a delivery that can no longer be made."""

    async def prune(self, *, keep: timedelta, limit: int) -> int:
        """Erase deliveries that ended, or fell due, more than `keep` ago, at most `limit`; return how many."""
