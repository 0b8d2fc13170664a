"""Ties of a draft to other tasks."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from tasker.model import Receipt, TaskProblem


class Ties(NamedTuple):
    """Ties of a draft.

    receipt: the answer, if the draft is not stored. replaces: the task to cancel. waits_for: open dependencies.
    error: why the draft fails at once.
    """

    receipt: Receipt | None = None
    replaces: UUID | None = None
    waits_for: tuple[UUID, ...] = ()
    error: TaskProblem | None = None
