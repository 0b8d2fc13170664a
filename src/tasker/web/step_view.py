"""The steps of a task as its page shows them: rows of a table, bars of the chart, and what parked attempts waited for.

Pure. A step that runs is stored nowhere: its events tell of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import msgspec

from tasker.model import Attempt, Task
from tasker.model.steps import Question, Step
from tasker.rules.steps import state_of
from tasker.web import texts, times
from tasker.web.charts import Span

MOST_STEPS = 30
"""Latest steps that the page of a task shows; the page of its steps has all."""
MOST_NAMES = 30
"""Names of steps that a retry offers to forget."""
_KINDS = {"step": "step", "sleep": "sleep", "input": "question", "children": "children"}


class Running(NamedTuple):
    """A step that runs, as its events tell. failed: how many tries of it have failed in this attempt."""

    key: str
    name: str
    started_at: datetime
    failed: int = 0


class Row(NamedTuple):
    """A step in the table. status, word: the class and the word of its state. took: None if that is unknown.

    number: 0 for one that runs. href: the children of it. is_stored: whether a retry may begin with it.
    """

    number: int
    key: str
    name: str
    kind: str
    status: str
    word: str
    at: datetime
    took: timedelta | None
    value: str
    note: str
    is_stored: bool


def ended_at(step: Step, task: Task, now: datetime) -> datetime | None:
    """Return when a step ended, None while it goes on. A sleep ends with its time, though that is stored later."""
    if step.finished_at is not None:
        return step.finished_at
    if step.kind == "sleep" and step.until is not None and step.until <= now:
        return step.until
    if step.kind == "children" and not step.is_open:
        return step.started_at  # it is not known
    return task.finished_at if task.status.is_terminal else None


def rows_of(task: Task, steps: Sequence[Step], running: Iterable[Running], now: datetime) -> list[Row]:
    """Return the rows of the table: stored steps in their order, then those that run."""
    return [_row(task, step, now) for step in steps] + [_running(one, now) for one in running]


def _row(task: Task, step: Step, now: datetime) -> Row:
    status, word = look_of(step, task, now)
    end = ended_at(step, task, now)
    return Row(
        number=step.number,
        key=step.key,
        name=texts.line(step.key, 80),
        kind=_KINDS[step.kind],
        status=status,
        word=word,
        at=step.started_at,
        took=max((end or now) - step.started_at, timedelta(0)),
        value=texts.json_line(step.value, 200),
        note="kept from another task" if is_kept(task, step) else _note(step, now),
        is_stored=True,
    )


def _running(one: Running, now: datetime) -> Row:
    note = "" if not one.failed else f"{one.failed} {'try' if one.failed == 1 else 'tries'} failed"
    took = max(now - one.started_at, timedelta(0))
    name = texts.line(one.key, 80)
    return Row(0, one.key, name, "step", "running", "runs", one.started_at, took, "", note, is_stored=False)


_LOOKS = {
    ("step", "completed"): ("completed", "done"),
    ("sleep", "completed"): ("completed", "slept"),
    ("sleep", "waiting"): ("scheduled", "sleeps"),
    ("input", "completed"): ("completed", "answered"),
    ("input", "waiting"): ("ask", "asks"),
    ("input", "timed_out"): ("warn", "timed out"),
    ("children", "completed"): ("completed", "done"),
    ("children", "waiting"): ("running", "runs"),
    ("children", "failed"): ("failed", "failed"),
}


def look_of(step: Step, task: Task, now: datetime) -> tuple[str, str]:
    """Return the class and the word for the state of a step."""
    state = state_of(step, task, now)
    if state == "failed" and not step.failed:
        state = "cancelled"
    return _LOOKS.get((step.kind, state), ("cancelled", "cancelled"))


def _note(step: Step, now: datetime) -> str:
    match step.kind:
        case "sleep":
            return "" if step.until is None else f"until {times.full(step.until)}"
        case "input":
            return _say_question(step, now)
        case "children":
            return say_children(step)
    return ""


def _say_question(step: Step, now: datetime) -> str:
    if step.answered_by:
        return f"by {texts.line(step.answered_by, 60)}"
    if step.finished_at is None:
        asked = question_of(step)
        return "" if asked is None else texts.line(asked.message, 160)
    return "" if step.answered_by is not None else "its default counts" if step.value is not None else "nobody answered"


def say_children(step: Step) -> str:
    """Return how far the children of a step are: "12 of 500 ended, 1 failed"."""
    ended = step.total - step.open_children
    parts = [f"{times.number(ended)} of {times.number(step.total)} ended" if step.open_children else ""]
    parts[0] = parts[0] or f"{times.number(step.total)} {'child' if step.total == 1 else 'children'}"
    parts += [f"{times.number(step.failed)} failed"] if step.failed else []
    parts += [f"{times.number(step.cancelled)} cancelled"] if step.cancelled else []
    return ", ".join(parts)


def is_kept(task: Task, step: Step) -> bool:
    """Tell whether a step was copied from the task that this one replays."""
    return step.started_at < task.created_at


def spans_of(task: Task, steps: Iterable[Step], running: Iterable[Running], now: datetime) -> list[Span]:
    """Return the bars of the chart."""
    found = [_span(step, task, now) for step in steps if not is_kept(task, step)]
    return found + [Span(_short(one.name), "step", "running", one.started_at, None) for one in running]


@lru_cache(maxsize=1000)
def _short(name: str) -> str:
    return texts.line(name, 80)


def _span(step: Step, task: Task, now: datetime) -> Span:
    status, _ = look_of(step, task, now)
    colour = {"scheduled": "pending", "ask": "warn"}.get(status, status)
    if step.kind in ("sleep", "input") and colour == "completed":
        colour = "pending"
    note = say_children(step) if step.kind == "children" else ""
    return Span(_short(step.name), step.kind, colour, step.started_at, ended_at(step, task, now), note)


def question_of(step: Step) -> Question | None:
    """Return the question of a step, None if it has none that can be read."""
    if step.question is None:
        return None
    try:
        return msgspec.json.decode(step.question, type=Question)
    except msgspec.MsgspecError:  # what others wrote into the store must not break the page
        return None


_PARKED = {"input": "waited for a person", "children": "waited for children", "sleep": "slept"}


def parked_words(task: Task, attempts: Iterable[Attempt], steps: Sequence[Step], now: datetime) -> dict[int, str]:
    """Return for each parked attempt what the task waited for after it."""
    found = {}
    for attempt in attempts:
        if attempt.ending == "parked" and attempt.finished_at is not None:
            open_then = [step for step in steps if _was_open(step, task, attempt.finished_at, now)]
            found[attempt.attempt] = _waited_for(open_then)
    return found


def _was_open(step: Step, task: Task, at: datetime, now: datetime) -> bool:
    """Tell whether a step was waited for at a time."""
    end = ended_at(step, task, now)
    return step.kind in _PARKED and step.started_at <= at and (end is None or end > at)


def _waited_for(open_then: Sequence[Step]) -> str:
    for kind, words in _PARKED.items():
        named = list(dict.fromkeys(texts.line(step.name, 40) for step in open_then if step.kind == kind))
        if named:
            more = f" and {len(named) - 2} more" if len(named) > 2 else ""
            return f"{words} ({', '.join(named[:2])}{more})"
    return "waited"


def names_of(steps: Iterable[Step]) -> list[str]:
    """Return the names that a retry may forget."""
    return list(dict.fromkeys(step.name for step in steps))[:MOST_NAMES]
