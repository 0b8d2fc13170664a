"""The operations on webhooks and their deliveries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from tasker.api.calls import Call, Parameter, one_of
from tasker.api.operation import Answer, delete, get, ok, patch, post
from tasker.api.pages import list_query, page_parameters, show_page
from tasker.api.replies import Reply, empty_reply, json_reply
from tasker.model.groups import GroupEnd
from tasker.model.webhooks import Delivery, Webhook
from tasker.requests.webhooks import (
    RotationBody,
    WebhookBody,
    WebhookPatch,
    public_event,
    read_rotation,
    read_webhook,
    read_webhook_patch,
)
from tasker.rules.urls import UrlRules
from tasker.service.webhooks import Webhooks
from tasker.wire import webhooks as wire
from tasker.wire.shapes import show

_STATUS = Parameter(
    "status",
    "Only deliveries with this status.",
    {"type": "string", "enum": ["pending", "delivered", "failed"]},
    one_of("pending", "delivered", "failed"),
)
_EXAMPLE = {"url": "https://example.com/hook", "events": ["task.completed", "task.failed"], "type": "gpt"}


@dataclass
class WebhookOperations:
    """Create, read, change, rotate and erase webhooks; list and repeat deliveries. rules: of the webhooks' URLs."""

    tag = "webhooks"

    _webhooks: Webhooks
    _rules: UrlRules

    @post(
        "/webhook",
        "Register a receiver of events",
        {201: Answer("It receives events from now on.", wire.WebhookWithSecret, ("Location",))},
        scope="control",
        problems=("unsafe-url", "limit-reached"),
        body=WebhookBody,
        example=_EXAMPLE,
    )
    async def create_webhook(self, call: Call) -> Reply:
        call.query()
        webhook = await self._webhooks.create(call.caller, read_webhook(await call.body(), self._rules))
        return json_reply(_with_secret(webhook), 201, (b"location", _path(webhook).encode()))

    @get(
        "/webhook",
        "List the webhooks, newest first",
        ok("A page of webhooks.", wire.WebhookPage, ("Link",)),
        parameters=page_parameters("webhooks"),
    )
    async def list_webhooks(self, call: Call) -> Reply:
        page = await self._webhooks.find_many(call.caller, **list_query(call))
        return show_page(call, "/webhook", wire.WebhookPage, page, _view)

    @get("/webhook/{webhook_id}", "Read a webhook", ok("The webhook, without its secret.", wire.Webhook))
    async def get_webhook(self, call: Call) -> Reply:
        call.query()
        return json_reply(_view(await self._webhooks.get(call.caller, call.id_of("webhook_id"))))

    @patch(
        "/webhook/{webhook_id}",
        "Change, pause or resume a webhook",
        ok("The webhook as it is now.", wire.Webhook, receipt=wire.WebhookReceipt),
        scope="control",
        problems=("unsafe-url", "conflict"),
        body=WebhookPatch,
        example={"status": "paused"},
    )
    async def change_webhook(self, call: Call) -> Reply:
        call.query()
        webhook_id = call.id_of("webhook_id")
        fields = read_webhook_patch(await call.body(), self._rules)
        webhook = await self._webhooks.change(call.caller, webhook_id, fields)
        if call.caller.may("read"):
            return json_reply(_view(webhook))
        return json_reply(_receipt(webhook, description=fields.get("description", UNSET)))

    @delete(
        "/webhook/{webhook_id}", "Erase a webhook and its deliveries", {204: Answer("It is erased.")}, scope="control"
    )
    async def delete_webhook(self, call: Call) -> Reply:
        call.query()
        await self._webhooks.delete(call.caller, call.id_of("webhook_id"))
        return empty_reply(204)

    @post(
        "/webhook/{webhook_id}/rotate",
        "Sign with a new secret, and for a while also with the old one",
        ok("The webhook with its new secret.", wire.WebhookWithSecret, receipt=wire.WebhookReceipt),
        scope="control",
        problems=("conflict",),
        body=RotationBody,
        example={},
    )
    async def rotate_secret(self, call: Call) -> Reply:
        call.query()
        webhook_id = call.id_of("webhook_id")
        secret, keep_for = read_rotation(await call.body())
        webhook = await self._webhooks.rotate(call.caller, webhook_id, secret, keep_for)
        if call.caller.may("read"):
            return json_reply(_with_secret(webhook))
        return json_reply(_receipt(webhook, secret=webhook.secrets[0].secret))

    @get(
        "/webhook/{webhook_id}/deliveries",
        "List a webhook's deliveries, newest first",
        ok("A page of deliveries.", wire.DeliveryPage, ("Link",)),
        parameters=(_STATUS, *page_parameters("deliveries")),
    )
    async def list_deliveries(self, call: Call) -> Reply:
        query = {"status": None, **list_query(call)}
        webhook_id = call.id_of("webhook_id")
        page = await self._webhooks.deliveries(call.caller, webhook_id, **query)
        return show_page(call, f"/webhook/{webhook_id}/deliveries", wire.DeliveryPage, page, _delivery_view)

    @post(
        "/webhook/{webhook_id}/deliveries/{delivery_id}/redeliver",
        "Repeat a delivery",
        {202: Answer("It is sent again soon, with all its tries.", wire.Delivery, receipt=wire.DeliveryReceipt)},
        scope="control",
    )
    async def redeliver(self, call: Call) -> Reply:
        call.query()
        webhook_id, delivery_id = call.id_of("webhook_id"), call.id_of("delivery_id")
        view = _delivery_view(await self._webhooks.redeliver(call.caller, webhook_id, delivery_id))
        return json_reply(view if call.caller.may("read") else _delivery_receipt(view), 202)


