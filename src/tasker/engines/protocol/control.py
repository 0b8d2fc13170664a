"""Many tasks at once: count, choose, act."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from tasker.model import (
    Draft,
    TaskFilter,
)
from tasker.model.control import Action, Chosen, Counted


class Control(Protocol):
    """What one task was submitted with, and what is done to many at once."""

    async def find_draft(self, task_id: UUID) -> Draft | None:
        """Return what a task was submitted with, as far as it would be for another like it; None if it is not there.

        That is what it is to run, in which line, by which policy, and the client's notes; not its times, nor its keys.
        """

    async def count(self, where: TaskFilter) -> Counted:
        """Count the tasks of a filter."""

    async def choose(self, where: TaskFilter, *, limit: int, cursor: str | None) -> Chosen:
        """Return the first tasks of a filter behind a cursor, newest first."""

    async def act(self, action: Action, task_ids: Sequence[UUID]) -> int:
        """Cancel, retry or delete each of these as the engine's method does, together; return how many it was done to.

        Those that are gone, or have another status by now, are passed over.
        """
