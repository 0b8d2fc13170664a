"""Steps as both engines store and show them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import structs

from tasker.errors import Invalid, LimitReached
from tasker.model import Draft, Extra
from tasker.model.steps import Family, Forget, NewChildren, Question, Step
from tasker.model.tasks import Asked
from tasker.rules.steps import unknown_names

TRIED = ("failed", "timed_out")
"""Endings of attempts after which the next one is a new try: children that failed may run again."""
COLLECT_BYTES = 1 << 20
"""Results and errors of children after which one call of `find_children` ends."""
_question = msgspec.json.Decoder(Question).decode
_extra = msgspec.json.Decoder(Extra).decode
_encode = msgspec.json.Encoder().encode


def as_read(step: Step) -> Step:
    """Return a stored step as it is read: an erased secret value is none."""
    return structs.replace(step, secret_value=None) if step.secret_value == b"" else step


def asked_by(step: Step) -> Asked:
    """Return the question of a step of kind `input`."""
    assert step.question is not None
    question = _question(step.question)
    return Asked(
        name=question.name,
        message=question.message,
        schema=question.schema,
        asked_at=step.started_at,
        expires_at=step.until,
    )


def family_of(task_id: UUID, level: int, owner: str, deadline: datetime | None, extra: bytes | None) -> Family:
    """Return what the children of a task get from it. extra: the column of its row."""
    options = Extra() if extra is None else _extra(extra)
    return Family(
        root_id=options.root_id or task_id,
        level=level,
        owner=owner,
        deadline=deadline,
        traceparent=options.traceparent,
    )


def given_data(step: Step, by: str) -> bytes:
    """Return the data of the event `input_given`."""
    return _encode({"name": step.name, "key": step.key, "by": by})


def check_room(total: int, more: int, most: int) -> None:
    """Raise LimitReached if a task that has `total` children would have more than `most`."""
    if total + more > most:
        raise LimitReached(f"a task may have {most:,} children (TASKER_MAX_CHILDREN): {total + more:,} are too many")


def to_store(children: NewChildren, stored: int) -> dict[int, Draft]:
    """Return those of these children, by their places, that are not among the first `stored`: these may be erased."""
    return {place: draft for place, draft in enumerate(children.drafts, children.first) if place >= stored}


def to_forget(steps: Sequence[Step], forget: Forget) -> list[Step]:
    """Return those of a task's steps, given in order, that a retry forgets. Raises Invalid for an unknown name."""
    unknown = unknown_names(forget, steps)
    if unknown:
        names = ", ".join(sorted({step.key for step in steps})[:20]) or "none"
        raise Invalid(f"the task has no step {min(unknown)!r}; it has: {names}")
    first = next((step.number for step in steps if forget.since in (step.key, step.name)), None)
    return [
        step
        for step in steps
        if step.key in forget.names or step.name in forget.names or (first is not None and step.number >= first)
    ]
