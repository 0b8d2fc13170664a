"""Messages for chats: a few lines of text about an event. Pure.

A task's text is untrusted. In a chat it must not mention people, become a link, or break out of its line.
"""

from __future__ import annotations

import re
from shlex import quote
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from tasker.model import Event, Task
from tasker.model.groups import GroupEnd

MAX_TEXT = 300
"""Characters of a task's own text."""

_VERBS = {
    "created": "was created",
    "started": "has started",
    "progress": "goes on",
    "output": "writes",
    "log": "logs",
    "step_started": "begins a step",
    "step_completed": "has done a step",
    "step_failed": "failed in a step",
    "input_required": "asks for an answer",
    "input_given": "has got an answer",
    "parked": "waits",
    "resumed": "goes on",
    "retrying": "is tried again",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "was cancelled",
}
_ZERO_WIDTH_SPACE = "\u200b"
_ACTIVE = re.compile(r"@|:(?=//)|[.\u3002\uff0e\uff61](?=\w)")
"""Signs that make a mention, a URL or a host name, unless a zero-width space follows them."""
_encode = msgspec.json.Encoder().encode


class _Error(Struct):
    detail: str = ""


class _Data(Struct):
    """The fields of events' data that messages show; each type of event has some of them."""

    error: _Error | None = None
    fraction: float | None = None
    message: str | None = None
    level: str = ""
    chunk: str = ""
    name: str = ""
    by: str | None = None
    reason: str | None = None


class _Parts(NamedTuple):
    """A message in parts: the task type, what happened to the task, and the task's own text about it, if any.

    answer: of a question, the command that answers it.
    """

    type: str
    what: str
    text: str
    answer: str = ""


def make_text(event: Event, task: Task) -> str:
    """Return the message as plain text."""
    parts = _find_parts(event, task)
    text = f"\n{parts.text}" if parts.text else ""
    answer = f"\nAnswer on its page, or with: {parts.answer}" if parts.answer else ""
    return f"{parts.type} {parts.what}{text}{answer}"


def make_slack(event: Event, task: Task) -> bytes:
    """Return the message as JSON for Slack's incoming webhooks; what comes from the task is shown as code."""
    parts = _find_parts(event, task)
    text = f"\n{_code(parts.text)}" if parts.text else ""
    answer = f"\nAnswer on its page, or with: {_code(parts.answer)}" if parts.answer else ""
    return _encode({"text": f"{_code(parts.type)} {parts.what}{text}{answer}"})


def make_group_text(end: GroupEnd) -> str:
    """Return the message about the end of a group as plain text."""
    return f"Group {_tame(end.name)} has ended: {_counted(end)}"


def make_group_slack(end: GroupEnd) -> bytes:
    """Return the same as JSON for Slack's incoming webhooks."""
    return _encode({"text": f"Group {_code(_tame(end.name))} has ended: {_counted(end)}"})


def _counted(end: GroupEnd) -> str:
    tasks = end.tasks
    parts = ((tasks.completed, "completed"), (tasks.failed, "failed"), (tasks.cancelled, "cancelled"))
    return ", ".join(f"{number:,} {what}" for number, what in parts if number) or "no task is left"


def _find_parts(event: Event, task: Task) -> _Parts:
    attempt = f" in attempt {event.attempt}" if event.attempt > 1 else ""
    what = f"{_VERBS.get(event.type, event.type)}{attempt} (task {task.task_id})"
    return _Parts(_tame(task.type), what, _tame(_find_text(event, task)), _find_answer(event))


def _find_answer(event: Event) -> str:
    """Return the command that answers the question of an event; "" for any other event."""
    if event.type != "input_required":
        return ""
    return f"tasker input {event.task_id} {_tame(quote(_read(event.data).name))} VALUE"


def _find_text(event: Event, task: Task) -> str:
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
    return _find_step_text(event.type, data)


def _find_step_text(type: str, data: _Data) -> str:
    match type:
        case "input_required":
            return f"{data.name}: {data.message or ''}"
        case "input_given":
            return f"{data.name}, from {data.by}" if data.by else data.name
        case "step_started" | "step_completed":
            return data.name
        case "step_failed":
            return data.name if data.error is None else f"{data.name}: {data.error.detail}"
        case "parked":
            return (data.reason or "").replace("_", " ")
    return ""


def _read(data: Raw) -> _Data:
    try:
        return msgspec.json.decode(data, type=_Data)
    except msgspec.DecodeError:  # an imported archive may hold anything
        return _Data()


def _tame(text: str) -> str:
    """Return `text` on one line, shortened, without control characters or anything that a chat acts upon."""
    shown = "".join(character if character.isprintable() else " " for character in text[: 4 * MAX_TEXT])
    line = " ".join(shown.split())
    line = line if len(line) <= MAX_TEXT else line[:MAX_TEXT] + "..."
    return _ACTIVE.sub(lambda found: found[0] + _ZERO_WIDTH_SPACE, line)


def _code(text: str) -> str:
    """Return `text` as code, without Slack's own markup: `<!channel>`, `<@user>`, `<https://...|links>`."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "`" + escaped.replace("`", "'") + "`"
