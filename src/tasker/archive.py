"""Archives: everything stored, as JSON Lines, to carry it from one store to another.

The first line says what this is. Then there is a line for each record (a schedule...), and one for each task with all
that belongs to it, in order of submission. The last line counts them and has the SHA-256 of the lines between.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence, Set
from contextlib import aclosing
from typing import Literal, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Struct, structs

from tasker.clock import Clock, SystemClock, check_storable
from tasker.engine import Archive
from tasker.errors import ArchiveError, Conflict
from tasker.stored import StoredRecord, StoredTask

AT_ONCE = 200
"""Tasks in one transaction, if they are small."""
AT_ONCE_SIZE = 8 << 20
"""Characters with which a transaction is full: tasks can be large, memory and the time of a statement are bounded."""
Progress = Callable[[int], None]
"""Hears how many tasks are done."""


class Header(Struct, frozen=True, tag_field="kind", tag="tasker-archive", forbid_unknown_fields=True):
    """The first line."""

    version: Literal[1] = 1


class Trailer(
    Struct, frozen=True, kw_only=True, tag_field="kind", tag="end", forbid_unknown_fields=True, omit_defaults=True
):
    """The last line: how many there are of each, and the digest of the lines between header and trailer."""

    records: int = 0
    tasks: int
    attempts: int
    events: int
    keys: int
    sha256: str


class Imported(Struct, frozen=True):
    """What an import did: `stored` tasks are new here, `known` were here already, some of which have `gone_on` since.

    erased: their time is over, or they were here and have been erased since; they are not stored (again).
    records: so many other things are new here; those that were here are left as they are.
    """

    stored: int
    known: int
    gone_on: int
    erased: int = 0
    records: int = 0


_encode = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(Header).decode
_decode_trailer = msgspec.json.Decoder(Trailer).decode
_decode_task = msgspec.json.Decoder(StoredTask).decode
_decode_record = msgspec.json.Decoder(StoredRecord).decode
_CLOCK = SystemClock()
_END = b'{"kind":"end"'
_RECORD = b'{"kind":"record"'
_AGAIN = "copy it again, or export again"


class _Tally:
    """Counts what goes by."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._records = self.tasks = self._attempts = self._events = self._keys = 0

    def add(self, line: bytes, item: StoredRecord | StoredTask) -> None:
        self._digest.update(line + b"\n")
        if isinstance(item, StoredRecord):
            self._records += 1
        else:
            self._add_task(item)

    def _add_task(self, task: StoredTask) -> None:
        self.tasks += 1
        self._attempts += len(task.attempts)
        self._events += len(task.events)
        self._keys += len(task.keys)

    @property
    def trailer(self) -> Trailer:
        return Trailer(
            records=self._records, tasks=self.tasks, attempts=self._attempts, events=self._events, keys=self._keys,
            sha256=self._digest.hexdigest(),
        )  # fmt: skip


async def write(archive: Archive, progress: Progress = lambda _: None) -> AsyncGenerator[bytes]:
    """Yield the lines of an archive of everything stored, each with its line end."""
    yield _encode(Header()) + b"\n"
    tally = _Tally()
    async with aclosing(archive.read(at_once=AT_ONCE, size=AT_ONCE_SIZE)) as pages:
        async for page in pages:
            for item in page:
                line = _encode(item)
                tally.add(line, item)
                yield line + b"\n"
            progress(tally.tasks)
    yield _encode(tally.trailer) + b"\n"


def check(lines: Iterable[bytes], progress: Progress = lambda _: None) -> Trailer:
    """Read an archive to its end; return what its last line says, which was found to hold. Raises ArchiveError."""
    tally = _Tally()
    for _ in _items(lines, tally):
        if tally.tasks % AT_ONCE == 0:
            progress(tally.tasks)
    return tally.trailer


async def read(
    archive: Archive, lines: Iterable[bytes], progress: Progress = lambda _: None, *, clock: Clock = _CLOCK
) -> Imported:
    """Store what `lines` hold and is not there yet, in order; all of it is read again once it is committed.

    May be done again after it was cut off. Raises ArchiveError for what is no whole archive (what came before the fault
    is stored), Conflict for a task that is there with other content.
    """

    def is_over(task: StoredTask) -> bool:
        return task.expires_at is not None and task.expires_at <= clock.now()

    told, here = _Tally(), _Tally()
    result = Imported(0, 0, 0)
    for given in _batches(_items(lines, told)):
        if given.records:
            result = structs.replace(result, records=result.records + await _put_records(archive, given.records, here))
            continue
        stored = await archive.put([task for task in given.tasks if not is_over(task)])
        found = await archive.find_many([task.task_id for task in given.tasks])
        missing = [task for task, there in zip(given.tasks, found, strict=True) if there is None]
        gone = {task.task_id for task in missing if is_over(task)}
        if len(missing) > len(gone):
            gone |= await archive.find_erased([task.task_id for task in missing])
        gone_on = _verify(given.tasks, found, gone, here)
        result = structs.replace(
            result, stored=result.stored + stored, known=result.known + len(given.tasks) - stored - len(gone),
            gone_on=result.gone_on + gone_on, erased=result.erased + len(gone),
        )  # fmt: skip
        progress(here.tasks)
    if here.trailer != told.trailer:
        raise Conflict(f"the archive has {told.trailer}, and what was stored of it here is {here.trailer}")
    return result


