"""The webhooks of a service, and their deliveries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from tasker.client.core.webhooks import WebhookCalls
from tasker.client.driving import AsyncDriver, Driver
from tasker.model.webhooks import DeliveryStatus, WebhookFormat
from tasker.wire.webhooks import Delivery, Webhook, WebhookWithSecret


class Webhooks:
    """The webhooks of one service. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._calls = WebhookCalls(driver.exchange)

    def create(
        self,
        url: str,
        *,
        events: Sequence[str] | None = None,
        type: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        description: str | None = None,
        secret: str | None = None,
        format: WebhookFormat | None = None,
        all_owners: bool | None = None,
    ) -> WebhookWithSecret:
        """Send events to a URL from now on; `secret` of what it returns is shown this once.

        events: names of events, by default those of ends. type, queue, tag: only of tasks that match each. secret: what
        messages are signed with, made if None. all_owners: also events of other owners' tasks, for admins. Raises
        InvalidRequest with every fault.
        """
        fields = {
            "url": url, "events": None if events is None else list(events), "type": type, "queue": queue, "tag": tag,
            "description": description, "secret": secret, "format": format, "all_owners": all_owners,
        }  # fmt: skip
        return self._driver.run(self._calls.create(fields))

    def find_many(self, *, limit: int | None = None) -> Iterator[Webhook]:
        """Yield webhooks, newest first, at most `limit`; pages are read as they are needed."""
        return self._driver.iterate(self._calls.find_many(limit))

    def get(self, webhook_id: UUID | str) -> Webhook:
        """Return the webhook as it is now. Raises NotFound."""
        return self._driver.run(self._calls.get(webhook_id))

    def change(self, webhook_id: UUID | str, **fields: Any) -> Webhook:
        """Set the given fields of PATCH /webhook/{webhook_id}; None resets one. Raises NotFound, InvalidRequest."""
        return self._driver.run(self._calls.change(webhook_id, fields))

    def pause(self, webhook_id: UUID | str) -> Webhook:
        """Keep its events until it is resumed. Raises NotFound."""
        return self._driver.run(self._calls.change(webhook_id, {"status": "paused"}))

    def resume(self, webhook_id: UUID | str) -> Webhook:
        """Send its events again, and those that were kept. Raises NotFound."""
        return self._driver.run(self._calls.change(webhook_id, {"status": "active"}))

    def delete(self, webhook_id: UUID | str) -> None:
        """Erase a webhook with its deliveries. Raises NotFound."""
        return self._driver.run(self._calls.delete(webhook_id))

    def rotate(
        self,
        webhook_id: UUID | str,
        *,
        secret: str | None = None,
        keep_old_for: timedelta | float | None = None,
    ) -> WebhookWithSecret:
        """Give it a new secret, made if None, and return it; messages are signed with both for `keep_old_for`.

        Raises NotFound, InvalidRequest.
        """
        return self._driver.run(self._calls.rotate(webhook_id, secret, keep_old_for))

    def deliveries(
        self, webhook_id: UUID | str, *, status: DeliveryStatus | None = None, limit: int | None = None
    ) -> Iterator[Delivery]:
        """Yield its deliveries, newest first, at most `limit`; pages are read as they are needed. Raises NotFound."""
        return self._driver.iterate(self._calls.deliveries(webhook_id, status, limit))

    def redeliver(self, webhook_id: UUID | str, delivery_id: UUID | str) -> Delivery:
        """Send a delivery again, with the id of its event. Raises NotFound."""
        return self._driver.run(self._calls.redeliver(webhook_id, delivery_id))


class AsyncWebhooks:
    """The webhooks of one service. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver
        self._calls = WebhookCalls(driver.exchange)

    async def create(
        self,
        url: str,
        *,
        events: Sequence[str] | None = None,
        type: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        description: str | None = None,
        secret: str | None = None,
        format: WebhookFormat | None = None,
        all_owners: bool | None = None,
    ) -> WebhookWithSecret:
        """Send events to a URL from now on; `secret` of what it returns is shown this once.

        events: names of events, by default those of ends. type, queue, tag: only of tasks that match each. secret: what
        messages are signed with, made if None. all_owners: also events of other owners' tasks, for admins. Raises
        InvalidRequest with every fault.
        """
        fields = {
            "url": url, "events": None if events is None else list(events), "type": type, "queue": queue, "tag": tag,
            "description": description, "secret": secret, "format": format, "all_owners": all_owners,
        }  # fmt: skip
        return await self._driver.run(self._calls.create(fields))

    def find_many(self, *, limit: int | None = None) -> AsyncIterator[Webhook]:
        """Yield webhooks, newest first, at most `limit`; pages are read as they are needed."""
        return self._driver.iterate(self._calls.find_many(limit))

    async def get(self, webhook_id: UUID | str) -> Webhook:
        """Return the webhook as it is now. Raises NotFound."""
        return await self._driver.run(self._calls.get(webhook_id))

    async def change(self, webhook_id: UUID | str, **fields: Any) -> Webhook:
        """Set the given fields of PATCH /webhook/{webhook_id}; None resets one. Raises NotFound, InvalidRequest."""
        return await self._driver.run(self._calls.change(webhook_id, fields))

    async def pause(self, webhook_id: UUID | str) -> Webhook:
        """Keep its events until it is resumed. Raises NotFound."""
        return await self._driver.run(self._calls.change(webhook_id, {"status": "paused"}))

    async def resume(self, webhook_id: UUID | str) -> Webhook:
        """Send its events again, and those that were kept. Raises NotFound."""
        return await self._driver.run(self._calls.change(webhook_id, {"status": "active"}))

    async def delete(self, webhook_id: UUID | str) -> None:
        """Erase a webhook with its deliveries. Raises NotFound."""
        return await self._driver.run(self._calls.delete(webhook_id))

    async def rotate(
        self,
        webhook_id: UUID | str,
        *,
        secret: str | None = None,
        keep_old_for: timedelta | float | None = None,
    ) -> WebhookWithSecret:
        """Give it a new secret, made if None, and return it; messages are signed with both for `keep_old_for`.

        Raises NotFound, InvalidRequest.
        """
        return await self._driver.run(self._calls.rotate(webhook_id, secret, keep_old_for))

    def deliveries(
        self, webhook_id: UUID | str, *, status: DeliveryStatus | None = None, limit: int | None = None
    ) -> AsyncIterator[Delivery]:
        """Yield its deliveries, newest first, at most `limit`; pages are read as they are needed. Raises NotFound."""
        return self._driver.iterate(self._calls.deliveries(webhook_id, status, limit))

    async def redeliver(self, webhook_id: UUID | str, delivery_id: UUID | str) -> Delivery:
        """Send a delivery again, with the id of its event. Raises NotFound."""
        return await self._driver.run(self._calls.redeliver(webhook_id, delivery_id))
