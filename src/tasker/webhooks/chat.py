"""What a chat is told: one or two lines of text about an event. Pure.

What a task says may come from anybody. In a chat it must neither mention people, nor become a link, nor break out of
its line.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from tasker.model import Event, Task

MAX_WORDS = 300
"""Characters of what a task says."""

_VERBS = {
    "created": "was created", "started": "has started", "progress": "goes on", "output": "writes", "log": "logs",
    "retrying": "is tried again", "completed": "completed", "failed": "failed", "cancelled": "was cancelled",
}  # fmt: skip
_ZERO_WIDTH_SPACE = "\u200b"
_ACTIVE = re.compile(r"@|:(?=//)|[.\u3002\uff0e\uff61](?=\w)")
"""Signs that make a mention, a URL or the name of a host; behind a space of no width they make none."""
_encode = msgspec.json.Encoder().encode


class _Error(Struct):
    detail: str = ""


class _Data(Struct):
    """The data of events, as far as it is told: each type has some of it."""

    error: _Error | None = None
    fraction: float | None = None
    message: str | None = None
    level: str = ""
    chunk: str = ""


class _Parts(NamedTuple):
    """A text in parts: the type, what happened to the task, and what it says about that, if anything."""

    type: str
    what: str
    said: str


def make_text(event: Event, task: Task) -> str:
    """Return the text."""
    parts = _find_parts(event, task)
    return f"{parts.type} {parts.what}" + (f"\n{parts.said}" if parts.said else "")


def make_slack(event: Event, task: Task) -> bytes:
    """Return the text in JSON as Slack's incoming webhooks take it; what comes from the task is shown as code."""
    parts = _find_parts(event, task)
    text = f"{_code(parts.type)} {parts.what}" + (f"\n{_code(parts.said)}" if parts.said else "")
    return _encode({"text": text})


def _find_parts(event: Event, task: Task) -> _Parts:
    attempt = f" in attempt {event.attempt}" if event.attempt > 1 else ""
    what = f"{_VERBS.get(event.type, event.type)}{attempt} (task {task.task_id})"
    return _Parts(_tame(task.type), what, _tame(_find_said(event, task)))


def _find_said(event: Event, task: Task) -> str:
    data = _read(event.data)
    match event.type:
        case "failed":
            return "" if task.error is None else task.error.detail
        case "retrying":
            return "" if data.error is None else data.error.detail
        case "progress":
            share = "" if data.fraction is None else f"{data.fraction:.0%} "
            return share + (data.message or "")
        case "log":
            return "" if data.message is None else f"{data.level}: {data.message}"
        case "output":
            return data.chunk
    return ""


def _read(data: Raw) -> _Data:
    try:
        return msgspec.json.decode(data, type=_Data)
    except msgspec.DecodeError:  # an archive may bring anything
        return _Data()


def _tame(text: str) -> str:
    """Return `text` on one line, shortened, without control characters, and with nothing that a chat acts upon."""
    shown = "".join(character if character.isprintable() else " " for character in text[: 4 * MAX_WORDS])
    line = " ".join(shown.split())
    line = line if len(line) <= MAX_WORDS else line[:MAX_WORDS] + "..."
    return _ACTIVE.sub(lambda found: found[0] + _ZERO_WIDTH_SPACE, line)


def _code(text: str) -> str:
    """Return `text` as code, without Slack's own markup: `<!channel>`, `<@user>`, `<https://...|links>`."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "`" + escaped.replace("`", "'") + "`"
