"""What the service and a child process say to each other: length-prefixed msgpack frames over a socket pair.

One attempt at a time runs in a child, so that frames need not name it: all that comes between Run and Ended is its.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from tasker.model import Progress, TaskProblem
from tasker.rules.lifecycle import Failed, Outcome, Snoozed, Succeeded

HEADER = 4
SLACK = 256 * 1024
"""Bytes that a frame may take beyond the largest result: tracebacks, log lines, pieces of output."""
PIECE = 32 * 1024
"""Characters of one piece of output or one printed line; longer ones are cut into pieces."""


class Init(Struct, tag="init", array_like=True, frozen=True):
    """First frame to a child. `gpt`: fields of GptSettings, for a child that runs built-in types alone."""

    targets: tuple[str, ...]
    sys_path: tuple[str, ...]
    max_result: int
    log_level: int
    gpt: dict[str, Any] | None


class Run(Struct, tag="run", array_like=True, frozen=True):
    """Run one attempt. `params` is JSON text. `max_output`: bytes that it may say, None for any number."""

    task_id: UUID
    attempt: int
    type_name: str
    params: bytes
    max_output: int | None = None


class Cancel(Struct, tag="cancel", array_like=True, frozen=True):
    """The attempt that runs should stop; meant for no other, should it have ended meanwhile."""

    task_id: UUID
    attempt: int


class Ready(Struct, tag="ready", array_like=True, frozen=True):
    """The child has loaded its task types."""


class Broken(Struct, tag="broken", array_like=True, frozen=True):
    """The child cannot load them, and ends."""

    detail: str


class Died(Struct, tag="died", array_like=True, frozen=True):
    """The child ends, of an exception that is no function's outcome."""

    detail: str


class Progressed(Struct, tag="progress", array_like=True, frozen=True):
    progress: Progress


class Output(Struct, tag="output", array_like=True, frozen=True):
    chunk: str


class Log(Struct, tag="log", array_like=True, frozen=True):
    """`fields` is a JSON object: msgpack has no integers beyond 64 bits."""

    level: str
    message: str
    fields: bytes


class Usage(Struct, tag="usage", array_like=True, frozen=True):
    """`values` is a JSON object."""

    values: bytes


class Line(Struct, tag="line", array_like=True, frozen=True):
    """A line printed or logged in the child: for the server's log. `source`: stdout, stderr or a logger's name."""

    level: int
    source: str
    text: str


class Ended(Struct, tag="ended", array_like=True, frozen=True):
    """The function has ended: with a result, a problem or a delay. Last frame of an attempt.

    `noticed`: it knew that it was to be cancelled. `leftovers`: it left behind what must not meet the next attempt
    (processes, threads...). `peak_memory`: bytes that the child has held at most since the attempt began, None where
    the kernel does not tell.
    """

    result: bytes | None = None
    problem: TaskProblem | None = None
    after: timedelta | None = None
    noticed: bool = False
    leftovers: bool = False
    peak_memory: int | None = None

    @property
    def outcome(self) -> Outcome:
        if self.result is not None:
            return Succeeded(self.result)
        if self.problem is not None:
            return Failed(self.problem, self.after)
        return Snoozed(self.after or timedelta(0))


ToChild = Init | Run | Cancel
FromChild = Ready | Broken | Died | Progressed | Output | Log | Usage | Line | Ended


class Corrupt(Exception):
    """The bytes that came are no frame."""


def ended(outcome: Outcome, *, noticed: bool, leftovers: bool, peak_memory: int | None = None) -> Ended:
    """Return the last frame of an attempt that ended in a child with `outcome`."""
    match outcome:
        case Succeeded(result):
            return Ended(result, None, None, noticed, leftovers, peak_memory)
        case Failed(problem, after):
            return Ended(None, problem, after, noticed, leftovers, peak_memory)
        case Snoozed(after):
            return Ended(None, None, after, noticed, leftovers, peak_memory)
        case _:
            raise AssertionError(f"no function ends by itself as {outcome}")


_encoder = msgspec.msgpack.Encoder()


def encode(frame: ToChild | FromChild) -> bytes:
    """Return the bytes of a frame."""
    buffer = bytearray(HEADER)
    _encoder.encode_into(frame, buffer, HEADER)
    buffer[:HEADER] = (len(buffer) - HEADER).to_bytes(HEADER, "big")
    return bytes(buffer)


class Reader:
    """Cuts a stream of bytes into frames of one direction."""

    def __init__(self, kind: Any, max_size: int) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._max_size = max_size
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """Take bytes in, yield the frames that are whole. Raises Corrupt for bytes that are none."""
        self._buffer += data
        start = 0
        while (end := self._end(start)) is not None:
            yield self._decode(memoryview(self._buffer)[start + HEADER : end])
            start = end
        if start:
            del self._buffer[:start]

    def _end(self, start: int) -> int | None:
        """Return where the frame at `start` ends, None while it is not whole."""
        body = start + HEADER
        if len(self._buffer) < body:
            return None
        size = int.from_bytes(self._buffer[start:body], "big")
        if size > self._max_size:
            raise Corrupt(f"a frame claims {size:,} bytes, more than {self._max_size:,}")
        return body + size if len(self._buffer) >= body + size else None

    def _decode(self, body: memoryview) -> Any:
        try:
            with body:
                return self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Corrupt(f"a frame cannot be read: {error}") from None
