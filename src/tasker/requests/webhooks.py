"""Bodies of webhooks: new webhooks, changes, rotations of the secret, and the webhook of a submission."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from tasker.model import queue_name_pattern, type_name_pattern
from tasker.model.events import EVENT_TYPES, GROUP_ENDED, WEBHOOK_EVENTS
from tasker.model.webhooks import DEFAULT_EVENTS, WebhookFormat, WebhookStatus
from tasker.requests.body import by, duration, read_members, read_object, read_whole
from tasker.rules.signing import is_secret
from tasker.rules.urls import MAX_URL, UnsafeUrl, UrlRules, read_url
from tasker.validation.durations import Duration
from tasker.validation.faults import Faults, kind_of

PREFIX = "task."
"""Clients see the types of events with this prefix."""
KEEP_OLD_SECRET = timedelta(hours=24)
MAX_KEEP_OLD_SECRET = timedelta(days=7)
_FORMATS: tuple[str, ...] = get_args(WebhookFormat)
_TASK_EVENTS = tuple(PREFIX + name for name in EVENT_TYPES)


def public_event(name: str) -> str:
    """Return the type of an event as clients see it."""
    return name if name == GROUP_ENDED else PREFIX + name


_EVENT_NAMES = tuple(map(public_event, WEBHOOK_EVENTS))


def _read_events(value: Any) -> tuple[str, ...]:
    return _read_names(value, _EVENT_NAMES)


def _read_task_events(value: Any) -> tuple[str, ...]:
    return _read_names(value, _TASK_EVENTS)


def _read_names(value: Any, known: Sequence[str]) -> tuple[str, ...]:
    names = msgspec.convert(value, list[str])
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        got = f", got {unknown[0][:50]!r}" if unknown else ""
        raise ValueError(f"expected some of {', '.join(known)}{got}")
    return tuple(dict.fromkeys(name.removeprefix(PREFIX) for name in names))


def _read_format(value: Any) -> str:
    text: str = msgspec.convert(value, str)
    if text not in _FORMATS:
        raise ValueError(f"expected one of {', '.join(_FORMATS)}, got {text[:50]!r}")
    return text


def _read_secret(value: Any) -> str:
    text: str = msgspec.convert(value, str)
    if not is_secret(text):
        raise ValueError("expected `whsec_` and 24 to 64 bytes in base64")
    return text


Url = Annotated[
    str,
    Meta(
        max_length=MAX_URL,
        description="Where events are sent: https, a public host, no user, no fragment.",
        examples=["https://example.com/hook"],
    ),
    by(lambda value: msgspec.convert(value, str)),  # `check_url` has its own message for long ones
]
Events = Annotated[
    list[Annotated[str, Meta(extra_json_schema={"enum": list(_EVENT_NAMES)})]],
    Meta(min_length=1, description="The events to send; by default those that end a task."),
    by(_read_events),
]
TaskEvents = Annotated[
    list[Annotated[str, Meta(extra_json_schema={"enum": list(_TASK_EVENTS)})]],
    Meta(min_length=1, description="The events to send; by default those that end a task."),
    by(_read_task_events),
]
Secret = Annotated[
    str,
    Meta(description="Signs the messages: `whsec_` and 24 to 64 bytes in base64; generated if not given."),
    by(_read_secret),
]
Format = Annotated[
    WebhookFormat,
    Meta(
        description="The format of messages: `standard` JSON with the task (the default), `slack` for chats that take "
        "Slack's `text`, or `plain` text."
    ),
    by(_read_format),
]
TypeFilter = Annotated[str, Meta(pattern=type_name_pattern, description="Only tasks of this type.")]
QueueFilter = Annotated[str, Meta(pattern=queue_name_pattern, description="Only tasks of this queue.")]
TagFilter = Annotated[str, Meta(min_length=1, max_length=100, description="Only tasks with this tag.")]
AllOwners = Annotated[
    bool, Meta(description="Whether it gets the events of all owners' tasks, for admins only; false if not given.")
]
Description = Annotated[str, Meta(max_length=200, description="A note of your own.")]
KeepFor = Annotated[
    Duration,
    Meta(description="How long the old secret signs too, at most a week; a day if not given."),
    duration(MAX_KEEP_OLD_SECRET),
]


class OwnWebhookBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A webhook for one task alone; its messages are signed only if it has a secret."""

    url: Url
    events: TaskEvents | None = None
    secret: Secret | None = None
    format: Format | None = None


class WebhookBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /webhook; null is the same as left out."""

    url: Url
    events: Events | None = None
    type: TypeFilter | None = None
    queue: QueueFilter | None = None
    tag: TagFilter | None = None
    description: Description | None = None
    secret: Secret | None = None
    format: Format | None = None
    all_owners: AllOwners | None = None


class WebhookPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of PATCH /webhook/{webhook_id}: the fields to change; null resets a field."""

    url: Url | UnsetType = UNSET
    events: Events | None = None
    type: TypeFilter | None = None
    queue: QueueFilter | None = None
    tag: TagFilter | None = None
    description: Description | None = None
    format: Format | None = None
    all_owners: AllOwners | None = None
    status: (
        Annotated[WebhookStatus, Meta(description="`paused` keeps events until it is active again.")] | UnsetType
    ) = UNSET


class RotationBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /webhook/{webhook_id}/rotate; it may be empty."""

    secret: Secret | None = None
    keep_old_for: KeepFor | None = None


_RESETS: dict[str, Any] = {
    "events": DEFAULT_EVENTS,
    "type": None,
    "queue": None,
    "tag": None,
    "description": None,
    "format": "standard",
    "all_owners": False,
}


def read_webhook(body: bytes, rules: UrlRules) -> dict[str, Any]:
    """Read the body of a new webhook; return the fields that it sets, and `secret`. Raises Malformed, Invalid."""
    faults = Faults()
    fields = read_whole(_given(read_object(body)), WebhookBody, faults)
    check_url(fields, rules, faults)
    faults.check()
    return {"events": DEFAULT_EVENTS, **fields}


def read_webhook_patch(body: bytes, rules: UrlRules) -> dict[str, Any]:
    """Read the body of a change; return the fields that it sets. Raises Malformed, Invalid."""
    faults = Faults()
    fields = read_members(read_object(body), WebhookPatch, faults, resets=_RESETS)
    check_url(fields, rules, faults)
    faults.check()
    return fields


def read_rotation(body: bytes) -> tuple[str | None, timedelta]:
    """Read the body of a rotation; return the secret, if one is given, and how long the old one signs too."""
    faults = Faults()
    fields = read_whole(_given(read_object(body)) if body.strip() else {}, RotationBody, faults)
    faults.check()
    return fields.get("secret"), fields.get("keep_old_for", KEEP_OLD_SECRET)


def read_own_webhook(value: Any, pointer: str, rules: UrlRules, faults: Faults) -> dict[str, Any]:
    """Return the fields of a webhook that comes with a submission; add every fault."""
    if not isinstance(value, dict):
        faults.add(pointer, f"expected an object with `url`, got {kind_of(value)}")
        return {}
    fields = read_whole(_given(value), OwnWebhookBody, faults, pointer)
    check_url(fields, rules, faults, pointer)
    return {"events": DEFAULT_EVENTS, **fields}


def _given(value: dict[str, Any]) -> dict[str, Any]:
    """Return the members that are not null; here null means left out, even for unknown members."""
    return {name: member for name, member in value.items() if member is not None}


def check_url(fields: dict[str, Any], rules: UrlRules, faults: Faults, pointer: str = "") -> None:
    """Add a fault for a URL where no webhook may lead; put a valid one in canonical form."""
    if "url" in fields:
        try:
            fields["url"] = read_url(fields["url"], rules).url
        except UnsafeUrl as error:
            faults.add(f"{pointer}/url", str(error), "unsafe-url")
