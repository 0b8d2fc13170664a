"""Write and read archives: everything stored, as JSON Lines, to move it from one store to another.

The first line names the format. Then comes a line for each record (a schedule...), and one for each task with all that
belongs to it, in order of submission. The last line has their counts, and the SHA-256 of the lines between.

An archive is untrusted input. `check` checks each line against the model, `rehearse` stores everything and rolls it
back, and only then does `read` store it: an archive that one of the first two refuses has changed nothing.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence, Set
from contextlib import aclosing, closing
from typing import Any, BinaryIO, Literal, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Struct, structs

from tasker.archive.makers import Makers
from tasker.archive.vetting import Vetting
from tasker.clock import Clock, SystemClock, check_storable
from tasker.engines.protocol import ArchiveStore
from tasker.engines.shared.tables import KEYS, read_records
from tasker.errors import ArchiveError, Conflict
from tasker.model.archive import StoredRecord, StoredTask
from tasker.rules.urls import UrlRules
from tasker.validation.faults import refusal_fault

AT_ONCE = 200
"""Tasks in one transaction at most."""
AT_ONCE_SIZE = 8 << 20
"""Characters in one transaction beyond which it takes no more tasks: it bounds memory and the time of a statement."""
MAX_LINE = 256 << 20
"""Bytes of a line at most, by default: a whole line is kept in memory."""
Progress = Callable[[int], None]
"""Takes the number of tasks done so far."""


class Header(Struct, frozen=True, tag_field="kind", tag="tasker-archive", forbid_unknown_fields=True):
    """The first line."""

    version: Literal[1] = 1


class Trailer(
    Struct, frozen=True, kw_only=True, tag_field="kind", tag="end", forbid_unknown_fields=True, omit_defaults=True
):
    """The last line: the counts, and the digest of the lines between header and trailer."""

    records: int = 0
    tasks: int
    attempts: int
    events: int
    keys: int
    sha256: str


class Imported(Struct, frozen=True):
    """What an import did: `stored` tasks are new, `known` ones existed, and `gone_on` of these have changed since.

    erased: tasks that have expired, or existed and have been erased since; they are not stored (again).
    records: records that are new; existing ones are left as they are.
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
_NOTHING = "nothing of the archive was stored"
_NONE_OF_IT = "nothing of it was stored; correct that line where it came from, and export again"
_PACKED = {
    b"\x1f\x8b": "zcat",
    b"\x28\xb5\x2f\xfd": "zstdcat",
    b"\xfd7zXZ": "xzcat",
    b"BZh": "bzcat",
    b"PK": "unzip -p",
}
"""The first bytes of compressed files, and the programs that unpack them."""


class _Tally:
    """Counts records and tasks, and digests their lines."""

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
            records=self._records,
            tasks=self.tasks,
            attempts=self._attempts,
            events=self._events,
            keys=self._keys,
            sha256=self._digest.hexdigest(),
        )


async def write(archive: ArchiveStore, progress: Progress = lambda _: None) -> AsyncGenerator[bytes]:
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


def lines_of(file: BinaryIO, most: int = MAX_LINE) -> Iterator[bytes]:
    """Yield the lines of a file, none of them longer than `most` bytes. Raises ArchiveError."""
    for number in itertools.count(1):
        line = file.readline(most + 1)
        if not line:
            return
        if len(line) > most:
            raise ArchiveError(
                f"line {number}: expected at most {most >> 20:,} MiB, got more: {_NONE_OF_IT}, or allow more by"
                " --max-line if it is one large task"
            )
        yield line


def check(
    lines: Iterable[bytes], progress: Progress = lambda _: None, *, clock: Clock = _CLOCK, rules: UrlRules | None = None
) -> Trailer:
    """Read an archive to its end; return its last line, which was verified. Raises ArchiveError.

    rules: where webhooks may lead in the store that it is for; by default any valid URL is allowed.
    """
    tally = _Tally()
    for line in _items(lines, tally, clock, rules, Makers()):
        if line.written != line.text:
            raise ArchiveError(
                f"line {line.number}: expected it as `tasker export` writes it, got other blanks, a field twice or out"
                f" of order: {_NONE_OF_IT}"
            )
        if tally.tasks % AT_ONCE == 0:
            progress(tally.tasks)
    return tally.trailer


async def rehearse(
    archive: ArchiveStore,
    lines: Iterable[bytes],
    progress: Progress = lambda _: None,
    *,
    clock: Clock = _CLOCK,
    rules: UrlRules | None = None,
) -> None:
    """Find what this store cannot take from an archive, or holds with other content; change nothing.

    Raises ArchiveError and Conflict with the number of the line, or of the lines that cannot be stored together.
    """
    tally = _Tally()
    for batch in _batches(_items(lines, tally, clock, rules, await _makers(archive))):
        try:
            await _try(archive, batch.lines, clock)
        except (ArchiveError, Conflict) as error:
            for line in batch.lines:
                await _try_alone(archive, line, clock)
            raise _of_lines(batch.lines, error) from None
        progress(tally.tasks)


