"""The audit log."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from tasker.model.audit import AuditAction, AuditPage


class AuditStore(Protocol):
    """Who did what. Nothing is changed or erased but by `prune`; an outcome is added once."""

    async def begin(self, deed: AuditAction) -> int:
        """Note what somebody is about to do; return the number of the entry, larger than any before."""

    async def end(self, sequence: int, outcome: int, target: str = "") -> None:
        """Note how it ended, and what was made if the deed has no target; once that is known, no change."""

    async def find_many(self, *, limit: int, cursor: str | None = None) -> AuditPage:
        """Return entries, newest first. Raises Invalid for a cursor that no page gave out."""

    async def prune(self, *, keep: timedelta, limit: int) -> int:
        """Erase entries that were begun longer ago than `keep`, at most `limit`; return how many."""
