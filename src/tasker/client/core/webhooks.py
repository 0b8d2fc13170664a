"""Calls about webhooks and their deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from tasker.client.core.effects import Call, Flow
from tasker.client.core.exchange import Exchange
from tasker.client.core.lists import page_of
from tasker.client.core.paths import segment
from tasker.client.core.waiting import as_timedelta
from tasker.wire.webhooks import Delivery, DeliveryPage, Webhook, WebhookPage, WebhookWithSecret


@dataclass(frozen=True)
class WebhookCalls:
    """What `Webhooks` and `AsyncWebhooks` do; see there."""

    exchange: Exchange

    def create(self, fields: Mapping[str, Any]) -> Call[WebhookWithSecret]:
        return self.exchange.read("POST", "/webhook", WebhookWithSecret, body=_given(fields), retries=0)

    def find_many(self, limit: int | None) -> Flow[Webhook]:
        return self.exchange.read_list("/webhook", WebhookPage, {"limit": page_of(limit)}, limit)

    def get(self, webhook_id: UUID | str) -> Call[Webhook]:
        return self.exchange.read("GET", _path(webhook_id), Webhook)

    def change(self, webhook_id: UUID | str, fields: Mapping[str, Any]) -> Call[Webhook]:
        return self.exchange.read("PATCH", _path(webhook_id), Webhook, body=fields)

    def delete(self, webhook_id: UUID | str) -> Call[None]:
        yield from self.exchange.send("DELETE", _path(webhook_id), retries=0)

    def rotate(
        self, webhook_id: UUID | str, secret: str | None, keep_old_for: timedelta | float | None
    ) -> Call[WebhookWithSecret]:
        kept = None if keep_old_for is None else as_timedelta(keep_old_for).total_seconds()
        body = _given({"secret": secret, "keep_old_for": kept})
        return self.exchange.read("POST", f"{_path(webhook_id)}/rotate", WebhookWithSecret, body=body, retries=0)

    def deliveries(self, webhook_id: UUID | str, status: str | None, limit: int | None) -> Flow[Delivery]:
        query = {"status": status, "limit": page_of(limit)}
        return self.exchange.read_list(f"{_path(webhook_id)}/deliveries", DeliveryPage, query, limit)

    def redeliver(self, webhook_id: UUID | str, delivery_id: UUID | str) -> Call[Delivery]:
        path = f"{_path(webhook_id)}/deliveries/{segment(delivery_id)}/redeliver"
        return self.exchange.read("POST", path, Delivery)


def _path(webhook_id: UUID | str) -> str:
    return f"/webhook/{segment(webhook_id)}"


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
