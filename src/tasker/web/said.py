"""What a task has said, as its page shows it: its output, and the lines of its log. Pure.

The page has the end of both; what comes later is appended to it, and never sent again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from tasker.model import Event
from tasker.web import texts, times
from tasker.web.step_view import Running
from tasker.web.step_words import WARNS, sentence_of

MOST_LINES = 1000
"""Lines of output, and lines of the log, that a page begins with."""
LEVELS = ("all", "info", "warning", "error")
"""Which lines of the log a page shows: those of at least this level."""
_RANKS = {"debug": 0, "info": 1, "warning": 2, "error": 3, "critical": 4}
_LONGEST_LINE = 1000
"""Characters of the message of a line, and of its fields: pages are made on the event loop."""

_OF_STEPS = frozenset({"step_started", "step_failed", "step_completed"})
_ENDS_ATTEMPT = frozenset({"started", "parked", "retrying", "completed", "failed", "cancelled"})

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Piece(NamedTuple):
    """A piece of output. attempt: the number of the attempt that begins with it, 0 for none."""

    text: str = ""
    attempt: int = 0


class Line(NamedTuple):
    """A line of the log. at: how long after the start of its attempt. sequence: of its event."""

    at: str
    level: str
    text: str
    fields: str
    sequence: int = 0
    is_step: bool = False


class Said(NamedTuple):
    """What some events say. after: the sequence of the last one. is_news: whether other parts of the page change."""

    pieces: list[Piece]
    lines: list[Line]
    after: int
    is_news: bool


NOTHING = Said([], [], 0, is_news=False)


class Reader:
    """Reads events in order. starts: when each attempt started, as far as that is known. level: see LEVELS.

    ends: until when attempts backed off, of those whose events were read. steps: those that run.
    """

    def __init__(self, starts: Mapping[int, datetime], level: str = "all") -> None:
        self._starts = dict(starts)
        self.ends: dict[int, datetime] = {}
        self._running: dict[str, Running] = {}
        self._heading = 0
        self._least = _RANKS.get(level, 0)
        self._after = 0

    def read(self, events: Iterable[Event]) -> Said:
        """Return what these events say."""
        pieces: list[Piece] = []
        lines: list[Line] = []
        is_news = False
        for event in events:
            self._after = event.sequence
            if event.type == "output":
                pieces += self._headings()
                pieces.append(Piece(str(_decode(event.data).get("chunk", ""))))
            elif event.type == "log":
                line = self._line(event)
                lines += [line] if _RANKS.get(line.level, _RANKS["info"]) >= self._least else []
            else:
                is_news = True
                self._note(event)
                lines += self._line_of_step(event)
        return Said([_shown(piece) for piece in _joined(pieces)], lines[-MOST_LINES:], self._after, is_news)

    @property
    def running(self) -> list[Running]:
        """The steps that run, as far as the events tell that were read."""
        return list(self._running.values())

    def lines_of(self, events: Iterable[Event]) -> list[Line]:
        """Return the lines of `log` events, whatever their level."""
        return [self._line(event) for event in events]

    def _headings(self) -> list[Piece]:
        """Return the heading of an attempt's output, if nothing of it was read yet."""
        number, self._heading = self._heading, 0
        return [Piece(attempt=number)] if number > 1 else []

    def _note(self, event: Event) -> None:
        """Note the start or the back-off of an attempt, and its steps."""
        if event.type in _OF_STEPS:
            self._note_step(event)
        elif event.type in _ENDS_ATTEMPT:
            self._running.clear()
        if event.type == "retrying":
            self.ends[event.attempt] = event.time + timedelta(seconds=float(_decode(event.data).get("delay") or 0))
        if event.type == "started":
            self._starts[event.attempt] = event.time
            self._heading = event.attempt

    def _note_step(self, event: Event) -> None:
        """Note that a step began, failed a try, or is done."""
        data = _decode(event.data)
        key = str(data.get("key") or data.get("name") or "")
        known = self._running.get(key)
        if event.type == "step_started" and known is None:
            self._running[key] = Running(key, str(data.get("name") or key), event.time)
        elif event.type == "step_failed" and known is not None:
            self._running[key] = known._replace(failed=known.failed + 1)
        elif event.type == "step_completed":
            self._running.pop(key, None)

    def _line_of_step(self, event: Event) -> list[Line]:
        """Return what an event of a step says as a line of the log."""
        data = _decode(event.data)
        text = sentence_of(event.type, data)
        level = "warning" if event.type in WARNS else "info"
        if text is None or _RANKS[level] < self._least:
            return []
        return [Line(self._at(event), level, text, "", event.sequence, is_step=True)]

    def _at(self, event: Event) -> str:
        """Return how long after the start of its attempt an event is."""
        began = self._starts.get(event.attempt)
        return "" if began is None else f"+{times.duration(max(event.time - began, timedelta(0)))}"

    def _line(self, event: Event) -> Line:
        data = _decode(event.data)
        level = str(data.get("level") or "info").lower()
        fields = data.get("fields") or {}
        return Line(
            at=self._at(event),
            level=level if level in _RANKS else texts.line(level, 20),
            text=texts.line(str(data.get("message", "")), _LONGEST_LINE),
            fields=_fields(fields),
            sequence=event.sequence,
        )


def _joined(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Join output that no other thing separates: what an escape sequence begins may be in the next event."""
    for is_heading, several in groupby(pieces, lambda piece: piece.attempt > 0):
        if is_heading:
            yield from several
        else:
            yield Piece("".join(piece.text for piece in several))


def _shown(piece: Piece) -> Piece:
    return piece if piece.attempt else Piece(texts.plain(end_of(piece.text)))


def end_of(text: str, lines: int = MOST_LINES, most: int = texts.SHOWN) -> str:
    """Return the last lines of a text, and no more than `most` characters; what is left out is told."""
    cut = max(0, len(text) - most)
    at = len(text)
    for _ in range(lines + 1):
        at = text.rfind("\n", 0, at)
        if at < cut:
            break
    start = max(at + 1, cut) if at >= 0 or cut else 0
    return text if not start else f"⟨{start:,} characters are left out⟩\n{text[start:]}"


def _fields(fields: Mapping[str, Any]) -> str:
    """Return the fields of a line, as many as fit."""
    shown: list[str] = []
    left = _LONGEST_LINE
    for name, value in fields.items():
        if left <= 0:
            break
        shown.append(f"{texts.line(name, 100)}={_value(value)}")
        left -= len(shown[-1]) + 1
    return " ".join(shown)[:_LONGEST_LINE]


def _value(value: Any) -> str:
    return texts.line(value, 500) if isinstance(value, str) else texts.json_line(msgspec.json.encode(value), 500)
