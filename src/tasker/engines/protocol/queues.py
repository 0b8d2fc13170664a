"""Settings of queues, and what queues hold."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from tasker.model.queues import Place, QueueChange, QueueSettings, QueueState


class QueueStore(Protocol):
    """What is set of queues. Every claim that begins after a change was made keeps to it, in every process."""

    async def find_all(self, names: Collection[str] | None = None) -> list[QueueState]:
        """Return the queues of which anything is set, by name; of these alone, if given."""

    async def find_names(self, *, after: str | None = None, limit: int) -> list[str]:
        """Return the first queues behind a name that hold open tasks or have settings, in the store's order."""

    async def find_open(self, owner: str) -> list[str]:
        """Return the queues in which this owner has open tasks, in any order; for "" not all that others use too."""

    async def find_place(self, task_id: UUID, owner: str | None = None) -> Place | None:
        """Return where in line a due task is, among this owner's if given; None for any that is not pending and due."""

    async def find_run_time(self, task_id: UUID) -> timedelta | None:
        """Return how long tasks of a task's type took that were submitted shortly before it; None if none has ended."""

    async def change(self, name: str, change: QueueChange, *, most: int | None = None) -> QueueSettings:
        """Set something of a queue, with tasks or not; return that. Raises Conflict (`most` others have settings)."""
