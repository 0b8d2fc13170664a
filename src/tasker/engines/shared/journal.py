"""The journal as engines store it: one row for each transaction, with references to the events that it stored.

A reference is small: type, time and data are read from the task's row and log (log.py) when the journal is read. The
events of tasks that were erased meanwhile are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from struct import Struct
from typing import NamedTuple
from uuid import UUID

from tasker.engines.shared.cursors import seal, unseal
from tasker.engines.shared.log import Entry, Head, latest
from tasker.errors import Fault
from tasker.model import Event, Status, Task
from tasker.model.journal import JournalEntry

PAGE_BYTES = 256 * 1024
"""Size of event data and ended tasks that ends a page, after the event that exceeds it."""
ROW_REFS = 500
"""References in one row at most."""
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


class EventRef(NamedTuple):
    """Refers to an event of a task. kind: the event's type, or "" for `events` that have rows in the task's log.

    sequence: of the (first) event; 0 if the writer does not know it: then it is the first of its attempt and kind.
    size: bytes of the data of all events.
    """

    task_id: bytes
    kind: str
    attempt: int
    sequence: int
    events: int
    size: int


class Place(NamedTuple):
    """A position: after `done` events of the row `row` and all events of earlier rows."""

    row: int
    done: int = 0


class PlacedEvent(NamedTuple):
    """One event of a reference, and the place after it."""

    place: Place
    ref: EventRef
    sequence: int

    @property
    def row(self) -> int:
        """The row that refers to it."""
        return self.place.row if self.place.done else self.place.row - 1


def logged(task_id: UUID, entries: Sequence[Entry]) -> bytes:
    """Return the packed reference to consecutive entries that are added to a task's log."""
    first = entries[0]
    size = sum(len(entry.data) for entry in entries)
    return _PACKED.pack(task_id.bytes, b"w", first.attempt, first.sequence, len(entries), size)


def created(task_id: UUID) -> bytes:
    """Return the packed reference to the first event of a task that is stored."""
    return _PACKED.pack(task_id.bytes, b"c", 0, 1, 1, 0)


def started(task_id: UUID, attempt: int) -> bytes:
    """Return the packed reference to the start of an attempt."""
    return _PACKED.pack(task_id.bytes, b"s", attempt, 0, 1, 0)


def ended(task_id: UUID, status: Status, attempt: int, sequence: int = 0) -> bytes:
    """Return the packed reference to the end of a task. sequence: may be 0 only if a running attempt ended."""
    return _PACKED.pack(task_id.bytes, _CODES[status], attempt, sequence, 1, 0)


def packed_rows(refs: Sequence[bytes]) -> Iterator[bytes]:
    """Return the packed references of one transaction as rows."""
    return (b"".join(refs[start : start + ROW_REFS]) for start in range(0, len(refs), ROW_REFS))


def unpack(row: bytes) -> Iterator[EventRef]:
    """Return the references of a row."""
    for task_id, code, *numbers in _PACKED.iter_unpack(row):
        yield EventRef(task_id, _KINDS[code.decode()], *numbers)


def spread(rows: Iterable[tuple[int, bytes]], after: Place, limit: int) -> list[PlacedEvent]:
    """Return the events after a place, at most `limit` and within PAGE_BYTES."""
    found: list[PlacedEvent] = []
    size = 0
    for row, packed in rows:
        events = [(ref, number) for ref in unpack(packed) for number in range(ref.events)]
        skip = after.done if row == after.row else 0
        for done, (ref, number) in enumerate(events[skip:], start=skip + 1):
            if len(found) >= limit or size > PAGE_BYTES:
                return found
            place = Place(row, done) if done < len(events) else Place(row + 1)
            found.append(PlacedEvent(place, ref, ref.sequence + number))
            size += ref.size // ref.events
    return found


def first_page(found: Sequence[FoundEvent], sizes: Mapping[bytes, int]) -> Sequence[FoundEvent]:
    """Return the first events, as many as fit into a page of PAGE_BYTES: at least one.

    sizes: bytes of the params and results of tasks by id; those of tasks that ended on the page count.
    """
    size = 0
    for place, one in enumerate(found):
        if size > PAGE_BYTES:
            return found[:place]
        size += len(one.entry.data) + (sizes.get(one.placed.ref.task_id, 0) if one.is_end else 0)
    return found