async def _makers(archive: ArchiveStore) -> Makers:
    """Return the scopes of the store's keys, which are the first records in it."""
    async with aclosing(archive.read(at_once=1, size=1)) as pages:
        async for page in pages:
            records = [one for one in page if isinstance(one, StoredRecord) and one.record == KEYS.name]
            return Makers(row.value for row in read_records(records))
    return Makers()


def _of_lines(lines: Sequence[_Line], error: ArchiveError | Conflict) -> ArchiveError | Conflict:
    """Return the error for lines that can be stored one by one, but not together."""
    first, last = lines[0].number, lines[-1].number
    where = f"line {first}" if first == last else f"lines {first} to {last}, which cannot be stored together"
    if isinstance(error, Conflict):
        return Conflict(f"{where}: {error} ({_NOTHING})")
    return ArchiveError(f"{where}: {error}: {_NOTHING}; correct it where it came from, and export again")


async def _try_alone(archive: ArchiveStore, line: _Line, clock: Clock) -> None:
    try:
        await _try(archive, [line], clock)
    except Conflict as error:
        raise Conflict(f"line {line.number}: {error} ({_NOTHING})") from None
    except ArchiveError as error:
        raise ArchiveError(f"line {line.number}: {error}: {_NONE_OF_IT}") from None


async def _try(archive: ArchiveStore, lines: Sequence[_Line], clock: Clock) -> None:
    records = [line.item for line in lines if isinstance(line.item, StoredRecord)]
    if records:
        await archive.put_records(records, rehearsal=True)
    tasks = [line.item for line in lines if isinstance(line.item, StoredTask) and not _is_over(line.item, clock)]
    if tasks:
        await archive.put(tasks, rehearsal=True)


def _is_over(task: StoredTask, clock: Clock) -> bool:
    return task.expires_at is not None and task.expires_at <= clock.now()


async def read(
    archive: ArchiveStore,
    lines: Iterable[bytes],
    progress: Progress = lambda _: None,
    *,
    clock: Clock = _CLOCK,
    rules: UrlRules | None = None,
) -> Imported:
    """Store the new items of an archive, in order; read each batch back once it is committed.

    It may be repeated after an interruption. Raises ArchiveError for an incomplete or invalid archive (what precedes
    the fault is stored), Conflict for a task that is stored with other content.
    """
    given_tally, stored_tally = _Tally(), _Tally()
    result = Imported(0, 0, 0)
    for given in _batches(_items(lines, given_tally, clock, rules, await _makers(archive))):
        if given.records:
            result = structs.replace(result, records=result.records + await _put_records(archive, given, stored_tally))
            continue
        stored = await archive.put([task for task in given.tasks if not _is_over(task, clock)])
        found = await archive.find_many([task.task_id for task in given.tasks])
        missing = [task for task, there in zip(given.tasks, found, strict=True) if there is None]
        gone = {task.task_id for task in missing if _is_over(task, clock)}
        if len(missing) > len(gone):
            gone |= await archive.find_erased([task.task_id for task in missing])
        gone_on = _verify(given.lines, found, gone, stored_tally)
        result = structs.replace(
            result,
            stored=result.stored + stored,
            known=result.known + len(given.tasks) - stored - len(gone),
            gone_on=result.gone_on + gone_on,
            erased=result.erased + len(gone),
        )
        progress(stored_tally.tasks)
    if stored_tally.trailer != given_tally.trailer:
        raise Conflict(f"the archive has {given_tally.trailer}, and {stored_tally.trailer} of it was stored here")
    return result


async def _put_records(archive: ArchiveStore, given: _Batch, tally: _Tally) -> int:
    """Store records and tally them; one that is stored with other content is tallied as it was given."""
    records = given.records
    stored = await archive.put_records(records)
    for line, record, there in zip(given.lines, records, await archive.find_records(records), strict=True):
        if there is None:
            raise Conflict(f"{record.record} {record.key} was stored, and has been deleted since: import again")
        tally.add(line.written, record)
    return stored


def _verify(lines: Sequence[_Line], found: Sequence[StoredTask | None], gone: Set[UUID], tally: _Tally) -> int:
    """Tally the stored tasks as they were given; return how many have changed since. Raises Conflict."""
    gone_on = 0
    for line, there in zip(lines, found, strict=True):
        task = line.item
        assert isinstance(task, StoredTask)
        if task.task_id not in gone:
            if there is None or not task.has_become(there):
                raise Conflict(f"task {task.task_id} was stored, and has been deleted or changed since: import again")
            gone_on += there != task
        tally.add(line.written, task)
    return gone_on


