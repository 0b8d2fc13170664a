"""Live workers, and the task types they publish."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tasker.model import (
    WorkerInfo,
    WorkerState,
)
from tasker.model.types import KnownType, PublishedType


class WorkerStore(Protocol):
    """Records live workers, to show them and to detect dead ones. Leases do not depend on it."""

    async def announce(self, worker: WorkerInfo) -> None:
        """Record that a worker is alive, and its details; called at its start and with each heartbeat."""

    async def withdraw(self, worker_id: str) -> None:
        """Forget a worker that has shut down. Idempotent."""

    async def find_all(self) -> list[WorkerState]:
        """Return the workers announced within KEEP_WORKERS_FOR, in order of their start."""

    async def publish(self, types: Sequence[PublishedType]) -> None:
        """Store the task types of a worker that starts. The newest publication of a name counts."""

    async def find_types(self) -> list[KnownType]:
        """Return the types whose workers were announced within KEEP_TYPES_FOR, by name."""
