"""What the events of steps say, in sentences for the log of a task's page. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from tasker.web import texts, times

WARNS = frozenset({"step_failed"})
"""Events that are lines of the level `warning`; the others are of `info`."""
_MESSAGE = 400


def sentence_of(event: str, data: Mapping[str, Any]) -> str | None:
    """Return what an event says; None for one that is not about steps."""
    say = _SENTENCES.get(event)
    return None if say is None else say(data)


def _name(data: Mapping[str, Any]) -> str:
    return texts.line(str(data.get("key") or data.get("name") or ""), 80)


def _started(data: Mapping[str, Any]) -> str:
    return f"step {_name(data)} begins"


def _completed(data: Mapping[str, Any]) -> str:
    took = data.get("took")
    return f"step {_name(data)} is done" + (f", took {times.duration(took)}" if isinstance(took, int | float) else "")


def _failed(data: Mapping[str, Any]) -> str:
    tried = f", try {data['try']}" if isinstance(data.get("try"), int) else ""
    error = data.get("error")
    detail = str(error.get("detail") or error.get("title") or "") if isinstance(error, dict) else str(error or "")
    return f"step {_name(data)} failed{tried}" + (f": {texts.line(detail, _MESSAGE)}" if detail else "")


_WAITS = {
    "sleeping": "it sleeps",
    "waiting_for_children": "it waits for its children",
    "input_required": "it waits for a person",
}


def _parked(data: Mapping[str, Any]) -> str:
    until, reason = _time(data.get("until")), str(data.get("reason"))
    at_most = "" if reason == "sleeping" else ", at most"
    return f"gave its slot back: {_WAITS.get(reason, 'it waits')}" + (f"{at_most} until {until}" if until else "")


def _time(text: Any) -> str:
    """Return a time of an event for people; what is no time as it is."""
    try:
        return times.full(msgspec.convert(text, datetime).astimezone(UTC))
    except (msgspec.ValidationError, ValueError, OverflowError):
        return texts.line(str(text or ""), 40)


def _resumed(data: Mapping[str, Any]) -> str:
    steps = data.get("steps")
    if not isinstance(steps, int):
        return "goes on"
    return f"goes on with {times.number(steps)} {'step' if steps == 1 else 'steps'} remembered"


def _asked(data: Mapping[str, Any]) -> str:
    message = texts.line(str(data.get("message") or ""), _MESSAGE)
    return f"asks {_name(data)}" + (f": {message}" if message else "")


def _given(data: Mapping[str, Any]) -> str:
    by = texts.line(str(data.get("by") or ""), 60)
    return f"{by} answered {_name(data)}" if by else f"{_name(data)} was answered"


_SENTENCES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "step_started": _started,
    "step_completed": _completed,
    "step_failed": _failed,
    "parked": _parked,
    "resumed": _resumed,
    "input_required": _asked,
    "input_given": _given,
}