async def _put_records(archive: Archive, records: Sequence[StoredRecord], tally: _Tally) -> int:
    """Store records and count what is in the store then; one that says something else there counts as it was given."""
    stored = await archive.put_records(records)
    for record, there in zip(records, await archive.find_records(records), strict=True):
        if there is None:
            raise Conflict(f"{record.record} {record.key} was stored, and somebody has deleted it: import again")
        tally.add(_encode(record if there != record else there), record)
    return stored


def _verify(given: Sequence[StoredTask], found: Sequence[StoredTask | None], gone: Set[UUID], tally: _Tally) -> int:
    """Count what is in the store, a task that has gone on there as it was; return how many have. Raises Conflict."""
    gone_on = 0
    for task, there in zip(given, found, strict=True):
        if task.task_id in gone:
            tally.add(_encode(task), task)
            continue
        if there is None or not task.has_become(there):
            raise Conflict(f"task {task.task_id} was stored, and somebody has deleted or changed it: import again")
        has_gone_on = there != task
        gone_on += has_gone_on
        counted = task if has_gone_on else there
        tally.add(_encode(counted), counted)
    return gone_on


class _Batch(NamedTuple):
    """What one transaction stores: records or tasks."""

    records: list[StoredRecord]
    tasks: list[StoredTask]


def _batches(items: Iterable[StoredRecord | StoredTask]) -> Iterator[_Batch]:
    """Yield the items in order, so many together as one transaction takes."""
    batch, size = _Batch([], []), 0
    for item in items:
        if isinstance(item, StoredRecord) == bool(batch.tasks) and (batch.records or batch.tasks):
            yield batch
            batch, size = _Batch([], []), 0
        if isinstance(item, StoredRecord):
            batch.records.append(item)
            size += len(memoryview(item.data))
        else:
            batch.tasks.append(item)
            size += item.size
        if len(batch.records) + len(batch.tasks) == AT_ONCE or size >= AT_ONCE_SIZE:
            yield batch
            batch, size = _Batch([], []), 0
    if batch.records or batch.tasks:
        yield batch


def _items(lines: Iterable[bytes], tally: _Tally) -> Iterator[StoredRecord | StoredTask]:
    """Yield each line's record or task; at the last line `tally` has all of them. Raises ArchiveError."""
    numbered = enumerate(lines, start=1)
    _, first = next(numbered, (1, b""))
    try:
        _decode_header(first)
    except msgspec.DecodeError as error:
        raise ArchiveError(f"line 1: expected an archive of `tasker export`, version 1: {error}") from None
    for number, line in numbered:
        text = line.rstrip(b"\n")
        if text.startswith(_END):
            return _check_end(number, text, tally, numbered)
        item = _read_item(number, text)
        tally.add(text, item)
        yield item
    raise ArchiveError(f"the archive ends after {tally.tasks} tasks without its last line: it was cut off; {_AGAIN}")


def _read_item(number: int, text: bytes) -> StoredRecord | StoredTask:
    is_record = text.startswith(_RECORD)
    try:
        if is_record:
            return _decode_record(text)
        task = _decode_task(text)
        for time in task.times:
            check_storable(time)
    except (msgspec.DecodeError, ValueError) as error:
        what = "a record" if is_record else "a task"
        raise ArchiveError(f"line {number}: expected {what}: {error}") from None
    return task


def _check_end(number: int, text: bytes, tally: _Tally, rest: Iterator[tuple[int, bytes]]) -> None:
    try:
        said = _decode_trailer(text)
    except msgspec.DecodeError as error:
        raise ArchiveError(f"line {number}: expected the end of an archive: {error}") from None
    if said != tally.trailer:
        raise ArchiveError(
            f"the archive was changed: its last line says {said}, and it holds {tally.trailer}; {_AGAIN}"
        )
    if next(rest, None) is not None:
        raise ArchiveError(f"line {number + 1}: expected nothing behind the archive's last line")
