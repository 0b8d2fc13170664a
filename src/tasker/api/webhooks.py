"""The operations on webhooks and their deliveries: from a request to the service and back."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from tasker.api.calls import Call, Parameter, one_of
from tasker.api.operation import BODY_PROBLEMS, INPUT_PROBLEMS, Answer, Operation
from tasker.api.pages import DEFAULT_LIMIT, next_link, page_parameters
from tasker.api.replies import Reply, empty_reply, json_reply
from tasker.api.tasks import Moment
from tasker.model.webhooks import Delivery, FailureName, Webhook, WebhookFormat
from tasker.requests.webhooks import (
    PREFIX,
    RotationBody,
    WebhookBody,
    WebhookPatch,
    read_rotation,
    read_webhook,
    read_webhook_patch,
)
from tasker.rules.urls import UrlRules
from tasker.service.webhooks import Webhooks

EventName = Annotated[str, Meta(examples=["task.completed"])]


class WebhookView(Struct, frozen=True, kw_only=True):
    """A receiver that is told of events; a task must fit each filter that is given.

    format: what its messages are. status: a paused one is told later. `reason` says why it was paused, null where a
    person did. failing_since: since when nothing could be delivered. old_secret_until: until when the secret before
    this one signs too. task_id: the only task it is about, if it came with one. all_owners: whether it hears of the
    tasks of all owners.
    """

    webhook_id: UUID
    url: str
    events: list[EventName]
    type: str | None
    queue: str | None
    tag: str | None
    description: str | None
    format: WebhookFormat
    status: Literal["active", "paused"]
    reason: str | None
    failing_since: Moment | None
    created_at: Moment
    is_signed: bool
    old_secret_until: Moment | None
    task_id: UUID | None
    all_owners: bool
    links: dict[str, str]


class NewWebhookView(WebhookView, frozen=True, kw_only=True):
    """A webhook with the secret that its receiver verifies by. It is shown this once."""

    secret: str


class WebhookReceipt(Struct, frozen=True, kw_only=True):
    """What a key without the scope `read` is told in the place of a webhook: what this request has set, and its id.

    secret: the new one of a rotation, shown this once.
    """

    webhook_id: UUID
    status: Literal["active", "paused"]
    description: str | UnsetType | None = UNSET
    secret: str | UnsetType = UNSET
    links: dict[str, str]


class DeliveryReceipt(Struct, frozen=True, kw_only=True):
    """What a key without the scope `read` is told in the place of a delivery."""

    delivery_id: UUID
    webhook_id: UUID
    status: Literal["pending", "delivered", "failed"]
    links: dict[str, str]


class WebhookPageView(Struct, frozen=True, kw_only=True):
    """A slice of the webhooks, newest first; `next_cursor` is opaque, null at the end."""

    items: list[WebhookView]
    next_cursor: str | None


class FailureView(Struct, frozen=True, kw_only=True):
    """Why the last attempt did not succeed."""

    name: FailureName
    detail: str


class DeliveryView(Struct, frozen=True, kw_only=True):
    """The telling of one event. event_id: the `webhook-id` header, the same at each attempt. duration: in seconds."""

    delivery_id: UUID
    webhook_id: UUID
    event_id: str
    event: EventName
    task_id: UUID
    status: Literal["pending", "delivered", "failed"]
    attempts: int
    created_at: Moment
    attempted_at: Moment | None
    next_attempt_at: Moment | None
    response_code: int | None
    duration: float | None
    error: FailureView | None
    links: dict[str, str]


class DeliveryPageView(Struct, frozen=True, kw_only=True):
    """A slice of a webhook's deliveries, newest first; `next_cursor` is opaque, null at the end."""

    items: list[DeliveryView]
    next_cursor: str | None


_STATUS = Parameter(
    "status", "Only deliveries with this status.", {"type": "string", "enum": ["pending", "delivered", "failed"]},
    one_of("pending", "delivered", "failed"),
)  # fmt: skip


