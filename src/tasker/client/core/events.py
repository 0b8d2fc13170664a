"""Calls about events: of one task, of all, the text that a task puts out, its log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tasker.client.core.effects import Call, Emit, Flow, pick
from tasker.client.core.exchange import Exchange, decode
from tasker.client.core.paths import segment
from tasker.client.core.tasks import ENDS
from tasker.model import LOG_LEVELS, LogLevel
from tasker.wire.events import Event, LogEntry, LogPage, Reset
from tasker.wire.tasks import Task

_MOST_RECORDS = 1000
"""Records of a log in one reply at most."""


@dataclass(frozen=True)
class EventCalls:
    """What `Tasker` and `AsyncTasker` do with events; see there."""

    exchange: Exchange

    def events(self, task_id: UUID | str, after: int) -> Flow[Event]:
        path = f"/task/{segment(task_id)}"

        newest, was_ended = "", False

        def read(text: bytes) -> tuple[Event, str]:
            nonlocal newest, was_ended
            event = decode(text, Event, self.exchange.url + path)
            newest, was_ended = event.type, False
            return event, str(event.sequence)

        def has_ended() -> Call[bool | None]:
            """Tell whether all has come. A service that stops ends its streams before the last tasks end."""
            nonlocal was_ended
            if not (yield from self.exchange.read("GET", path, Task)).status.is_terminal:
                return False
            if newest in ENDS or was_ended:
                return True
            was_ended = True
            return None

        return self.exchange.follow(f"{path}/events", read, last_id=str(after), has_ended=has_ended)

    def follow(self, after: str | None, event: Sequence[str], **filters: str | None) -> Flow[Event | Reset]:
        def read(text: bytes) -> tuple[Event | Reset, str]:
            found = read_any(text, self.exchange.url)
            return found, found.cursor or ""

        query = {"after": after, "event": list(event) or None, **filters}
        return self.exchange.follow("/events", read, query=query)

    def output(self, task_id: UUID | str) -> Flow[str]:
        return pick(self.events(task_id, 0), lambda event: event.chunk if event.type == "output" else None)

    def logs(self, task_id: UUID | str, *, follow: bool, level: LogLevel, tail: int | None) -> Flow[LogEntry]:
        known: list[LogEntry] = []
        if tail is not None or not follow:
            known = yield from self._log(task_id, level, tail)
        for entry in known:
            yield Emit(entry)
        if follow:
            after = known[-1].sequence if known else 0
            yield from pick(self.events(task_id, after), lambda event: _log_entry(event, level))

    def _log(self, task_id: UUID | str, level: LogLevel, tail: int | None) -> Call[list[LogEntry]]:
        """Return the end of a log, at most `tail` records, oldest first."""
        pages: list[list[LogEntry]] = []
        left, before = tail, None
        while left is None or left > 0:
            wanted = _MOST_RECORDS if left is None else min(left, _MOST_RECORDS)
            query = {"tail": wanted, "level": level, "before": before}
            page = yield from self.exchange.read("GET", f"/task/{segment(task_id)}/log", LogPage, query=query)
            pages.append(page.items)
            left, before = None if left is None else left - len(page.items), page.before
            if before is None:
                break
        return [entry for items in reversed(pages) for entry in items]


def read_any(text: bytes, url: str) -> Event | Reset:
    """Return an event of the stream of all tasks."""
    kind: Any = Reset if text.startswith(b'{"type":"reset"') else Event
    found: Event | Reset = decode(text, kind, url)
    return found


def _log_entry(event: Event, level: LogLevel) -> LogEntry | None:
    """Return the record of an event; None if it is no record, or one of a lower level."""
    if event.type != "log" or event.level not in LOG_LEVELS[LOG_LEVELS.index(level) :]:
        return None
    return LogEntry(
        sequence=event.sequence,
        attempt=event.attempt,
        time=event.time,
        level=event.level or "",
        message=event.message or "",
        fields=event.fields,
    )
