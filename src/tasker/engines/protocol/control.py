"""Tasks of a filter: count and choose them."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from tasker.model import (
    Draft,
    TaskFilter,
)
from tasker.model.control import Chosen, Counted


class Control(Protocol):
    """Counts and chooses tasks of a filter, and finds what a task was submitted with."""

    async def find_draft(self, task_id: UUID) -> Draft | None:
        """Return a draft of a new task like this one; None if the task does not exist.

        It has the task's type, params, queue, priority, policy, tags and metadata, but not its times or keys.
        """

    async def count(self, where: TaskFilter, *, cursor: str | None = None) -> Counted:
        """Count the tasks behind a cursor that match a filter, as far as one look gets (see Engine.find_many)."""

    async def choose(self, where: TaskFilter, *, limit: int, cursor: str | None) -> Chosen:
        """Return the first tasks behind a cursor that match a filter, newest first, as far as one look gets."""
