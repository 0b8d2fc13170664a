"""Schedules and their ticks."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol
from uuid import UUID

from tasker.model import (
    Draft,
    Receipt,
)
from tasker.model.schedules import Due, Fired, Firing, Schedule, SchedulePage


class ScheduleStore(Protocol):
    """Stores schedules. Ticks are due by the store's own time, and a firing is one commit."""

    async def create(self, schedule: Schedule, *, most: int | None = None) -> None:
        """Store a new schedule. Raises Conflict (its owner has one of that name, or `most` already)."""

    async def find(self, schedule_id: UUID) -> Schedule | None:
        """Return the schedule, or None."""

    async def find_many(
        self, *, owner: str | None = None, name: str | None = None, limit: int, cursor: str | None = None
    ) -> SchedulePage:
        """Return schedules, newest first, of this owner and with this name if given. Raises Invalid (the cursor)."""

    async def update(self, schedule: Schedule) -> bool:
        """Store the next version of a schedule. False, and no change, if the stored version is not its predecessor.

        Raises Conflict (its owner has another one of that name).
        """

    async def delete(self, schedule_id: UUID) -> None:
        """Erase a schedule; its tasks stay. Raises NotFound."""

    async def find_due(self, *, types: Collection[str], limit: int, skip: int = 0) -> Due:
        """Return the due schedules of these types, longest due first, without the first `skip`."""

    async def fire(self, firing: Firing) -> Fired | None:
        """Submit and cancel the tasks that `timing.resolve` names, and move on to the next tick, in one commit.

        None, and no change, if the stored schedule is another version: it was fired or changed meanwhile. A draft whose
        task exists was submitted before; a draft that is refused is left out.
        """

    async def trigger(self, schedule_id: UUID, draft: Draft) -> Receipt:
        """Submit a draft as a task of the schedule, outside its ticks. Raises NotFound, and what `submit` raises."""
