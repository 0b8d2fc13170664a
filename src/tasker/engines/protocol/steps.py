"""Steps of tasks, their children, and the questions that wait for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from tasker.model import Lease, Task
from tasker.model.steps import Child, Family, NewChildren, OpenQuestion, Step, StepKind


class StepStore(Protocol):
    """What tasks remember and wait for. Attempts store their steps with `Engine.record` (Report.steps).

    A transaction that ends a child counts it in its step, and starts the next held one. If all children of the step
    have then ended, it makes a parked parent due, and notifies the listeners of a running one. The same holds for an
    answer. Every unsuccessful end of a task cancels its open children that are not detached, and in turn theirs.
    """

    async def find(self, task_id: UUID) -> list[Step]:
        """Return the steps of a task, in the order of their numbers."""

    async def find_last(self, task_id: UUID, *, limit: int, kind: StepKind | None = None) -> list[Step]:
        """Return the last steps of a task (of a kind), in order, as they are shown: without secret values.

        Of a kind, the open ones come before the others, and of more than `limit` the first.
        Of a value of more than SHOWN_BYTES only the beginning is there, of one byte more.
        """

    async def find_some(self, task_id: UUID, keys: Sequence[str]) -> list[Step]:
        """Return the steps of a task that have these keys."""

    async def find_family(self, task_id: UUID) -> Family | None:
        """Return what the children of a task get from it; None if there is no such task."""

    async def start_children(self, lease: Lease, children: NewChildren, *, most: int) -> Step | None:
        """Store a step and children of it in one commit; those that are stored already stay as they are.

        None, and no change, if `lease` is not current. Raises LimitReached, and stores nothing, if the task would have
        more than `most` children; Conflict if an id belongs to another task.
        """

    async def run_children_again(self, lease: Lease, key: str) -> Step | None:
        """Retry the failed and cancelled children of a step, if it may run again (Step.may_run_again).

        None, and no change, if `lease` is not current.
        """

    async def find_children(self, task_id: UUID, key: str, *, first: int = 0, limit: int = 1000) -> list[Child]:
        """Return the stored children of a step with a place from `first` on, in order of their places.

        There may be fewer than `limit`, and at least one if there is any: one call returns a limited size.
        """

    async def close_question(self, lease: Lease, key: str, value: bytes | None) -> Step | None:
        """End the time of a question that nobody answered: its value is the default, or None. Return the step.

        An answer that is stored already stays. None, and no change, if `lease` is not current.
        """

    async def answer(self, task_id: UUID, key: str, value: bytes, by: str) -> Task:
        """Store the answer to a question, with an event `input_given`, and wake the task.

        value: JSON text that fits the question's schema. by: the owner who answers. Raises NotFound, Expired, and
        Conflict: it does not ask this, it is answered, or its time is over.
        """

    async def find_questions(self, *, owner: str | None = None, limit: int) -> list[OpenQuestion]:
        """Return the questions that wait for people, oldest first. owner: of the tasks; None for all."""
