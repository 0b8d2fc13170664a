"""The use cases of the audit log: an entry is stored before an action, and completed with its outcome afterwards."""

from __future__ import annotations

from datetime import timedelta

import structlog

from tasker.engines.protocol import AuditStore
from tasker.errors import Unavailable
from tasker.model.audit import AuditAction, AuditPage
from tasker.service.cursors import Cursors

KEEP_AUDIT_FOR = timedelta(days=365)
_BATCH = 500

_log = structlog.get_logger(__name__)


class Audit:
    """The audit log of one store."""

    def __init__(self, store: AuditStore, cursors: Cursors) -> None:
        self._store = store
        self._cursors = cursors

    async def begin(self, action: AuditAction) -> int:
        """Record durably that an action begins; return the entry's number. Raises Unavailable."""
        return await self._store.begin(action)

    async def end(self, sequence: int, outcome: int, made: str = "") -> None:
        """Record the HTTP status of an action, and what it created; log them if they cannot be stored."""
        try:
            await self._store.end(sequence, outcome, made[:200])
        except Unavailable as error:
            _log.warning("audit.outcome_not_stored", sequence=sequence, outcome=outcome, reason=error.detail)

    async def find_many(self, *, limit: int, cursor: str | None = None) -> AuditPage:
        """Return entries, newest first. Raises Invalid for a cursor that no page returned."""
        return await self._cursors.page("audit", cursor, lambda at: self._store.find_many(limit=limit, cursor=at))

    async def prune(self) -> int:
        """Erase some of the entries that are older than KEEP_AUDIT_FOR; return how many."""
        return await self._store.prune(keep=KEEP_AUDIT_FOR, limit=_BATCH)
