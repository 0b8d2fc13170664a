"""Ties of a draft to other tasks."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from tasker.model import Receipt, TaskProblem


class Ties(NamedTuple):
    """Ties of a draft.

    receipt: the answer, if the draft is not stored. replaces: the task to cancel. waits_for: open dependencies.
    waits_for_group: whether the group that it depends on has open tasks. error: why the draft fails at once.
    """

    receipt: Receipt | None = None
    replaces: UUID | None = None
    waits_for: tuple[UUID, ...] = ()
    waits_for_group: bool = False
    error: TaskProblem | None = None

    @property
    def waits(self) -> bool:
        """Whether the draft waits for other tasks."""
        return bool(self.waits_for) or self.waits_for_group
