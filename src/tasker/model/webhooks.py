"""Webhooks: receivers of the events of tasks, and the deliveries to them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from msgspec import Raw, Struct

from tasker.model.pages import PageOf

DEFAULT_EVENTS = ("completed", "failed", "cancelled")
DELIVERY_LEASE = timedelta(seconds=30)
"""How long a claimed delivery belongs to its dispatcher: longer than an attempt may last."""

WebhookFormat = Literal["standard", "slack", "plain"]
"""The format of messages: JSON of Standard Webhooks, Slack's JSON with a `text`, or only that text."""
WebhookStatus = Literal["active", "paused"]
DeliveryStatus = Literal["pending", "delivered", "failed"]
FailureName = Literal["unsafe-url", "redirect", "refused", "timeout", "connection"]


class WebhookSecret(Struct, frozen=True, kw_only=True):
    """A secret for signatures, `whsec_` and base64. `expires_at`: None for the newest one."""

    secret: str
    expires_at: datetime | None = None


MAX_WEBHOOKS_OF_TASK = 20
"""Limit of the webhooks of one task: each submission that joins an open task may bring one."""


class Webhook(Struct, frozen=True, kw_only=True):
    """A receiver, and filters for the events that it gets; every given filter must match.

    owner: whose tasks' events it gets; "" for tasks without an owner. all_owners: it gets those of all owners. secrets:
    newest first; without any, messages are not signed. task_id: for a webhook that came with a submission, the only
    task whose events it gets. failing_since: since when all attempts have failed; None after a success.
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
        """The slot pool of its deliveries: its id; for webhooks of single tasks, the owner and the host."""
        return str(self.webhook_id) if self.task_id is None else f"{self.owner}\t{urlsplit(self.url).netloc}"

    def signing(self, now: datetime) -> list[str]:
        """Return the secrets to sign with now, newest first."""
        return [one.secret for one in self.secrets if one.expires_at is None or one.expires_at > now]


def share_of(lane: str) -> str:
    """Return the common prefix of the slot pools for an owner's single tasks; "" for the pool of any other webhook."""
    return lane[: lane.find("\t") + 1]


class Subscription(NamedTuple):
    """A webhook, and the commit after which it was created: it gets events of later commits (0: of all commits)."""

    webhook: Webhook
    made_after: int = 0


class Failure(Struct, frozen=True, kw_only=True):
    """Why an attempt of a delivery failed."""

    name: FailureName
    detail: str


class Delivery(Struct, frozen=True, kw_only=True):
    """The delivery of one event to one webhook. `sequence`: of the event within its task; `event`: its type.

    group_end: the GroupEnd that it is about, as JSON; then `task_id` is an id of this end alone, and no task's.
    attempts: how many were made in all; tries: since it was last requested. due_at: time of the next attempt; of a
    delivery that has ended, of its end. duration: seconds of the last attempt. lane: its slot pool, see Webhook.
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
    group_end: Raw | None = None

    @property
    def message_id(self) -> str:
        """The event's unique id: the same at each attempt and for each receiver."""
        return f"evt_{self.task_id.hex}_{self.sequence}"


class DueDelivery(Struct, frozen=True, kw_only=True):
    """A due delivery, and its webhook."""

    delivery: Delivery
    webhook: Webhook


class DeliveryOutcome(Struct, frozen=True, kw_only=True):
    """The result of one attempt. due_at: of the next one; None at the end. pause: why the webhook is to be paused."""

    status: DeliveryStatus
    at: datetime
    due_at: datetime | None
    response_code: int | None
    duration: float
    error: Failure | None
    pause: str | None = None


DeliveryPage = PageOf[Delivery]
WebhookPage = PageOf[Webhook]


class DispatchPosition(Struct, frozen=True, kw_only=True):
    """The position in the journal from which to dispatch (None: its beginning), and the right to do so.

    is_idle: there is no webhook, so there is nothing to dispatch.
    """

    position: str | None
    is_idle: bool


class WebhookRef(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The webhook that came with a task's submission, as the Task shows it; without `format` if it is standard."""

    webhook_id: UUID
    url: str
    events: tuple[str, ...]
    format: WebhookFormat = "standard"
