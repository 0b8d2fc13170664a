"""The file of results, and beside it what is needed to go on with it: no row runs twice, whatever ends the command.

The file has a line for each row, in their order, so that its end says where to go on. Rows that were under way at that
time are submitted again under the same ids, which are made of the row, its line and a random number of this file: the
service answers with the tasks that it has. That number, and what the command was told, are in `FILE.batch`.

Retrying what failed is another pass: it writes `FILE.new`, with the results that are good and those of the rows that
run again, under ids of that pass, and puts it in the place of the other one at its end.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO, Self
from uuid import UUID, uuid4

import msgspec
from msgspec import UNSET, Struct, UnsetType, structs

from tasker.cli.params import UsageError
from tasker.cli.streams import OutputError

_READ = 1 << 20
"""Bytes of a buffer."""


class Result(Struct, frozen=True, kw_only=True):
    """A line of the file. status: of the task that has ended, or `refused` if the service took none for this row."""

    line: int
    task_id: UUID | None
    status: str
    result: Any = UNSET
    error: Any = UNSET
    usage: dict[str, Any] | UnsetType = UNSET


class Seen(Struct, frozen=True, kw_only=True):
    """What counts of a line."""

    line: int
    status: str
    usage: dict[str, Any] = {}


class Order(Struct, frozen=True, kw_only=True):
    """What the command was told: to go on with another order would mix up results. digest: of the input."""

    url: str
    digest: str
    options: dict[str, Any]


class State(Struct, frozen=True, kw_only=True):
    """What is beside the file. run: makes its ids its own. shared: what all submissions have, with the times of the
    first start. number: of the pass, from 1.
    """

    order: Order
    run: str
    shared: dict[str, Any]
    number: int = 1
    is_finished: bool = False


class Tally:
    """How many rows ended in which way, and what they cost in US dollars, as far as tasks reported it."""

    def __init__(self) -> None:
        self.by_status: Counter[str] = Counter()
        self.cost = 0.0

    def add(self, seen: Seen) -> None:
        self.by_status[seen.status] += 1
        cost = seen.usage.get("cost")
        self.cost += cost if isinstance(cost, int | float) else 0.0

    @property
    def total(self) -> int:
        return self.by_status.total()

    @property
    def bad(self) -> int:
        """The number of rows without a result."""
        return self.total - self.by_status["completed"]


class Results:
    """The results of an order in a file. `with` holds the file against other commands. Raises UsageError.

    shared: what all submissions have, unless the file was begun before: then `shared` has what they had at that time.
    """

    def __init__(self, file: Path, order: Order, shared: dict[str, Any]) -> None:
        self.file = file
        self._order = order
        self._shared = shared
        self._beside = file.with_name(file.name + ".batch")
        self._lock: BinaryIO | None = None
        self._has_retried = False

    def __enter__(self) -> Self:
        try:
            self._state = self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()

    @property
    def shared(self) -> dict[str, Any]:
        return self._state.shared

    def next_pass(self, *, retry_failed: bool) -> Pass | None:
        """Return the pass to go on with, or a new one for what failed, once; None if there is nothing to do."""
        if self._state.is_finished:
            if not retry_failed or self._has_retried or not self.tally().bad:
                return None
            self._save(structs.replace(self._state, number=self._state.number + 1, is_finished=False))
        self._has_retried = self._state.number > 1
        return Pass(self.file, self._state)

    def finish(self) -> None:
        """Note that the pass has come to its end."""
        self._save(structs.replace(self._state, is_finished=True))

    def tally(self) -> Tally:
        """Count the lines of the file."""
        tally = Tally()
        with self.file.open("rb") as lines:
            for seen, _ in _read_seen(lines):
                tally.add(seen)
        return tally

    def _open(self) -> State:
        """Return the state beside the file, or a new one."""
        self._lock = found = self._hold()
        text = found.read()
        if not text:
            return self._save(State(order=self._order, run=uuid4().hex, shared=self._shared))
        try:
            state = msgspec.json.decode(text, type=State)
        except msgspec.DecodeError as error:
            raise UsageError(f"{self._beside}: expected what `tasker batch` wrote, got: {error}") from None
        self._check(state.order)
        return state

    def _hold(self) -> BinaryIO:
        """Open and hold the file beside, a new and empty one if there is none: of two commands, one begins."""
        if self.file.exists() and not self._beside.exists():
            raise UsageError(
                f"--out: there is {self.file}, but not {self._beside}, which says where it comes from: choose another"
                " name, or remove it"
            )
        found = _open_to_append(self._beside)
        if not _lock(found) or not _is_at(found, self._beside):
            found.close()
            raise UsageError(f"--out: another command writes {self.file} now")
        return found

    def _check(self, before: Order) -> None:
        """Raise UsageError for another order."""
        now, begin = self._order, f"--out: {self.file} was begun with"
        if before.digest != now.digest:
            raise UsageError(f"{begin} another input, or it has changed since; choose another name for its results")
        for name in sorted(set(before.options) | set(now.options)):
            was, given = before.options.get(name), now.options.get(name)
            if was != given:
                raise UsageError(f"{begin} --{name} {_told(was)}, not {_told(given)}; choose another name")
        if before.url != now.url:
            raise UsageError(
                f"{begin} the service at {before.url}, not {now.url}; if it is the same one, say so in {self._beside}"
            )

    def _save(self, state: State) -> State:
        """Replace the file beside at once, and hold the new one."""
        fresh = self._beside.with_name(self._beside.name + ".new")
        try:
            with ExitStack() as stack:
                new = stack.enter_context(fresh.open("wb"))
                _lock(new)
                new.write(msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")
                _store(new)
                fresh.replace(self._beside)
                stack.pop_all()
        except OSError as error:
            raise OutputError(f"{fresh}: {error.strerror}") from None
        if self._lock is not None:
            self._lock.close()
        self._lock, self._state = new, state
        return state


class Pass:
    """One way through the rows: `tally` counts the lines that are there, `skip` says how many rows they are.

    Each line that is written is for the next row. Retries have the lines of the pass before. Raises OutputError.
    """

    def __init__(self, file: Path, state: State) -> None:
        self._file = file
        self._seed = f"{state.run}/{state.number}/".encode()
        self._is_retry = state.number > 1
        self._path = file.with_name(file.name + ".new") if self._is_retry else file
        self.tally = Tally()
        self._out = _open_to_append(self._path)
        end = 0
        for seen, end in _read_seen(self._out):  # noqa: B007  the last one
            self.tally.add(seen)
        self.skip = self.tally.total
        self._out.truncate(end)  # a line that was cut off
        self._out.seek(end)

    def earlier(self) -> Iterator[bytes] | None:
        """Yield the lines of the pass before, from the next row on; None if there is none."""
        return self._read_earlier() if self._is_retry else None

    def id_of(self, line: int, submission: bytes) -> UUID:
        """Return the id of a row's task: the same for the same row in this pass, and for nothing else."""
        digest = bytearray(hashlib.sha256(self._seed + f"{line}/".encode() + submission).digest()[:16])
        digest[6], digest[8] = digest[6] & 0x0F | 0x80, digest[8] & 0x3F | 0x80  # version 8: an id of one's own making
        return UUID(bytes=bytes(digest))

    def write(self, lines: bytes) -> None:
        """Add whole lines."""
        try:
            self._out.write(lines)
            self._out.flush()
        except OSError as error:
            raise self._failed(error) from None

    def finish(self) -> None:
        """Make sure that all lines are stored; those of a retry take the place of the others."""
        try:
            _store(self._out)
            self._path.replace(self._file)
        except OSError as error:
            raise self._failed(error) from None

    def close(self) -> None:
        with suppress(OSError):  # lines that could not be written, as `write` has said
            self._out.close()

    def _failed(self, error: OSError) -> OutputError:
        return OutputError(f"{self._path}: {error.strerror}; the same command goes on here")

    def _read_earlier(self) -> Iterator[bytes]:
        with self._file.open("rb", buffering=_READ) as lines:
            for number, line in enumerate(lines):
                if number >= self.skip:
                    yield line


def _read_seen(lines: BinaryIO) -> Iterator[tuple[Seen, int]]:
    """Yield what counts of each whole line, and where it ends, up to the first one that is none."""
    end, before = 0, 0
    for line in lines:
        try:
            seen = msgspec.json.decode(line, type=Seen)
        except msgspec.DecodeError:
            return
        if line[-1:] != b"\n" or seen.line <= before:
            return
        end, before = end + len(line), seen.line
        yield seen, end


def _open_to_append(file: Path) -> BinaryIO:
    try:
        return open(os.open(file, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=_READ)
    except OSError as error:
        raise OutputError(f"{file}: {error.strerror}") from None


def _store(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _lock(file: BinaryIO) -> bool:
    """Hold a file; return whether nobody else does. The end of the process lets it go."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Tell whether an open file is still the one at this path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _told(value: Any) -> str:
    return "(not given)" if value is None else msgspec.json.encode(value).decode()
