"""The journal as the engines keep it: rows of notes, one for each transaction, which tell what happened to which task.

A note is small, whatever it is about: what the event says is read off the task's row and log (log.py) when somebody
reads the journal. Tasks that were erased meanwhile have no events any more.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from struct import Struct
from typing import NamedTuple
from uuid import UUID

from tasker.engines.shared.log import Entry, Head, latest
from tasker.errors import Fault, Invalid
from tasker.model import Status

PAGE_BYTES = 256 * 1024
"""What the words on one page, and the tasks that ended there, may come to: behind the event that passes it, it ends."""
ROW_NOTES = 500
"""Notes in one row at the most."""
ROWS_AT_ONCE = 100

_KINDS = {
    "c": "created",
    "s": "started",
    "e": Status.COMPLETED.value,
    "f": Status.FAILED.value,
    "x": Status.CANCELLED.value,
    "w": "",
}
_CODES = {kind: code.encode() for code, kind in _KINDS.items()}
_PACKED = Struct(">16scIIII")
_CURSOR = Struct(">4sQI")
_CHECK_BYTES = 2


class Note(NamedTuple):
    """Something that happened to a task. kind: the event's type, or "" for `events` that have rows in its log.

    sequence: of the (first) event; 0 where it is the first of its attempt and kind, and its number is not at hand.
    size: bytes of the data of all its events.
    """

    task_id: bytes
    kind: str
    attempt: int
    sequence: int = 0
    events: int = 1
    size: int = 0


class Place(NamedTuple):
    """A place between events: behind `done` events of the row `row`, and all of the rows before it."""

    row: int
    done: int = 0


class Noted(NamedTuple):
    """One event of a note, and the place behind it."""

    place: Place
    note: Note
    sequence: int

    @property
    def row(self) -> int:
        """The row that it stands in."""
        return self.place.row if self.place.done else self.place.row - 1


def logged(task_id: UUID, entries: Sequence[Entry]) -> Note:
    """Return the note of entries that are added to a task's log, one behind the other."""
    first = entries[0]
    size = sum(len(entry.data) for entry in entries)
    return Note(task_id.bytes, "", first.attempt, first.sequence, len(entries), size)


def created(task_id: UUID) -> Note:
    """Return the note of a task that is stored."""
    return Note(task_id.bytes, "created", 0, 1)


def started(task_id: UUID, attempt: int) -> Note:
    """Return the note of an attempt that begins."""
    return Note(task_id.bytes, "started", attempt)


def ended(task_id: UUID, status: Status, attempt: int, sequence: int = 0) -> Note:
    """Return the note of a task's end. `sequence` is needed where it is not its running attempt that ends it."""
    return Note(task_id.bytes, status.value, attempt, sequence)


def pack(notes: Sequence[Note]) -> list[bytes]:
    """Return the notes of one transaction as rows."""
    packed = [_PACKED.pack(note[0], _CODES[note[1]], *note[2:]) for note in notes]
    return [b"".join(packed[start : start + ROW_NOTES]) for start in range(0, len(packed), ROW_NOTES)]


def unpack(row: bytes) -> Iterator[Note]:
    """Return the notes of a row."""
    for task_id, code, *numbers in _PACKED.iter_unpack(row):
        yield Note(task_id, _KINDS[code.decode()], *numbers)


def spread(rows: Iterable[tuple[int, bytes]], after: Place, limit: int) -> list[Noted]:
    """Return the events behind `after`, at most `limit`, and few enough for PAGE_BYTES."""
    found: list[Noted] = []
    size = 0
    for row, packed in rows:
        events = [(note, number) for note in unpack(packed) for number in range(note.events)]
        skip = after.done if row == after.row else 0
        for done, (note, number) in enumerate(events[skip:], start=skip + 1):
            if len(found) >= limit or size > PAGE_BYTES:
                return found
            place = Place(row, done) if done < len(events) else Place(row + 1)
            found.append(Noted(place, note, note.sequence + number))
            size += note.size // note.events
    return found


