"""The model of steps: what a task remembers and waits for, and its children. It works on the twins of all tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from tests.contract.twin import NEVER, Twin

from tasker.model import Draft, Status
from tasker.model.steps import Wait
from tasker.model.tasks import ChildCounts

Twins = dict[UUID, Twin]
INSTANT = timedelta(microseconds=1)
PARKED = ("sleeping", "waiting_for_children", "input_required")
_BAD = (Status.FAILED, Status.CANCELLED)


@dataclass
class StepTwin:
    """A step. children: by place; those that are erased, or were let go, are no longer in it."""

    key: str
    kind: str = "step"
    until: datetime | None = None
    is_answered: bool = False
    total: int = 0
    most: int | None = None
    is_detached: bool = False
    drafts: list[Draft] = field(default_factory=list)
    children: dict[int, UUID] = field(default_factory=dict)
    ended: dict[Status, int] = field(default_factory=lambda: dict.fromkeys((Status.COMPLETED, *_BAD), 0))
    in_flight: int = 0
    may_run_again: bool = False
    is_awaited: bool = False

    @property
    def is_there(self) -> bool:
        if self.kind == "children":
            return sum(self.ended.values()) >= self.total
        return self.is_answered

    @property
    def numbers(self) -> tuple[int, int, int, bool]:
        return self.ended[Status.COMPLETED], self.ended[Status.FAILED], self.ended[Status.CANCELLED], self.may_run_again

    def clock_was_set(self, before: datetime, step: timedelta) -> None:
        """The length of an open wait stays; a time that has come stays so."""
        if self.until is not None and not self.is_answered:
            self.until = self.until + step if self.until > before else min(self.until, before + step)


def start(twin: Twin, step: StepTwin, twins: Twins, children: list[Twin]) -> None:
    """Store a step with new children."""
    twin.steps[step.key] = step
    step.total = len(children)
    for place, child in enumerate(children):
        twins[child.draft.task_id] = child
        step.children[place] = child.draft.task_id
        child.parent, child.step = twin.draft.task_id, step
        if step.most is not None and step.in_flight >= step.most:
            hold(child)
        else:
            step.in_flight += 1


def hold(child: Twin) -> None:
    child.is_held, child.reason, child.due_at = True, "dependencies", NEVER


def is_there(twin: Twin, wait: Wait, now: datetime) -> bool:
    """Tell whether a task need not wait; else mark what it waits for."""
    for step in twin.steps.values():
        step.is_awaited = False
    steps = [twin.steps[key] for key in (*wait.inputs, *wait.children)]
    if (wait.until is not None and wait.until <= now) or any(step.is_there for step in steps):
        return True
    for step in steps:
        step.is_awaited = True
    return False


def notice(twin: Twin, step: StepTwin, now: datetime) -> None:
    """Wake a task that is parked for a step."""
    if twin.status is Status.PENDING and twin.reason in PARKED and step.is_awaited:
        twin.reason, twin.due_at = "queued", now
        for one in twin.steps.values():
            one.is_awaited = False


def note_end(twins: Twins, twin: Twin, now: datetime) -> None:
    """Note the end of a task, once: its parent counts it."""
    if twin.is_end_noted:
        return
    twin.is_end_noted = True
    parent = None if twin.parent is None else twins.get(twin.parent)
    keep_as_long(twin, parent, now)
    step = twin.step
    if parent is None or step is None:
        return
    step.ended[twin.status] += 1
    step.in_flight -= not twin.is_held
    twin.is_held = False
    if step.most is not None and (step.is_detached or parent.status not in _BAD):
        release(twins, step, now)
    if step.is_there and not parent.status.is_terminal:
        notice(parent, step, now)


def release(twins: Twins, step: StepTwin, now: datetime) -> None:
    """Release held children, as many as may be in flight."""
    held = [
        twins[task_id] for _, task_id in sorted(step.children.items()) if task_id in twins and twins[task_id].is_held
    ]
    for child in held:
        if step.most is not None and step.in_flight < step.most:
            child.is_held, child.reason, child.due_at = False, "queued", now
            step.in_flight += 1


def keep_as_long(child: Twin, parent: Twin | None, now: datetime) -> None:
    """Keep an ended child while its parent is open, and then no longer than that."""
    if child.is_gone_at_end:
        child.is_gone = True
    if parent is None:
        return
    own = None if child.draft.retention is None else child.finished_at + child.draft.retention
    if not parent.status.is_terminal:
        child.expires_at = None
    elif parent.is_over(now):
        child.parent = None
        child.expires_at = own
    elif parent.expires_at is not None:
        until = parent.expires_at - INSTANT
        child.expires_at = until if own is None else min(own, until)
    else:
        child.expires_at = own


def children_of(twins: Twins, twin: Twin) -> list[Twin]:
    return [one for one in twins.values() if one.parent == twin.draft.task_id]


def reopen(twins: Twins, twin: Twin, status: Status) -> None:
    """Note that a task, which had ended so, is pending again."""
    twin.is_end_noted = False
    if twin.parent is not None and twin.step is not None:
        twin.step.ended[status] -= 1
        twin.step.in_flight += 1
    for child in children_of(twins, twin):
        child.expires_at = None
    may_run_again(twins, twin)


def may_run_again(twins: Twins, twin: Twin) -> None:
    """A new try begins."""
    for step in twin.steps.values():
        has_bad = step.ended[Status.FAILED] + step.ended[Status.CANCELLED] > 0
        step.may_run_again |= has_bad or has_stopping(twins, twin, step)


def has_stopping(twins: Twins, twin: Twin, step: StepTwin) -> bool:
    """Tell whether a child of a step was asked to stop, and runs still."""
    children = (one for one in children_of(twins, twin) if one.step is step)
    return any(child.status is Status.RUNNING and child.cancel_requested for child in children)


def asked(twin: Twin, now: datetime) -> str | None:
    """Return the key of the question that a task shows."""
    if twin.status.is_terminal:
        return None
    return next(
        (
            step.key
            for step in twin.steps.values()
            if step.kind == "input" and not step.is_answered and (step.until is None or step.until > now)
        ),
        None,
    )


def counts(twins: Twins, twin: Twin) -> ChildCounts | None:
    """Return the numbers of children that a task shows."""
    steps = [step for step in twin.steps.values() if step.kind == "children"]
    if not steps:
        return None
    completed, failed, cancelled = (sum(step.ended[status] for step in steps) for status in (Status.COMPLETED, *_BAD))
    running = sum(child.status is Status.RUNNING for child in children_of(twins, twin))
    pending = sum(step.total for step in steps) - completed - failed - cancelled - running
    return ChildCounts(pending=pending, running=running, completed=completed, failed=failed, cancelled=cancelled)