class WebhookOperations:
    """rules: where a webhook may lead."""

    def __init__(self, webhooks: Webhooks, rules: UrlRules) -> None:
        self._webhooks = webhooks
        self._rules = rules

    async def create(self, call: Call) -> Reply:
        call.query()
        webhook = await self._webhooks.create(call.caller, read_webhook(await call.body(), self._rules))
        return json_reply(_with_secret(webhook), 201, (b"location", _path(webhook).encode()))

    async def find_many(self, call: Call) -> Reply:
        query = call.query()
        page = await self._webhooks.find_many(
            call.caller, limit=query.get("limit", DEFAULT_LIMIT), cursor=query.get("cursor")
        )
        view = WebhookPageView(items=[_view(webhook) for webhook in page.items], next_cursor=page.next_cursor)
        return json_reply(view, 200, *next_link(call, "/webhook", page.next_cursor))

    async def get(self, call: Call) -> Reply:
        call.query()
        return json_reply(_view(await self._webhooks.get(call.caller, call.id_of("webhook_id"))))

    async def change(self, call: Call) -> Reply:
        call.query()
        webhook_id = call.id_of("webhook_id")
        fields = read_webhook_patch(await call.body(), self._rules)
        webhook = await self._webhooks.change(call.caller, webhook_id, fields)
        if call.caller.may("read"):
            return json_reply(_view(webhook))
        return json_reply(_receipt(webhook, description=fields.get("description", UNSET)))

    async def rotate(self, call: Call) -> Reply:
        call.query()
        webhook_id = call.id_of("webhook_id")
        secret, keep_for = read_rotation(await call.body())
        webhook = await self._webhooks.rotate(call.caller, webhook_id, secret, keep_for)
        if call.caller.may("read"):
            return json_reply(_with_secret(webhook))
        return json_reply(_receipt(webhook, secret=webhook.secrets[0].secret))

    async def delete(self, call: Call) -> Reply:
        call.query()
        await self._webhooks.delete(call.caller, call.id_of("webhook_id"))
        return empty_reply(204)

    async def deliveries(self, call: Call) -> Reply:
        query = call.query()
        webhook_id = call.id_of("webhook_id")
        page = await self._webhooks.deliveries(
            call.caller, webhook_id, status=query.get("status"), limit=query.get("limit", DEFAULT_LIMIT),
            cursor=query.get("cursor"),
        )  # fmt: skip
        view = DeliveryPageView(items=[_delivery_view(one) for one in page.items], next_cursor=page.next_cursor)
        return json_reply(view, 200, *next_link(call, f"/webhook/{webhook_id}/deliveries", page.next_cursor))

    async def redeliver(self, call: Call) -> Reply:
        call.query()
        webhook_id, delivery_id = call.id_of("webhook_id"), call.id_of("delivery_id")
        view = _delivery_view(await self._webhooks.redeliver(call.caller, webhook_id, delivery_id))
        return json_reply(view if call.caller.may("read") else _delivery_receipt(view), 202)


def webhook_operations(webhooks: WebhookOperations) -> list[Operation]:
    """Return what can be done with webhooks."""
    inputs = (*BODY_PROBLEMS, *INPUT_PROBLEMS, "cross-origin", "unavailable")
    on_one = ("not-found", "unknown-field", "unavailable")
    return [
        Operation(
            "POST", "/webhook", "create_webhook", "webhooks", "Have a receiver told of events", webhooks.create,
            scope="control", answers={201: Answer("It is told from now on.", NewWebhookView, ("Location",))},
            problems=(*inputs, "unsafe-url", "limit-reached"), body=WebhookBody, example=_EXAMPLE,
        ),
        Operation(
            "GET", "/webhook", "list_webhooks", "webhooks", "List the webhooks, newest first", webhooks.find_many,
            scope="read", answers={200: Answer("A page of webhooks.", WebhookPageView, ("Link",))},
            problems=("invalid-request", "unknown-field", "unavailable"), parameters=page_parameters("webhooks"),
        ),
        Operation(
            "GET", "/webhook/{webhook_id}", "get_webhook", "webhooks", "Read a webhook", webhooks.get, scope="read",
            answers={200: Answer("The webhook, without its secret.", WebhookView)}, problems=on_one,
        ),
        Operation(
            "PATCH", "/webhook/{webhook_id}", "change_webhook", "webhooks",
            "Change a webhook, pause it or let it go on", webhooks.change, scope="control",
            answers={200: Answer("The webhook as it is now.", WebhookView, receipt=WebhookReceipt)},
            problems=(*inputs, "unsafe-url", "not-found", "conflict"), body=WebhookPatch, example={"status": "paused"},
        ),
        Operation(
            "DELETE", "/webhook/{webhook_id}", "delete_webhook", "webhooks", "Erase a webhook and its deliveries",
            webhooks.delete, scope="control", answers={204: Answer("It is erased.")},
            problems=(*on_one, "cross-origin"),
        ),
        Operation(
            "POST", "/webhook/{webhook_id}/rotate", "rotate_secret", "webhooks",
            "Have a new secret sign, for a while beside the old one", webhooks.rotate, scope="control",
            answers={200: Answer("The webhook with its new secret.", NewWebhookView, receipt=WebhookReceipt)},
            problems=(*inputs, "not-found", "conflict"), body=RotationBody, example={},
        ),
        Operation(
            "GET", "/webhook/{webhook_id}/deliveries", "list_deliveries", "webhooks",
            "List what a receiver was told, newest first", webhooks.deliveries, scope="read",
            answers={200: Answer("A page of deliveries.", DeliveryPageView, ("Link",))},
            problems=(*on_one, "invalid-request"), parameters=(_STATUS, *page_parameters("deliveries")),
        ),
        Operation(
            "POST", "/webhook/{webhook_id}/deliveries/{delivery_id}/redeliver", "redeliver", "webhooks",
            "Have a delivery made again", webhooks.redeliver, scope="control",
            answers={202: Answer("It will be, soon and with all its tries.", DeliveryView, receipt=DeliveryReceipt)},
            problems=(*on_one, "cross-origin"),
        ),
    ]  # fmt: skip


