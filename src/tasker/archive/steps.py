"""Check the steps of an archive's tasks, and their places in families."""

from __future__ import annotations

from datetime import datetime
from typing import get_args

import msgspec

from tasker.archive import values as check
from tasker.model.archive import StoredChild, StoredStep, StoredTask
from tasker.model.steps import Question, StepKind
from tasker.rules.children import MAX_LEVEL
from tasker.validation.answers import question_faults

MAX_NUMBER = (1 << 20) - 1
"""The highest number of a step, below that of which SQLite makes a key."""
PARKED = ("sleeping", "waiting_for_children", "input_required")
"""The reasons of pending tasks that have parked."""
_KINDS: tuple[str, ...] = get_args(StepKind)
_MAX_KEY = 250
_COUNTS = ("total", "stored", "in_flight", "completed", "failed", "cancelled")
_decode_question = msgspec.json.Decoder(Question).decode


def vet_steps(task: StoredTask, latest: datetime) -> None:
    """Raise ValueError for a step that no attempt of the task could have stored. latest: limit of all times."""
    last = 0
    keys: set[str] = set()
    for place, step in enumerate(task.steps):
        where = f"/steps/{place}"
        check.whole(f"{where}/number", step.number, last + 1, MAX_NUMBER)
        last = step.number
        if step.key in keys:
            raise check.expected(f"{where}/key", "each key once", step.key)
        keys.add(step.key)
        _vet_step(where, step, task, latest)


def vet_child(task: StoredTask) -> None:
    """Raise ValueError for a place in a family that no child could have."""
    if task.child is None:
        return
    if task.parent_id is None:
        raise check.expected("/child", "null in a task without a parent_id in /extra", "one")
    if not task.has_dependants:
        raise check.expected("/has_dependants", "true in a child", task.has_dependants)
    _vet_place(task, task.child)


def _vet_place(task: StoredTask, child: StoredChild) -> None:
    check.whole("/child/number", child.number, 1, MAX_NUMBER)
    check.whole("/child/place", child.place, 0, check.MOST)
    check.whole("/child/level", child.level, 1, MAX_LEVEL)
    if child.is_held and not task.is_waiting:
        raise check.expected("/child/is_held", f"false in a task that is {task.status}, {task.reason}", True)


def _vet_step(where: str, step: StoredStep, task: StoredTask, latest: datetime) -> None:
    check.one_of(f"{where}/kind", step.kind, _KINDS)
    check.text(f"{where}/key", step.key, _MAX_KEY)
    check.text(f"{where}/name", step.name, _MAX_KEY)
    check.whole(f"{where}/attempt", step.attempt, 0, task.attempt)
    for field in ("started_at", "finished_at", "until"):
        check.moment(f"{where}/{field}", getattr(step, field), latest)
    check.name(f"{where}/answered_by", step.answered_by, empty=True, optional=True)
    if step.value is not None:
        check.written_json(f"{where}/value", step.value)
    if step.kind in ("input", "children") and not task.has_dependants:
        raise check.expected("/has_dependants", f"true in a task with a step of kind {step.kind}", False)
    _vet_question(where, step)
    _vet_counts(where, step)


def _vet_question(where: str, step: StoredStep) -> None:
    if (step.question is not None) != (step.kind == "input"):
        raise check.expected(f"{where}/question", "one in a step of kind input, else null", step.question)
    if step.question is None:
        return
    question = check.decoded(f"{where}/question", step.question, _decode_question)
    faults = question_faults(msgspec.json.decode(question.schema))
    if faults:
        raise ValueError(f"{where}/question/schema{faults[0].pointer}: {faults[0].detail}")


def _vet_counts(where: str, step: StoredStep) -> None:
    most = check.MOST if step.kind == "children" else 0
    for field in _COUNTS:
        check.whole(f"{where}/{field}", getattr(step, field), 0, most)
    check.whole(f"{where}/max_in_flight", step.max_in_flight, 1, check.MOST, optional=True)
    ended = step.completed + step.failed + step.cancelled
    check.whole(f"{where}/stored", step.stored, ended + step.in_flight, step.total)