class _Line(NamedTuple):
    """A line, and its item."""

    number: int
    text: bytes
    item: StoredRecord | StoredTask

    @property
    def written(self) -> bytes:
        """The line as an export writes it; that of an earlier version has fewer fields."""
        whole = _encode(self.item)
        if whole == self.text:
            return whole
        return _encode(_picked(msgspec.json.decode(whole), msgspec.json.decode(self.text)))


def _picked(whole: Any, given: Any) -> Any:
    """Return an object with only the fields that `given` has too, at any depth."""
    if isinstance(given, dict) and isinstance(whole, dict):
        return {name: _picked(value, given[name]) for name, value in whole.items() if name in given}
    if isinstance(given, list) and isinstance(whole, list):
        return [_picked(*pair) for pair in zip(whole, given, strict=False)]
    return whole


class _Batch(NamedTuple):
    """The lines of one transaction: either records or tasks."""

    lines: list[_Line]

    @property
    def records(self) -> list[StoredRecord]:
        return [line.item for line in self.lines if isinstance(line.item, StoredRecord)]

    @property
    def tasks(self) -> list[StoredTask]:
        return [line.item for line in self.lines if isinstance(line.item, StoredTask)]


def _batches(lines: Iterable[_Line]) -> Iterator[_Batch]:
    """Yield the lines in order, grouped by transaction."""
    batch, size = _Batch([]), 0
    for line in lines:
        if batch.lines and type(line.item) is not type(batch.lines[0].item):
            yield batch
            batch, size = _Batch([]), 0
        batch.lines.append(line)
        size += len(memoryview(line.item.data)) if isinstance(line.item, StoredRecord) else line.item.size
        if len(batch.lines) == AT_ONCE or size >= AT_ONCE_SIZE:
            yield batch
            batch, size = _Batch([]), 0
    if batch.lines:
        yield batch


def _items(
    lines: Iterable[bytes], tally: _Tally, clock: Clock, rules: UrlRules | None, makers: Makers
) -> Iterator[_Line]:
    """Yield each line with its item, and tally it. Raises ArchiveError."""
    with closing(Vetting(clock.now(), rules)) as vetting:
        numbered = enumerate(lines, start=1)
        _check_header(next(numbered, (1, b""))[1])
        for number, line in numbered:
            text = line.rstrip(b"\n")
            if text.startswith(_END):
                return _check_end(number, text, tally, numbered)
            item = _read_item(number, text, vetting)
            tally.add(text, item)
            yield _Line(number, text, makers.settle(item) if isinstance(item, StoredRecord) else item)
    raise ArchiveError(f"the archive ends after {tally.tasks} tasks without its last line: it was cut off; {_AGAIN}")


def _check_header(line: bytes) -> None:
    unpack = next((program for start, program in _PACKED.items() if line.startswith(start)), None)
    if unpack is not None:
        raise ArchiveError(f"line 1: expected an archive, got a compressed file: `{unpack} FILE | tasker import -`")
    try:
        _decode_header(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ArchiveError(f"line 1: expected an archive of `tasker export`, version 1: {error}") from None


def _read_item(number: int, text: bytes, vetting: Vetting) -> StoredRecord | StoredTask:
    is_record = text.startswith(_RECORD)
    try:
        if is_record:
            record = _decode_record(text)
            vetting.record(record)
            return record
        task = _decode_task(text)
        for time in task.times:
            check_storable(time)
        vetting.task(task)
    except (msgspec.DecodeError, ArchiveError, ValueError, RecursionError) as error:
        what, why = "a record" if is_record else "a task", str(error)
        if isinstance(error, msgspec.ValidationError):
            fault = refusal_fault(why, "")
            why = f"{fault.pointer}: {fault.detail}" if fault.pointer else fault.detail
        raise ArchiveError(f"line {number}: expected {what}: {why}: {_NONE_OF_IT}") from None
    return task


def _check_end(number: int, text: bytes, tally: _Tally, rest: Iterator[tuple[int, bytes]]) -> None:
    try:
        trailer = _decode_trailer(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ArchiveError(f"line {number}: expected the end of an archive: {error}") from None
    if trailer != tally.trailer:
        raise ArchiveError(
            f"the archive was changed: its last line says {trailer}, and it holds {tally.trailer}; {_AGAIN}"
        )
    if next(rest, None) is not None:
        raise ArchiveError(f"line {number + 1}: expected nothing after the archive's last line")