def first_told(told: Sequence[Told], sizes: Mapping[bytes, int]) -> Sequence[Told]:
    """Return the events that begin a page: few enough for PAGE_BYTES, one at least.

    sizes: bytes of the params and results of tasks, by id; those of the tasks that ended here count.
    """
    size = 0
    for place, one in enumerate(told):
        if size > PAGE_BYTES:
            return told[:place]
        size += len(one.entry.data) + (sizes.get(one.noted.note.task_id, 0) if one.is_end else 0)
    return told


def end_of(noted: Sequence[Noted], after: Place) -> Place:
    """Return the place behind these events, which begin behind `after`."""
    return noted[-1].place if noted else after


class Subject(NamedTuple):
    """What is known of an event's task. key: the engine's own."""

    key: int
    type: str
    queue: str
    tags: tuple[str, ...]
    owner: str
    head: Head


class Wanted(NamedTuple):
    """What must be read of logs: ranges of numbers of tasks (by key), and of others all starts and ends."""

    ranges: list[tuple[int, int, int]]
    ends: list[int]


class Told(NamedTuple):
    """An event of a page, and whether it ended its task, which is still as it was then."""

    noted: Noted
    subject: Subject
    entry: Entry
    is_end: bool


def wanted(noted: Iterable[Noted], subjects: Mapping[bytes, Subject]) -> Wanted:
    """Return what the tasks' rows do not tell of these events."""
    ranges: dict[int, tuple[int, int]] = {}
    ends: dict[int, None] = {}
    for one in noted:
        subject = subjects.get(one.note.task_id)
        if subject is None or _off_the_row(one, subject.head) is not None:
            continue
        if one.sequence:
            low, high = ranges.get(subject.key, (one.sequence, one.sequence))
            ranges[subject.key] = (min(low, one.sequence), max(high, one.sequence))
        else:
            ends[subject.key] = None
    return Wanted([(key, *numbers) for key, numbers in ranges.items()], list(ends))


def tell(
    noted: Iterable[Noted], subjects: Mapping[bytes, Subject], kept: Mapping[int, Mapping[int, Entry]]
) -> list[Told]:
    """Return the events, in order, but for those of erased tasks. kept: what was wanted, by key and number."""
    told = []
    for one in noted:
        subject = subjects.get(one.note.task_id)
        if subject is None:
            continue
        head = subject.head
        entry = _off_the_row(one, head) or _in_the_log(one, kept.get(subject.key, {}))
        if entry is not None:
            is_end = Status(head.status).is_terminal and entry.type == head.status and entry.sequence == head.last + 1
            told.append(Told(one, subject, entry, is_end))
    return told


def _off_the_row(noted: Noted, head: Head) -> Entry | None:
    """Return the event as the task's row tells it; None if it is in the log."""
    kind, attempt = noted.note.kind, noted.note.attempt
    if kind == "created":
        return Entry(1, 0, "created", head.created_at, b"{}")
    for entry in latest(head) if kind and head.attempt == attempt else ():
        # Without a number it was a running attempt; one that is run again and cancelled before it starts has none.
        if entry.type == kind and (noted.sequence == entry.sequence or (not noted.sequence and head.started_at)):
            return entry
    return None


def _in_the_log(noted: Noted, kept: Mapping[int, Entry]) -> Entry | None:
    """Return the event out of what is kept of the task's log, by number; None if it is not there."""
    if noted.sequence:
        return kept.get(noted.sequence)
    kind, attempt = noted.note.kind, noted.note.attempt
    return next((kept[at] for at in sorted(kept) if kept[at].type == kind and kept[at].attempt == attempt), None)


def to_cursor(name: bytes, place: Place) -> str:
    """Return the opaque cursor of a place in the journal of this name."""
    body = _CURSOR.pack(name, *place)
    return base64.urlsafe_b64encode(body + _check(body)).rstrip(b"=").decode()


def from_cursor(cursor: str) -> tuple[bytes, Place]:
    """Return name and place of a cursor. Raises Invalid for one that no journal gave out."""
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    body = data[: _CURSOR.size]
    if len(data) != _CURSOR.size + _CHECK_BYTES or data[_CURSOR.size :] != _check(body):
        fault = Fault("/after", "expected the id of an event of this stream")
        raise Invalid("the cursor is not one that this service gave out", faults=[fault])
    name, row, done = _CURSOR.unpack(body)
    return name, Place(row, done)


def _check(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(4, "big")[:_CHECK_BYTES]
