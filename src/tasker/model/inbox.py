"""Submissions that arrive in transactions of other programs, on their way to becoming tasks."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from tasker.model.drafts import Draft
from tasker.model.tasks import TaskProblem


class Arrival(NamedTuple):
    """A submission in the inbox. params, options: JSON text; None if they are too large.

    is_overdue: whether it has waited for its type as long as it may.
    """

    task_id: UUID
    owner: str
    type: str
    params: str | None
    options: str | None
    submitted_at: datetime
    is_overdue: bool


class TakenIn(NamedTuple):
    """What becomes of an arrival: a task like any other, or with an error one that fails at once."""

    draft: Draft
    error: TaskProblem | None = None
