"""Webhooks: who is told of events of tasks, and what became of each telling."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from msgspec import Struct

EVENT_TYPES = ("created", "started", "progress", "output", "log", "retrying", "completed", "failed", "cancelled")
"""What a receiver may hear of, in its own words `task.completed` and so on."""
DEFAULT_EVENTS = ("completed", "failed", "cancelled")
DELIVERY_LEASE = timedelta(seconds=30)
"""How long nobody else takes a delivery that somebody has taken: longer than an attempt may last."""

WebhookFormat = Literal["standard", "slack", "plain"]
"""What a message is: Standard Webhooks' JSON, Slack's JSON with a `text`, or that text alone."""
WebhookStatus = Literal["active", "paused"]
DeliveryStatus = Literal["pending", "delivered", "failed"]
FailureName = Literal["unsafe-url", "redirect", "refused", "timeout", "connection"]


class WebhookSecret(Struct, frozen=True, kw_only=True):
    """A secret that signs, `whsec_` and base64; `expires_at` is None for the newest one."""

    secret: str
    expires_at: datetime | None = None


MAX_WEBHOOKS_OF_TASK = 20
"""Each submission for which an open task answers may bring one."""


class Webhook(Struct, frozen=True, kw_only=True):
    """A receiver and what it hears of: every given filter must hold. owner: whose tasks it hears of, "" of those that
    belong to nobody; all_owners: of everybody's.

    secrets: newest first; none, and what it is told is not signed. task_id: the only task it hears of, for one that
    came with that task's submission. failing_since: when the oldest of the failures began that no success has followed.
    """

    webhook_id: UUID
    url: str
    events: tuple[str, ...]
    created_at: datetime
    owner: str = ""
    type: str | None = None
    queue: str | None = None
    tag: str | None = None
    description: str | None = None
    status: WebhookStatus = "active"
    reason: str | None = None
    failing_since: datetime | None = None
    secrets: tuple[WebhookSecret, ...] = ()
    task_id: UUID | None = None
    format: WebhookFormat = "standard"
    all_owners: bool = False

    @property
    def lane(self) -> str:
        """What its deliveries share a bound with: themselves, or all that one owner's single tasks tell to one host."""
        return str(self.webhook_id) if self.task_id is None else f"{self.owner}\t{urlsplit(self.url).netloc}"

    def signing(self, now: datetime) -> list[str]:
        """Return the secrets that sign now, newest first."""
        return [one.secret for one in self.secrets if one.expires_at is None or one.expires_at > now]


def share_of(lane: str) -> str:
    """Return how the lanes of all hosts begin that one owner's single tasks tell; "" for that of any other webhook."""
    return lane[: lane.find("\t") + 1]


class Subscription(NamedTuple):
    """A webhook, and the commit after which it was made: it hears of what came with a later one. 0: of any."""

    webhook: Webhook
    made_after: int = 0


class Failure(Struct, frozen=True, kw_only=True):
    """Why an attempt to tell a receiver did not succeed."""

    name: FailureName
    detail: str


class Delivery(Struct, frozen=True, kw_only=True):
    """The telling of one event to one webhook: `sequence` is the event's within its task, `event` its type.

    attempts: how often it was tried in all; `tries` since it was last asked for. due_at: when it is tried next, and of
    one that has ended the time of that. duration: seconds of the last attempt. lane: see Webhook.
    """

    delivery_id: UUID
    webhook_id: UUID
    task_id: UUID
    sequence: int
    event: str
    status: DeliveryStatus
    lane: str
    created_at: datetime
    due_at: datetime
    attempts: int = 0
    tries: int = 0
    attempted_at: datetime | None = None
    response_code: int | None = None
    duration: float | None = None
    error: Failure | None = None

    @property
    def message_id(self) -> str:
        """What tells the event from every other, the same at each attempt and to each receiver."""
        return f"evt_{self.task_id.hex}_{self.sequence}"


class DueDelivery(Struct, frozen=True, kw_only=True):
    """A delivery whose time has come, and whom it is for."""

    delivery: Delivery
    webhook: Webhook


class DeliveryOutcome(Struct, frozen=True, kw_only=True):
    """What one attempt changes. due_at: of the next try, None at the end. pause: why nothing more is sent for now."""

    status: DeliveryStatus
    at: datetime
    due_at: datetime | None
    response_code: int | None
    duration: float
    error: Failure | None
    pause: str | None = None


class DeliveryPage(Struct, frozen=True, kw_only=True):
    """A slice of a webhook's deliveries, newest first; `next_cursor` is opaque, None at the end."""

    items: list[Delivery]
    next_cursor: str | None = None


class WebhookPage(Struct, frozen=True, kw_only=True):
    """A slice of the webhooks, newest first; `next_cursor` is opaque, None at the end."""

    items: list[Webhook]
    next_cursor: str | None = None


class DispatchPosition(Struct, frozen=True, kw_only=True):
    """The right to go on with the journal from `position` (None: its beginning). is_idle: there is no webhook."""

    position: str | None
    is_idle: bool


class WebhookRef(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The webhook that came with a task's submission, as the Task shows it: without the format if it is standard."""

    webhook_id: UUID
    url: str
    events: tuple[str, ...]
    format: WebhookFormat = "standard"
