"""The use cases of webhooks: create, get, list, change, delete, rotate the secret, list and repeat deliveries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from msgspec import structs

from tasker.clock import Clock
from tasker.engines.protocol import WebhookStore
from tasker.errors import Conflict, Forbidden, NotFound
from tasker.model import Draft, Extra, new_task_id
from tasker.model.keys import Caller
from tasker.model.webhooks import (
    Delivery,
    DeliveryPage,
    DeliveryStatus,
    Webhook,
    WebhookPage,
    WebhookRef,
    WebhookSecret,
)
from tasker.requests.submissions import OwnWebhook
from tasker.requests.webhooks import PREFIX
from tasker.rules.signing import new_secret
from tasker.service.cursors import Cursors

_HARMLESS = frozenset({"status", "description"})
"""Fields that do not change which events go to which receiver."""
MAX_WEBHOOKS = 1000
"""Limit of one owner's webhooks, as each event is matched against all of them."""


@dataclass
class Webhooks:
    """The webhooks of a store."""

    _store: WebhookStore
    _clock: Clock
    _cursors: Cursors

    async def create(self, caller: Caller, fields: dict[str, Any]) -> Webhook:
        """Store a webhook with the fields that `requests.webhooks.read_webhook` returned.

        Raises Forbidden (the caller may not read the events, or asks for all owners and is no admin), Conflict (too
        many).
        """
        _check_reads(caller)
        _check_owners(caller, fields)
        now = self._clock.now()
        secret = fields.get("secret") or new_secret()
        webhook = Webhook(
            webhook_id=new_task_id(now),
            owner=caller.owner,
            created_at=now,
            secrets=(WebhookSecret(secret=secret),),
            **{name: value for name, value in fields.items() if name != "secret"},
        )
        await self._store.create(webhook, most=MAX_WEBHOOKS)
        return webhook

    async def get(self, caller: Caller, webhook_id: UUID) -> Webhook:
        """Return the webhook. Raises NotFound, also for another owner's."""
        webhook = await self._store.find(webhook_id)
        hidden = webhook is None or not caller.sees(webhook.owner) or (webhook.all_owners and caller.only is not None)
        if webhook is None or hidden:
            raise NotFound(f"there is no webhook {webhook_id}")
        return webhook

    async def find_many(self, caller: Caller, *, limit: int, cursor: str | None = None) -> WebhookPage:
        """Return webhooks, newest first. Raises Invalid for a cursor that no page returned."""
        found = partial(self._store.find_many, owner=caller.only, limit=limit)
        return await self._cursors.page("webhook", cursor, lambda at: found(cursor=at))

    async def change(self, caller: Caller, webhook_id: UUID, fields: dict[str, Any]) -> Webhook:
        """Set the fields that `read_webhook_patch` returned; setting `status` clears its failures.

        Raises NotFound, Forbidden (as `create`), Conflict (it belongs to a task).
        """
        if fields.keys() - _HARMLESS:
            _check_reads(caller)
        _check_owners(caller, fields)
        await self._get_changeable(caller, webhook_id)
        fresh = {"reason": None, "failing_since": None} if "status" in fields else {}
        return await self._store.change(webhook_id, lambda webhook: structs.replace(webhook, **fields, **fresh))

    async def rotate(self, caller: Caller, webhook_id: UUID, secret: str | None, keep_for: timedelta) -> Webhook:
        """Sign with a new secret, and for `keep_for` also with the previous one.

        Raises NotFound, Conflict (it belongs to a task).
        """
        await self._get_changeable(caller, webhook_id)
        new, now = secret or new_secret(), self._clock.now()
        return await self._store.change(webhook_id, lambda webhook: _rotated(webhook, new, now, keep_for))

    async def delete(self, caller: Caller, webhook_id: UUID) -> None:
        """Erase a webhook and its deliveries. Raises NotFound."""
        await self.get(caller, webhook_id)
        await self._store.delete(webhook_id)

    async def deliveries(
        self, caller: Caller, webhook_id: UUID, *, status: DeliveryStatus | None, limit: int, cursor: str | None = None
    ) -> DeliveryPage:
        """Return deliveries, newest first. Raises NotFound, Invalid for a cursor that no page returned."""
        await self.get(caller, webhook_id)
        found = partial(self._store.find_deliveries, webhook_id, status=status, limit=limit)
        return await self._cursors.page("delivery", cursor, lambda at: found(cursor=at))

    async def redeliver(self, caller: Caller, webhook_id: UUID, delivery_id: UUID) -> Delivery:
        """Schedule a delivery again, at once and with all its tries. Raises NotFound."""
        await self.get(caller, webhook_id)
        return await self._store.redeliver(webhook_id, delivery_id)

    async def _get_changeable(self, caller: Caller, webhook_id: UUID) -> None:
        webhook = await self.get(caller, webhook_id)
        if webhook.task_id is not None:
            raise Conflict(f"this webhook came with task {webhook.task_id} and cannot be changed")


def _check_owners(caller: Caller, fields: dict[str, Any]) -> None:
    if fields.get("all_owners") and caller.only is not None:
        raise Forbidden("admin", "`all_owners` gets the events of everybody's tasks")


def _check_reads(caller: Caller) -> None:
    if not caller.may("read"):
        raise Forbidden("read", "a webhook sends its receiver what tasks report")


def with_webhook(draft: Draft, asked: OwnWebhook) -> Draft:
    """Attach the task's own webhook."""
    webhook = Webhook(
        webhook_id=new_task_id(draft.created_at),
        url=asked.url,
        events=asked.events,
        created_at=draft.created_at,
        owner=draft.owner,
        secrets=() if asked.secret is None else (WebhookSecret(secret=asked.secret),),
        format=asked.format,
    )
    events = tuple(PREFIX + name for name in asked.events)
    shown = WebhookRef(webhook_id=webhook.webhook_id, url=asked.url, events=events, format=asked.format)
    return structs.replace(draft, webhook=webhook, extra=structs.replace(draft.extra or Extra(), webhook=shown))


def _rotated(webhook: Webhook, secret: str, now: datetime, keep_for: timedelta) -> Webhook:
    """Return the webhook with a new secret; the same object if that is its newest secret already."""
    newest, *_ = webhook.secrets
    if newest.secret == secret:
        return webhook
    old = structs.replace(newest, expires_at=now + keep_for)
    return structs.replace(webhook, secrets=(WebhookSecret(secret=secret), *((old,) if keep_for else ())))
