"""The body of a message to a receiver."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple, assert_never

import msgspec
from msgspec import Raw, Struct, structs

from tasker.model import Event, Task
from tasker.model.events import GROUP_ENDED
from tasker.model.groups import GroupEnd
from tasker.model.webhooks import WebhookFormat
from tasker.webhooks.chat import make_group_slack, make_group_text, make_slack, make_text

MAX_PAYLOAD = 256 << 10
"""Limit of a body in bytes; parts that exceed it are left out."""

Render = Callable[[Task], bytes]
"""Returns a task's JSON as GET /task/{task_id} shows it."""

_encode = msgspec.json.Encoder().encode
_NOTHING = Raw(b"null")


class EventPart(Struct, frozen=True):
    """The event itself; `data` as its event stream has it."""

    sequence: int
    attempt: int
    data: Raw


class Payload(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of a message. truncated: result, params or more of the task are too large to send; GET has them."""

    type: str
    timestamp: datetime
    data: Raw
    event: EventPart
    truncated: bool = False


class Message(NamedTuple):
    """A body and its media type."""

    body: bytes
    content_type: str = "application/json"


def make_message(format: WebhookFormat, event: Event, task: Task, render: Render) -> Message:
    """Return what to send about `event` of `task` as it is now, in the webhook's format."""
    match format:
        case "standard":
            return Message(make_body(event, task, render))
        case "slack":
            return Message(make_slack(event, task))
        case "plain":
            return Message(make_text(event, task).encode(), "text/plain; charset=utf-8")
    assert_never(format)


class GroupPayload(Struct, frozen=True, kw_only=True):
    """The body of a message about the end of a group."""

    type: str
    timestamp: datetime
    data: GroupEnd


def make_group_message(format: WebhookFormat, end: GroupEnd) -> Message:
    """Return what to send about the end of a group, in the webhook's format."""
    match format:
        case "standard":
            return Message(_encode(GroupPayload(type=GROUP_ENDED, timestamp=end.ended_at, data=end)))
        case "slack":
            return Message(make_group_slack(end))
        case "plain":
            return Message(make_group_text(end).encode(), "text/plain; charset=utf-8")
    assert_never(format)


def make_body(event: Event, task: Task, render: Render) -> bytes:
    """Return the standard message about `event` of `task` as it is now, in at most MAX_PAYLOAD bytes."""
    body = _body(event, render(task), event.data)
    if len(body) <= MAX_PAYLOAD:
        return body
    small = structs.replace(task, params=_NOTHING, result=None)
    body = _body(event, _without(render(small), "params", "result"), event.data, truncated=True)
    if len(body) <= MAX_PAYLOAD:
        return body
    return _body(event, _without(render(small), *_WIDE), Raw(b"{}"), truncated=True)


_WIDE = ("params", "result", "metadata", "usage", "progress", "error", "tags", "input")


def _body(event: Event, task: bytes, data: Raw, *, truncated: bool = False) -> bytes:
    part = EventPart(event.sequence, event.attempt, data)
    type = f"task.{event.type}"
    return _encode(Payload(type=type, timestamp=event.time, data=Raw(task), event=part, truncated=truncated))


def _without(task: bytes, *names: str) -> bytes:
    members: dict[str, Any] = msgspec.json.decode(task, type=dict[str, Raw])
    return _encode({name: text for name, text in members.items() if name not in names})
