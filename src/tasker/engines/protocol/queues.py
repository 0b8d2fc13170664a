"""Queues: their settings, and their open tasks."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from tasker.model.queues import Place, QueueChange, QueueSettings, QueueState


class QueueStore(Protocol):
    """Stores the settings of queues. Every claim that begins after a change obeys it, in every process."""

    async def find_all(self, names: Collection[str] | None = None) -> list[QueueState]:
        """Return the queues with settings, by name; only those named, if names are given."""

    async def find_names(self, *, after: str | None = None, limit: int) -> list[str]:
        """Return the first queues after a name that have open tasks or settings, in the store's order."""

    async def find_open(self, owner: str) -> list[str]:
        """Return the queues in which this owner has open tasks, in any order.

        For the owner "" the result may lack queues that other owners use too.
        """

    async def find_place(self, task_id: UUID, owner: str | None = None) -> Place | None:
        """Return the place of a task in its queue, among this owner's tasks if given; None unless pending and due."""

    async def find_run_time(self, task_id: UUID) -> timedelta | None:
        """Return how long recent tasks of the same type took; None if none has ended."""

    async def change(self, name: str, change: QueueChange, *, most: int | None = None) -> QueueSettings:
        """Change the settings of a queue and return them; it need not have tasks.

        Raises Conflict (`most` other queues have settings).
        """
