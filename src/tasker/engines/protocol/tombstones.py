"""What is known of erased tasks."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from tasker.model import (
    Tombstone,
)


class TombstoneStore(Protocol):
    """What is known of tasks that were erased: that they were, for as long again as they were to be kept."""

    async def find(self, task_id: UUID) -> Tombstone | None:
        """Return that of a task that has expired, erased or not yet; None for any other, and once it is forgotten."""
