"""Pure rules of steps: what a stored step is to those who look at it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from tasker.model import Task
from tasker.model.steps import Forget, Step

StepState = Literal["waiting", "completed", "failed", "timed_out", "cancelled"]
"""`failed`: children failed or were cancelled. `cancelled`: the task ended before it. `timed_out`: nobody answered."""


def state_of(step: Step, task: Task, now: datetime) -> StepState:
    """Return the state of a step of `task`."""
    if step.kind == "sleep" and step.until is not None and step.until <= now:
        return "completed"
    if step.is_open:
        return "cancelled" if task.status.is_terminal else "waiting"
    if step.kind == "input" and step.answered_by is None:
        return "timed_out"
    return "failed" if step.failed or step.cancelled else "completed"


def is_asked(step: Step, now: datetime) -> bool:
    """Tell whether a step is a question that can be answered now, while its task is open."""
    return step.kind == "input" and step.finished_at is None and (step.until is None or step.until > now)


def unknown_names(forget: Forget, steps: Iterable[Step]) -> set[str]:
    """Return the names in `forget` that no step has as its name or key."""
    asked = {*forget.names, *(() if forget.since is None else (forget.since,))}
    return asked - {name for step in steps for name in (step.name, step.key)}
