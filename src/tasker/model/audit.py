"""Who did what: a record of everything that controls the service or its tasks."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class AuditAction(Struct, frozen=True, kw_only=True):
    """Something that somebody wants done: the name of the operation, and what it is done to.

    key_id and owner: of the key that was shown; None and "" without one. address: where the connection came from.
    """

    key_id: str | None
    owner: str
    action: str
    target: str
    address: str


class AuditEntry(Struct, frozen=True, kw_only=True):
    """A deed, when it was begun, and the HTTP status it ended with; None if the process ended before it was known."""

    sequence: int
    time: datetime
    deed: AuditAction
    outcome: int | None


class AuditPage(Struct, frozen=True, kw_only=True):
    """A slice of the record, newest first; `next_cursor` is opaque, None at the end."""

    items: list[AuditEntry]
    next_cursor: str | None = None
