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

MOST_LINES = 1000
"""Lines of output, and lines of the log, that a page begins with."""
LEVELS = ("all", "info", "warning", "error")
"""Which lines of the log a page shows: those of at least this level."""
_RANKS = {"debug": 0, "info": 1, "warning": 2, "error": 3, "critical": 4}
_LONGEST_LINE = 1000
"""Characters of the message of a line, and of its fields: pages are made on the event loop."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Piece(NamedTuple):
    """A piece of output. attempt: the number of the attempt that begins with it, 0 for none."""

    text: str = ""
    attempt: int = 0


class Line(NamedTuple):
    """A line of the log. at: how long after the start of its attempt."""

    at: str
    level: str
    text: str
    fields: str


class Said(NamedTuple):
    """What some events say. after: the sequence of the last one. is_news: whether other parts of the page change."""

    pieces: list[Piece]
    lines: list[Line]
    after: int
    is_news: bool


NOTHING = Said([], [], 0, is_news=False)


class Reader:
    """Reads events in order. starts: when each attempt started, as far as that is known. level: see LEVELS.

    ends: until when attempts backed off, of those whose events were read.
    """

    def __init__(self, starts: Mapping[int, datetime], level: str = "all") -> None:
        self._starts = dict(starts)
        self.ends: dict[int, datetime] = {}
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
                pieces.append(Piece(str(_decode(event.data).get("chunk", ""))))
            elif event.type == "log":
                line = self._line(event)
                lines += [line] if _RANKS.get(line.level, _RANKS["info"]) >= self._least else []
            else:
                is_news = True
                pieces += self._note(event)
        return Said([_shown(piece) for piece in _joined(pieces)], lines[-MOST_LINES:], self._after, is_news)

    def lines_of(self, events: Iterable[Event]) -> list[Line]:
        """Return the lines of `log` events, whatever their level."""
        return [self._line(event) for event in events]

    def _note(self, event: Event) -> list[Piece]:
        """Note the start or the back-off of an attempt; return the heading of its output."""
        if event.type == "retrying":
            self.ends[event.attempt] = event.time + timedelta(seconds=float(_decode(event.data).get("delay") or 0))
        if event.type != "started":
            return []
        self._starts[event.attempt] = event.time
        return [Piece(attempt=event.attempt)] if event.attempt > 1 else []

    def _line(self, event: Event) -> Line:
        data = _decode(event.data)
        began = self._starts.get(event.attempt)
        level = str(data.get("level") or "info").lower()
        fields = data.get("fields") or {}
        return Line(
            at="" if began is None else f"+{times.duration(max(event.time - began, timedelta(0)))}",
            level=level if level in _RANKS else texts.line(level, 20),
            text=texts.line(str(data.get("message", "")), _LONGEST_LINE),
            fields=_fields(fields),
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