def _view(webhook: Webhook) -> wire.Webhook:
    return show(wire.Webhook, webhook, **_fields(webhook))


def _with_secret(webhook: Webhook) -> wire.WebhookWithSecret:
    return show(wire.WebhookWithSecret, webhook, **_fields(webhook), secret=webhook.secrets[0].secret)


def _fields(webhook: Webhook) -> dict[str, Any]:
    """Return the fields that are shown in another form than they are stored in."""
    path = _path(webhook)
    links = {"self": path, "deliveries": f"{path}/deliveries"}
    return {
        "events": [public_event(name) for name in webhook.events],
        "is_signed": bool(webhook.secrets),
        "old_secret_until": webhook.secrets[1].expires_at if len(webhook.secrets) > 1 else None,
        "links": links if webhook.task_id is None else {**links, "task": f"/task/{webhook.task_id}"},
    }


def _receipt(
    webhook: Webhook, *, description: str | UnsetType | None = UNSET, secret: str | UnsetType = UNSET
) -> wire.WebhookReceipt:
    links = {"self": _path(webhook)}
    return show(wire.WebhookReceipt, webhook, description=description, secret=secret, links=links)


def _delivery_view(delivery: Delivery) -> wire.Delivery:
    path = f"/webhook/{delivery.webhook_id}/deliveries/{delivery.delivery_id}"
    end = None if delivery.group_end is None else msgspec.json.decode(delivery.group_end, type=GroupEnd)
    about = f"/task/{delivery.task_id}" if end is None else f"/group/{end.name}"
    return show(
        wire.Delivery,
        delivery,
        event_id=delivery.message_id,
        event=public_event(delivery.event),
        task_id=delivery.task_id if end is None else None,
        group=None if end is None else end.name,
        next_attempt_at=delivery.due_at if delivery.status == "pending" else None,
        links={"redeliver": f"{path}/redeliver", "task" if end is None else "group": about},
    )


def _delivery_receipt(view: wire.Delivery) -> wire.DeliveryReceipt:
    return show(wire.DeliveryReceipt, view, links={"redeliver": view.links["redeliver"]})


def _path(webhook: Webhook) -> str:
    return f"/webhook/{webhook.webhook_id}"
