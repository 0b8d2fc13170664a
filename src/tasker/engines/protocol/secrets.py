"""Secret parameters of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID


class SecretStore(Protocol):
    """Secret params, which are stored with their task (`Draft.secrets`) and kept while it may run."""

    async def find(self, task_id: UUID) -> bytes | None:
        """Return the secrets of a task; None if it has none, or they were erased."""

    async def erase(self, task_ids: Sequence[UUID]) -> None:
        """Erase the secrets of tasks. Idempotent."""

    async def find_ended(self, *, limit: int) -> list[UUID]:
        """Return tasks that have ended, or were erased, and still have secrets, at most `limit`."""