def end_of(placed: Sequence[PlacedEvent], after: Place) -> Place:
    """Return the place after these events, which begin after `after`."""
    return placed[-1].place if placed else after


class Subject(NamedTuple):
    """The task of an event. key: the engine's own."""

    key: int
    type: str
    queue: str
    tags: tuple[str, ...]
    owner: str
    head: Head


class Wanted(NamedTuple):
    """Entries to read from logs: ranges of numbers for some tasks (by key), all starts and ends for others."""

    ranges: list[tuple[int, int, int]]
    ends: list[int]


class FoundEvent(NamedTuple):
    """An event with its task. is_end: it ended the task, and the task has not changed since."""

    placed: PlacedEvent
    subject: Subject
    entry: Entry
    is_end: bool


def wanted(placed: Iterable[PlacedEvent], subjects: Mapping[bytes, Subject]) -> Wanted:
    """Return the entries to read from logs for these events, in addition to the tasks' rows."""
    ranges: dict[int, tuple[int, int]] = {}
    ends: dict[int, None] = {}
    for one in placed:
        subject = subjects.get(one.ref.task_id)
        if subject is None or _off_the_row(one, subject.head) is not None:
            continue
        if one.sequence:
            low, high = ranges.get(subject.key, (one.sequence, one.sequence))
            ranges[subject.key] = (min(low, one.sequence), max(high, one.sequence))
        else:
            ends[subject.key] = None
    return Wanted([(key, *numbers) for key, numbers in ranges.items()], list(ends))


def find_events(
    placed: Iterable[PlacedEvent], subjects: Mapping[bytes, Subject], kept: Mapping[int, Mapping[int, Entry]]
) -> list[FoundEvent]:
    """Return the events, in order, without those of erased tasks. kept: the entries `wanted`, by key and number."""
    found = []
    for one in placed:
        subject = subjects.get(one.ref.task_id)
        if subject is None:
            continue
        head = subject.head
        entry = _off_the_row(one, head) or _in_the_log(one, kept.get(subject.key, {}))
        if entry is not None:
            is_end = Status(head.status).is_terminal and entry.type == head.status and entry.sequence == head.last + 1
            found.append(FoundEvent(one, subject, entry, is_end))
    return found


def entry_of(name: bytes, found: FoundEvent, event: Event, task: Task | None) -> JournalEntry:
    """Return the entry of an event in the journal of this name. task: the task that it ended."""
    placed, subject = found.placed, found.subject
    return JournalEntry(
        cursor=to_cursor(name, placed.place),
        event=event,
        type=subject.type,
        queue=subject.queue,
        tags=subject.tags,
        owner=subject.owner,
        commit=placed.row,
        task=task,
    )


def _off_the_row(placed: PlacedEvent, head: Head) -> Entry | None:
    """Return the event if the task's row implies it; None if it is in the log."""
    kind, attempt = placed.ref.kind, placed.ref.attempt
    if kind == "created":
        return Entry(1, 0, "created", head.created_at, b"{}")
    for entry in latest(head) if kind and head.attempt == attempt else ():
        # Without a number it is the end of a running attempt. The row shows another end if the task was retried and
        # cancelled before its next attempt started.
        if entry.type == kind and (placed.sequence == entry.sequence or (not placed.sequence and head.started_at)):
            return entry
    return None


def _in_the_log(placed: PlacedEvent, kept: Mapping[int, Entry]) -> Entry | None:
    """Return the event from the entries of the task's log; None if it is not there."""
    if placed.sequence:
        return kept.get(placed.sequence)
    kind, attempt = placed.ref.kind, placed.ref.attempt
    return next((kept[at] for at in sorted(kept) if kept[at].type == kind and kept[at].attempt == attempt), None)


def to_cursor(name: bytes, place: Place) -> str:
    """Return the opaque cursor of a place in the journal of this name."""
    return seal(_CURSOR.pack(name, *place), _CHECK_BYTES)


def from_cursor(cursor: str) -> tuple[bytes, Place]:
    """Return name and place of a cursor. Raises Invalid for one that no journal gave out."""
    fault = Fault("/after", "expected the id of an event of this stream")
    name, row, done = _CURSOR.unpack(unseal(cursor, _CURSOR.size, _CHECK_BYTES, fault))
    return name, Place(row, done)
