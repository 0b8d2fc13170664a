"""Reads the end of a task's events, where the page of the task begins."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from tasker.model import Event
from tasker.model.keys import Caller
from tasker.service.following import EVENTS_AT_ONCE, Following

MOST_EVENTS = 250
"""Events that a page begins with."""


class End(NamedTuple):
    """The last events of a task. before: the sequence of the first, if there are earlier ones."""

    events: list[Event]
    before: int | None


async def read_end(following: Following, caller: Caller, task_id: UUID, before: int | None = None) -> End:
    """Return the last events, or the last before a sequence. Raises NotFound."""
    last = await _find_last(following, caller, task_id) if before is None else before - 1
    first = max(0, last - MOST_EVENTS)
    events: list[Event] = []
    while True:
        found = await following.events(caller, task_id, after=events[-1].sequence if events else first)
        events += [event for event in found if before is None or event.sequence < before]
        if len(found) < EVENTS_AT_ONCE or (before is not None and found[-1].sequence >= before):
            return End(events, first + 1 if first else None)


async def _find_last(following: Following, caller: Caller, task_id: UUID) -> int:
    """Return the sequence of the last event, by a search: sequences count from 1."""
    low, high = 0, EVENTS_AT_ONCE
    found = await following.events(caller, task_id)
    while len(found) == EVENTS_AT_ONCE:
        low, high = found[-1].sequence, high * 2
        found = await following.events(caller, task_id, after=high)
    while not found and low < high:
        middle = (low + high) // 2
        found = await following.events(caller, task_id, after=middle)
        if len(found) == EVENTS_AT_ONCE:
            low, found = found[-1].sequence, []
        elif not found:
            high = middle
    return found[-1].sequence if found else low
