"""The audit log: who did what."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from tasker.wire.shapes import Moment


class AuditEntry(Struct, frozen=True, kw_only=True):
    """Who did what to what, and the HTTP status it ended with: null while it is under way, or if the process died.

    `key_id` is null and `owner` empty if it was done without a key of the store; `address` is the connection's.
    """

    sequence: int
    time: Annotated[Moment, Meta(description="When it began.")]
    key_id: str | None
    owner: str
    action: str
    target: str
    address: str
    outcome: int | None


class AuditPage(Struct, frozen=True, kw_only=True):
    """A slice of the audit log, newest first; `next_cursor` is opaque, null at the end."""

    items: list[AuditEntry]
    next_cursor: str | None
