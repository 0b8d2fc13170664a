"""Secret parameters of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID


class SecretStore(Protocol):
    """The secret params of tasks, stored with them (`Draft.secrets`), for as long as they may run."""

    async def find(self, task_id: UUID) -> bytes | None:
        """Return the secrets of a task, None if it has none, or they are erased."""

    async def erase(self, task_ids: Sequence[UUID]) -> None:
        """Erase the secrets of tasks. Idempotent."""

    async def find_ended(self, *, limit: int) -> list[UUID]:
        """Return tasks that have ended, or are erased, and whose secrets are still there, at most `limit`."""
