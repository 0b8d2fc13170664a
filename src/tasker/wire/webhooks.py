"""Webhooks and their deliveries."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from tasker.model.webhooks import DeliveryStatus, Failure, WebhookFormat, WebhookStatus
from tasker.wire.shapes import Always, Moment

EventName = Annotated[str, Meta(examples=["task.completed"])]


class Webhook(Struct, frozen=True, kw_only=True):
    """A receiver of events; a task must match each filter that is given.

    format: of its messages. status: while it is paused, deliveries wait. `reason` says why it was paused, null if a
    person paused it. failing_since: when its deliveries began to fail. old_secret_until: when the previous secret stops
    signing. task_id: the only task it is about, if it came with one. all_owners: whether it receives events of all
    owners' tasks.
    """

    # The client reads a receipt as a Webhook, too: hence the defaults.

    webhook_id: UUID
    url: Always[str] = ""
    events: Always[list[EventName]] = []
    type: Always[str | None] = None
    queue: Always[str | None] = None
    tag: Always[str | None] = None
    description: Always[str | None] = None
    format: Always[WebhookFormat] = "standard"
    status: WebhookStatus
    reason: Always[str | None] = None
    failing_since: Always[Moment | None] = None
    created_at: Always[Moment] | None = None
    is_signed: Always[bool] = True
    old_secret_until: Always[Moment | None] = None
    task_id: Always[UUID | None] = None
    all_owners: Always[bool] = False
    links: dict[str, str]


class WebhookWithSecret(Webhook, frozen=True, kw_only=True):
    """A webhook with the secret that its receiver verifies by, which is shown this once."""

    secret: str


class WebhookReceipt(Struct, frozen=True, kw_only=True):
    """A webhook for a key without the scope `read`: its id, and what this request has set.

    secret: the new one of a rotation, shown this once.
    """

    webhook_id: UUID
    status: WebhookStatus
    description: str | UnsetType | None = UNSET
    secret: str | UnsetType = UNSET
    links: dict[str, str]


class WebhookPage(Struct, frozen=True, kw_only=True):
    """A slice of the webhooks, newest first; `next_cursor` is opaque, null at the end."""

    items: list[Webhook]
    next_cursor: str | None


class DeliveryFailure(Failure, frozen=True, kw_only=True):
    """Why the last attempt failed."""  # the model's, under the name that it has in the OpenAPI document


class Delivery(Struct, frozen=True, kw_only=True):
    """One event for one receiver. event_id: the `webhook-id` header, the same at each attempt. duration: in seconds.

    task_id: null for the end of a group, which `group` names.
    """

    # The client reads a receipt as a Delivery, too: hence the defaults.

    delivery_id: UUID
    webhook_id: UUID
    event_id: Always[str] = ""
    event: Always[EventName] = ""
    task_id: Always[UUID | None] = None
    group: str | None = None
    status: DeliveryStatus
    attempts: Always[int] = 0
    created_at: Always[Moment] | None = None
    attempted_at: Always[Moment | None] = None
    next_attempt_at: Always[Moment | None] = None
    response_code: Always[int | None] = None
    duration: Always[float | None] = None
    error: Always[DeliveryFailure | None] = None
    links: dict[str, str]


class DeliveryReceipt(Struct, frozen=True, kw_only=True):
    """A delivery for a key without the scope `read`."""

    delivery_id: UUID
    webhook_id: UUID
    status: DeliveryStatus
    links: dict[str, str]


class DeliveryPage(Struct, frozen=True, kw_only=True):
    """A slice of a webhook's deliveries, newest first; `next_cursor` is opaque, null at the end."""

    items: list[Delivery]
    next_cursor: str | None
