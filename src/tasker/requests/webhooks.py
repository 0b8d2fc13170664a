"""What a client may ask for when it wants somebody to be told of events: the bodies about webhooks, read and checked.

Every fault is found in one go and named by a JSON Pointer into the body.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from tasker.errors import Fault, Invalid
from tasker.model import queue_name_pattern, type_name_pattern
from tasker.model.webhooks import DEFAULT_EVENTS, EVENT_TYPES, WebhookFormat, WebhookStatus
from tasker.rules.signing import is_secret
from tasker.rules.urls import MAX_URL, UnsafeUrl, UrlRules, read_url
from tasker.validation.durations import Duration, read_duration
from tasker.validation.faults import Faults, kind_of, missing_field, refusal_fault, unknown_field
from tasker.validation.jsontext import escape, read_json

PREFIX = "task."
"""What the types of events begin with outside."""
KEEP_OLD_SECRET = timedelta(hours=24)
MAX_KEEP_OLD_SECRET = timedelta(days=7)
_FORMATS: tuple[str, ...] = get_args(WebhookFormat)
_EVENT_NAMES = tuple(PREFIX + name for name in EVENT_TYPES)

Url = Annotated[
    str, Meta(max_length=MAX_URL, description="Where to: https, a public host, no user, no fragment.", examples=["https://example.com/hook"])
]  # fmt: skip
Events = Annotated[
    list[Annotated[str, Meta(extra_json_schema={"enum": list(_EVENT_NAMES)})]],
    Meta(min_length=1, description="Of which events to tell; the ends of tasks if not given."),
]
Secret = Annotated[
    str, Meta(description="What signs: `whsec_` and 24 to 64 bytes in base64; made for you if not given.")
]
Format = Annotated[
    WebhookFormat,
    Meta(
        description="What a message is: `standard` JSON with the task, `slack` for chats that take Slack's `text`, or "
        "`plain` text; standard if not given."
    ),
]
TypeFilter = Annotated[str, Meta(pattern=type_name_pattern, description="Only of tasks of this type.")]
QueueFilter = Annotated[str, Meta(pattern=queue_name_pattern, description="Only of tasks of this queue.")]
TagFilter = Annotated[str, Meta(min_length=1, max_length=100, description="Only of tasks with this tag.")]
AllOwners = Annotated[
    bool, Meta(description="Whether it hears of the tasks of all owners; only an admin's may. False if not given.")
]
Description = Annotated[str, Meta(max_length=200, description="A note of your own.")]
KeepFor = Annotated[
    Duration,
    Meta(description="For how long the old secret signs too, at most a week; a day if not given."),
]


class OwnWebhookBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is told of one task alone; without a secret it is not signed."""

    url: Url
    events: Events | None = None
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
    """The body of PATCH /webhook/{webhook_id}: what is to be changed; null takes back what was set."""

    url: Url | UnsetType = UNSET
    events: Events | None = None
    type: TypeFilter | None = None
    queue: QueueFilter | None = None
    tag: TagFilter | None = None
    description: Description | None = None
    format: Format | None = None
    all_owners: AllOwners | None = None
    status: Annotated[WebhookStatus, Meta(description="`paused` keeps what is to be told.")] | UnsetType = UNSET


class RotationBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /webhook/{webhook_id}/rotate; an empty object will do."""

    secret: Secret | None = None
    keep_old_for: KeepFor | None = None


def read_webhook(body: bytes, rules: UrlRules) -> dict[str, Any]:
    """Read the body of a new webhook; return the fields that it sets, and `secret`. Raises Malformed, Invalid."""
    value = _object(body)
    faults = Faults()
    fields = _read({key: member for key, member in value.items() if member is not None}, _NEW, "", faults, rules)
    if value.get("url") is None:
        faults.put(missing_field("", "url"))
    faults.check()
    return {"events": DEFAULT_EVENTS, **fields}


def read_webhook_patch(body: bytes, rules: UrlRules) -> dict[str, Any]:
    """Read the body of a change; return the fields that it sets. Raises Malformed, Invalid."""
    value = _object(body)
    taken_back = {key: _UNSET_VALUES[key] for key in value.keys() & _UNSET_VALUES.keys() if value[key] is None}
    faults = Faults()
    fields = _read({key: value[key] for key in value if key not in taken_back}, _PATCH, "", faults, rules)
    faults.check()
    return {**taken_back, **fields}


def read_rotation(body: bytes) -> tuple[str | None, timedelta]:
    """Read the body of a rotation; return the secret, if one is given, and how long the old one signs too."""
    value = _object(body) if body.strip() else {}
    faults = Faults()
    fields = _read({key: member for key, member in value.items() if member is not None}, _ROTATION, "", faults)
    faults.check()
    return fields.get("secret"), fields.get("keep_old_for", KEEP_OLD_SECRET)


def read_own_webhook(value: Any, pointer: str, rules: UrlRules, faults: Faults) -> dict[str, Any]:
    """Return the fields of a webhook that comes with a submission; add everything that is wrong with it to `faults`."""
    if not isinstance(value, dict):
        faults.add(pointer, f"expected an object with `url`, got {kind_of(value)}")
        return {}
    given = {key: member for key, member in value.items() if member is not None}
    fields = _read(given, _OWN, pointer, faults, rules)
    if "url" not in given:
        faults.put(missing_field(pointer, "url"))
    return {"events": DEFAULT_EVENTS, **fields}


def _object(body: bytes) -> dict[str, Any]:
    value = read_json(body)
    if not isinstance(value, dict):
        raise Invalid("expected an object", faults=[Fault("", f"expected an object, got {kind_of(value)}")])
    return value


_Reader = Callable[[Any, UrlRules], Any]


def _read(
    value: dict[str, Any], readers: dict[str, _Reader], pointer: str, faults: Faults, rules: UrlRules | None = None
) -> dict[str, Any]:
    """Return the members that are right; add a fault for each other one."""
    fields: dict[str, Any] = {}
    for key, member in value.items():
        if faults.is_full:
            break
        place = f"{pointer}/{escape(key)}"
        if key not in readers:
            faults.put(unknown_field(pointer, key, readers), "unknown-field")
            continue
        try:
            fields[key] = readers[key](member, rules or UrlRules())
        except UnsafeUrl as error:
            faults.add(place, str(error), "unsafe-url")
        except msgspec.ValidationError as error:
            faults.put(refusal_fault(str(error), place))
        except ValueError as error:
            faults.add(place, str(error))
    return fields


def _typed(type_: Any) -> _Reader:
    return lambda value, _: msgspec.convert(value, type_)


def _url(value: Any, rules: UrlRules) -> str:
    return read_url(msgspec.convert(value, str), rules).url


def _events(value: Any, _: UrlRules) -> tuple[str, ...]:
    names = msgspec.convert(value, list[str])
    unknown = [name for name in names if name not in _EVENT_NAMES]
    if unknown or not names:
        got = f", got {unknown[0][:50]!r}" if unknown else ""
        raise ValueError(f"expected some of {', '.join(_EVENT_NAMES)}{got}")
    return tuple(dict.fromkeys(name.removeprefix(PREFIX) for name in names))


def _format(value: Any, _: UrlRules) -> str:
    text: str = msgspec.convert(value, str)
    if text not in _FORMATS:
        raise ValueError(f"expected one of {', '.join(_FORMATS)}, got {text[:50]!r}")
    return text


def _keep_for(value: Any, _: UrlRules) -> timedelta:
    return read_duration(value, MAX_KEEP_OLD_SECRET)


def _secret(value: Any, _: UrlRules) -> str:
    text: str = msgspec.convert(value, str)
    if not is_secret(text):
        raise ValueError("expected `whsec_` and 24 to 64 bytes in base64")
    return text


_OWN: dict[str, _Reader] = {"url": _url, "events": _events, "secret": _secret, "format": _format}
_FILTERS: dict[str, _Reader] = {
    "type": _typed(TypeFilter),
    "queue": _typed(QueueFilter),
    "tag": _typed(TagFilter),
    "description": _typed(Description),
}
_NEW = {**_OWN, **_FILTERS, "all_owners": _typed(AllOwners)}
_PATCH: dict[str, _Reader] = {
    "url": _url, "events": _events, **_FILTERS, "format": _format, "all_owners": _typed(AllOwners),
    "status": _typed(WebhookStatus),
}  # fmt: skip
_ROTATION: dict[str, _Reader] = {"secret": _secret, "keep_old_for": _keep_for}
_UNSET_VALUES: dict[str, Any] = {
    "events": DEFAULT_EVENTS,
    "format": "standard",
    "all_owners": False,
    **dict.fromkeys(_FILTERS),
}
