"""Reads a task's log from its end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Raw

from tasker.engines.shared.rows import Rows
from tasker.model import Event, LogPage

MOST_EVENTS = 10_000
"""Events that one page looks at, of any type."""
_PAGE_BYTES = 256 * 1024
_KINDS = (int, int, datetime, bytes)
_END = 2**31 - 1
"""Above every sequence."""


async def find_log(
    rows: Rows, task_id: UUID, *, levels: Sequence[str] | None, limit: int, before: int | None
) -> LogPage:
    """Return log events, as Engine.find_log does."""
    place = {"task_id": task_id, "before": _END if before is None else min(before, _END), "most": MOST_EVENTS}
    found = await rows.fetch(
        "log_page", *_KINDS, **place, by_level=levels is not None, levels=list(levels or ()), limit=limit + 1
    )
    events: list[Event] = []
    left = _PAGE_BYTES
    for sequence, attempt, time, data in found:
        left -= len(data)
        if len(events) == limit or (events and left < 0):
            return LogPage(events[::-1], events[-1].sequence)
        events.append(Event(sequence=sequence, task_id=task_id, attempt=attempt, type="log", time=time, data=Raw(data)))
    return LogPage(events[::-1], await rows.value("log_reach", int, **place))
