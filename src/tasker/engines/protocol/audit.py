"""The audit log."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from tasker.model.audit import AuditAction, AuditPage


class AuditStore(Protocol):
    """Records who did what. Only `prune` erases entries; `end` completes an entry once."""

    async def begin(self, action: AuditAction, /) -> int:
        """Record an action before it is done; return the number of the entry, larger than any before."""

    async def end(self, sequence: int, outcome: int, target: str = "") -> None:
        """Record the outcome, and the target if the action created it. No change once an outcome is known."""

    async def find_many(self, *, limit: int, cursor: str | None = None) -> AuditPage:
        """Return entries, newest first. Raises Invalid for a cursor that no page gave out."""

    async def prune(self, *, keep: timedelta, limit: int) -> int:
        """Erase entries older than `keep`, at most `limit`; return how many."""
