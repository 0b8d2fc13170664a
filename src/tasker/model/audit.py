"""The audit log: who did what to control the service or its tasks."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from tasker.model.pages import PageOf


class AuditAction(Struct, frozen=True, kw_only=True):
    """An audited action, as requested: who asks for which operation on what.

    key_id, owner: of the key that the request showed; None and "" without a key. action: the name of the operation.
    target: what it acts on. address: of the client's connection.
    """

    key_id: str | None
    owner: str
    action: str
    target: str
    address: str


class AuditEntry(Struct, frozen=True, kw_only=True):
    """An entry of the audit log: when an action began, and the HTTP status of its outcome.

    deed: the audited action. outcome: None if the process ended before it was known.
    """

    sequence: int
    time: datetime
    deed: AuditAction
    outcome: int | None


AuditPage = PageOf[AuditEntry]
