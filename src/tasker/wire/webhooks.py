"""Webhooks and their deliveries."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from tasker.model.webhooks import DeliveryStatus, Failure, WebhookFormat, WebhookStatus
from tasker.wire.shapes import Moment

EventName = Annotated[str, Meta(examples=["task.completed"])]


class Webhook(Struct, frozen=True, kw_only=True):
    """A receiver of events; a task must match each filter that is given.

    format: of its messages. status: while it is paused, deliveries wait. `reason` says why it was paused, null if a
    person paused it. failing_since: when its deliveries began to fail. old_secret_until: when the previous secret stops
    signing. task_id: the only task it is about, if it came with one. all_owners: whether it receives events of all
    owners' tasks.
    """

    webhook_id: UUID
    url: str
    events: list[EventName]
    type: str | None
    queue: str | None
    tag: str | None
    description: str | None
    format: WebhookFormat
    status: WebhookStatus
    reason: str | None
    failing_since: Moment | None
    created_at: Moment
    is_signed: bool
    old_secret_until: Moment | None
    task_id: UUID | None
    all_owners: bool
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

    delivery_id: UUID
    webhook_id: UUID
    event_id: str
    event: EventName
    task_id: UUID | None
    group: str | None = None
    status: DeliveryStatus
    attempts: int
    created_at: Moment
    attempted_at: Moment | None
    next_attempt_at: Moment | None
    response_code: int | None
    duration: float | None
    error: DeliveryFailure | None
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
