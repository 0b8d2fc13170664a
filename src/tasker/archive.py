"""Archives: everything stored, as JSON Lines, to carry it from one store to another.

The first line says what this is, then there is a line for each task with all that belongs to it, in order of
submission, and the last line counts them and has the SHA-256 of the lines between.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import Literal

import msgspec
from msgspec import Struct

from tasker.engine import Archive
from tasker.errors import ConfigError
from tasker.stored import StoredTask

AT_ONCE = 200
"""Tasks in one transaction."""
Progress = Callable[[int], None]
"""Hears how many tasks are done."""


class Header(Struct, frozen=True, tag_field="kind", tag="tasker-archive", forbid_unknown_fields=True):
    """The first line."""

    version: Literal[1] = 1


class Trailer(Struct, frozen=True, kw_only=True, tag_field="kind", tag="end", forbid_unknown_fields=True):
    """The last line: how many there are of each, and the digest of the lines between header and trailer."""

    tasks: int
    attempts: int
    events: int
    keys: int
    sha256: str


class Imported(Struct, frozen=True):
    """What an import did: `stored` are new here, `known` were here already, some of which have `gone_on` since."""

    stored: int
    known: int
    gone_on: int


_encode = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(Header).decode
_decode_trailer = msgspec.json.Decoder(Trailer).decode
_decode_task = msgspec.json.Decoder(StoredTask).decode
_END = b'{"kind":"end"'


class _Tally:
    """Counts what goes by."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._tasks = self._attempts = self._events = self._keys = 0

    def add(self, line: bytes, task: StoredTask) -> None:
        self._digest.update(line + b"\n")
        self._tasks += 1
        self._attempts += len(task.attempts)
        self._events += len(task.events)
        self._keys += len(task.keys)

    @property
    def trailer(self) -> Trailer:
        return Trailer(
            tasks=self._tasks, attempts=self._attempts, events=self._events, keys=self._keys,
            sha256=self._digest.hexdigest(),
        )  # fmt: skip


async def write(archive: Archive, progress: Progress = lambda _: None) -> AsyncIterator[bytes]:
    """Yield the lines of an archive of everything stored, each with its line end."""
    yield _encode(Header()) + b"\n"
    tally = _Tally()
    async for tasks in archive.read(at_once=AT_ONCE):
        for task in tasks:
            line = _encode(task)
            tally.add(line, task)
            yield line + b"\n"
        progress(tally.trailer.tasks)
    yield _encode(tally.trailer) + b"\n"


def check(lines: Iterable[bytes]) -> Trailer:
    """Read an archive to its end; return what its last line says, which was found to hold. Raises ConfigError."""
    tally = _Tally()
    for _ in _tasks(lines, tally):
        pass
    return tally.trailer


async def read(archive: Archive, lines: Iterable[bytes], progress: Progress = lambda _: None) -> Imported:
    """Store what `lines` hold and is not there yet, in order; each transaction is verified before it commits.

    May be done again after it was cut off. Raises ConfigError for what is no whole archive (what came before the fault
    is stored), Conflict for a task that is there with other content.
    """
    result = Imported(0, 0, 0)
    tasks = _tasks(lines, _Tally())
    while given := list(islice(tasks, AT_ONCE)):
        stored, now = await archive.put(given)
        gone_on = sum(was != is_now for was, is_now in zip(given, now, strict=True))
        result = Imported(result.stored + stored, result.known + len(given) - stored, result.gone_on + gone_on)
        progress(result.stored + result.known)
    return result


def _tasks(lines: Iterable[bytes], tally: _Tally) -> Iterator[StoredTask]:
    """Yield each line's task; at the last line `tally` has all of them. Raises ConfigError."""
    numbered = enumerate(lines, start=1)
    _, first = next(numbered, (1, b""))
    try:
        _decode_header(first)
    except msgspec.DecodeError as error:
        raise ConfigError(f"line 1: expected an archive of `tasker export`, version 1: {error}") from None
    for number, line in numbered:
        text = line.rstrip(b"\n")
        if text.startswith(_END):
            return _check_end(number, text, tally, numbered)
        try:
            task = _decode_task(text)
        except msgspec.DecodeError as error:
            raise ConfigError(f"line {number}: expected a task: {error}") from None
        tally.add(text, task)
        yield task
    raise ConfigError(f"the archive ends after {tally.trailer.tasks} tasks without its last line: it was cut off")


def _check_end(number: int, text: bytes, tally: _Tally, rest: Iterator[tuple[int, bytes]]) -> None:
    try:
        said = _decode_trailer(text)
    except msgspec.DecodeError as error:
        raise ConfigError(f"line {number}: expected the end of an archive: {error}") from None
    if said != tally.trailer:
        raise ConfigError(f"the archive was changed: its last line says {said}, and it holds {tally.trailer}")
    if next(rest, None) is not None:
        raise ConfigError(f"line {number + 1}: expected nothing behind the archive's last line")
