"""Steps of a task: what its function did once and remembers, what it waits for, and its children."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

from msgspec import UNSET, Raw, Struct, UnsetType

from tasker.model.drafts import Draft
from tasker.model.tasks import Asked, Reason, Status, TaskProblem

StepKind = Literal["step", "sleep", "input", "children"]
"""A call whose result is stored; a sleep; a question to a person; children started by one `call`, `map` or `spawn`."""

SHOWN_BYTES = 4096
"""Size up to which the value of a step is shown as a whole."""


class NewStep(Struct, frozen=True, kw_only=True):
    """A step as an attempt stores it; a stored one is never changed by storing it again.

    key: names it within its task, see `step_key`. finished_at: None while it is open (a sleep, an unanswered question,
    children). value: JSON text; of a step its result, of a question its answer or default, None of one that timed out.
    secret_value: the value itself, where secrets are masked in `value`; kept only as long as the task's secrets.
    until: the end of a sleep, or of a question's time. question: JSON text of a Question. total: number of children.
    """

    key: str
    name: str
    kind: StepKind
    started_at: datetime
    finished_at: datetime | None = None
    value: bytes | None = None
    secret_value: bytes | None = None
    until: datetime | None = None
    question: bytes | None = None
    total: int = 0


class Step(NewStep, frozen=True, kw_only=True):
    """A stored step. number: counts from 1 in the order of storing. attempt: the one that stored it.

    completed, failed, cancelled: its children that have ended so. may_run_again: a new try of the task began after
    children had failed or been cancelled: `StepStore.run_children_again` retries them. answered_by: the owner whose key
    gave the answer; "" where no keys are used.
    """

    number: int
    attempt: int
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    may_run_again: bool = False
    answered_by: str | None = None

    @property
    def open_children(self) -> int:
        """How many of its children have not ended, those not started yet included."""
        return self.total - self.completed - self.failed - self.cancelled

    @property
    def is_open(self) -> bool:
        """Whether something is still waited for; a sleep counts as open until its end is stored."""
        return self.open_children > 0 if self.kind == "children" else self.finished_at is None


class Question(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question to a person. schema: JSON Schema of the answer, whose `enum` has the choices, if it has any.

    default: what counts as the answer after the time is over (JSON text); UNSET: InputTimeout is raised.
    """

    name: str
    message: str
    schema: Raw
    default: Raw | UnsetType = UNSET


class OpenQuestion(Struct, frozen=True, kw_only=True):
    """A question that waits for a person: of which task, and the key of its step."""

    task_id: UUID
    type: str
    owner: str
    key: str
    asked: Asked


class Wait(Struct, frozen=True, kw_only=True):
    """What a parked task waits for; it goes on as soon as the first of all these is there.

    until: the earliest end of a sleep or of a question's time. inputs: keys of questions. children: keys of steps, each
    of which is there once all its children have ended.
    """

    until: datetime | None = None
    inputs: tuple[str, ...] = ()
    children: tuple[str, ...] = ()

    @property
    def reason(self) -> Reason:
        """The reason that the pending task shows."""
        if self.inputs:
            return "input_required"
        return "waiting_for_children" if self.children else "sleeping"


class NewChildren(Struct, frozen=True, kw_only=True):
    """Children of one step to be stored in one commit: the drafts of the places from `first` on. Parts come in order.

    step: of kind `children`, with the total of all its chunks. max_in_flight: how many may be pending or running at a
    time; the others are held and start in order, each as another one ends. is_detached: they go on when the parent
    fails or is cancelled. level: of the children in their family; the root's is 0. root_id: the root of all.
    """

    step: NewStep
    first: int
    drafts: Sequence[Draft]
    root_id: UUID
    level: int
    max_in_flight: int | None = None
    is_detached: bool = False


class Child(Struct, frozen=True, kw_only=True):
    """A child as its parent's function sees it. place: its index in its step."""

    place: int
    task_id: UUID
    status: Status
    result: bytes | None = None
    error: TaskProblem | None = None


class Family(Struct, frozen=True, kw_only=True):
    """What the children of a task get from it. level: the task's own; 0 for one without a parent."""

    root_id: UUID
    level: int
    owner: str
    deadline: datetime | None = None
    traceparent: str | None = None


class Forget(Struct, frozen=True, kw_only=True):
    """Which steps a retry forgets: those with these names or keys, or one of `since` and all stored after it."""

    names: tuple[str, ...] = ()
    since: str | None = None


def step_key(name: str, use: int) -> str:
    """Return the key of the use-th step of that name in a task, counted from 1: `charge`, `charge#2`."""
    return name if use == 1 else f"{name}#{use}"