_EXAMPLE = {"url": "https://example.com/hook", "events": ["task.completed", "task.failed"], "type": "gpt"}


def _view(webhook: Webhook) -> WebhookView:
    return WebhookView(**_fields(webhook))


def _with_secret(webhook: Webhook) -> NewWebhookView:
    return NewWebhookView(**_fields(webhook), secret=webhook.secrets[0].secret)


def _receipt(
    webhook: Webhook, *, description: str | UnsetType | None = UNSET, secret: str | UnsetType = UNSET
) -> WebhookReceipt:
    return WebhookReceipt(
        webhook_id=webhook.webhook_id, status=webhook.status, description=description, secret=secret,
        links={"self": _path(webhook)},
    )  # fmt: skip


def _delivery_receipt(view: DeliveryView) -> DeliveryReceipt:
    links = {"redeliver": view.links["redeliver"]}
    return DeliveryReceipt(delivery_id=view.delivery_id, webhook_id=view.webhook_id, status=view.status, links=links)


def _fields(webhook: Webhook) -> dict[str, Any]:
    path = _path(webhook)
    same = (
        "webhook_id", "url", "type", "queue", "tag", "description", "format", "status", "reason", "failing_since",
        "created_at", "task_id", "all_owners",
    )  # fmt: skip
    links = {"self": path, "deliveries": f"{path}/deliveries"}
    return {
        **{name: getattr(webhook, name) for name in same},
        "events": [PREFIX + name for name in webhook.events],
        "is_signed": bool(webhook.secrets),
        "old_secret_until": webhook.secrets[1].expires_at if len(webhook.secrets) > 1 else None,
        "links": links if webhook.task_id is None else {**links, "task": f"/task/{webhook.task_id}"},
    }


def _delivery_view(delivery: Delivery) -> DeliveryView:
    path = f"/webhook/{delivery.webhook_id}/deliveries/{delivery.delivery_id}"
    error = delivery.error
    return DeliveryView(
        delivery_id=delivery.delivery_id, webhook_id=delivery.webhook_id, event_id=delivery.message_id,
        event=PREFIX + delivery.event, task_id=delivery.task_id, status=delivery.status, attempts=delivery.attempts,
        created_at=delivery.created_at, attempted_at=delivery.attempted_at,
        next_attempt_at=delivery.due_at if delivery.status == "pending" else None,
        response_code=delivery.response_code, duration=delivery.duration,
        error=None if error is None else FailureView(name=error.name, detail=error.detail),
        links={"redeliver": f"{path}/redeliver", "task": f"/task/{delivery.task_id}"},
    )  # fmt: skip


def _path(webhook: Webhook) -> str:
    return f"/webhook/{webhook.webhook_id}"
