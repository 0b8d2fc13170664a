"""The protocol between the service and a child process: length-prefixed msgpack frames over a socket pair.

A child runs one attempt at a time, so frames need not name it: all that comes between Run and Ended belongs to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from tasker.model import Progress, TaskProblem
from tasker.model.steps import Step, Wait
from tasker.rules.lifecycle import Failed, Outcome, Parked, Released, Snoozed, Succeeded
from tasker.tasktypes.sources import Recorded
from tasker.tasktypes.steps import AnyAnswer, AnyRequest, StepEvent

HEADER = 4
SLACK = 256 * 1024
"""Bytes that a frame may take beyond the largest result: tracebacks, log lines, pieces of output."""
PIECE = 32 * 1024
"""Characters of one piece of output or one printed line; longer ones are cut into pieces."""


class Frame(Struct, tag=str.lower, array_like=True, frozen=True):
    """What all frames share: an array that begins with the kind."""


class Init(Frame, frozen=True):
    """First frame to a child. `gpt`: fields of GptSettings, for a child that runs built-in types only.

    `recorded`: what it imports instead of what is on disk.
    """

    targets: tuple[str, ...]
    sys_path: tuple[str, ...]
    max_result: int
    log_level: int
    gpt: dict[str, Any] | None
    recorded: Recorded | None = None


class Run(Frame, frozen=True):
    """Run one attempt. `params` is JSON text. `max_output`: bytes that it may report, None for no limit.

    `stored`: the steps of earlier attempts; None if the function has no context, or nobody keeps its steps.
    """

    task_id: UUID
    attempt: int
    type_name: str
    params: bytes
    max_output: int | None = None
    stored: tuple[Step, ...] | None = None


class Answered(Frame, frozen=True):
    """The answer to the request with this number."""

    number: int
    answer: AnyAnswer


class Cancel(Frame, frozen=True):
    """Ask this attempt to stop. It names the attempt, which may have ended meanwhile."""

    task_id: UUID
    attempt: int


class Ready(Frame, frozen=True):
    """The child has loaded its task types."""


class Broken(Frame, frozen=True):
    """The child cannot load them, and ends."""

    detail: str


class Died(Frame, frozen=True):
    """The child ends because of an exception outside of any function."""

    detail: str


class Progressed(Frame, frozen=True):
    progress: Progress


class Output(Frame, frozen=True):
    chunk: str


class Log(Frame, frozen=True):
    """`fields` is a JSON object: msgpack has no integers beyond 64 bits."""

    level: str
    message: str
    fields: bytes


class Usage(Frame, frozen=True):
    """`values` is a JSON object."""

    values: bytes


class Stepped(Frame, frozen=True):
    """An event of a step. `data` is a JSON object."""

    event: StepEvent
    data: bytes


class Asked(Frame, frozen=True):
    """A request about the steps of the attempt; `number` names it among those of the attempt."""

    number: int
    request: AnyRequest


class Line(Frame, frozen=True):
    """A line printed or logged in the child: for the server's log. `source`: stdout, stderr or a logger's name."""

    level: int
    source: str
    text: str


class Ended(Frame, frozen=True):
    """The function has ended: with a result, a problem, a wait or a delay. Last frame of an attempt.

    `is_superseded`: it was unwound because the attempt is no longer the current one, or is cancelled.

    `noticed`: it had seen the request to cancel. `leftovers`: it left something behind (processes, threads...), so the
    child must not run another attempt. `peak_memory`: the most bytes that the child has held since the attempt began,
    None if the kernel does not report it.
    """

    result: bytes | None = None
    problem: TaskProblem | None = None
    after: timedelta | None = None
    noticed: bool = False
    leftovers: bool = False
    peak_memory: int | None = None
    wait: Wait | None = None
    is_superseded: bool = False

    @property
    def outcome(self) -> Outcome:
        if self.wait is not None:
            return Parked(self.wait)
        if self.is_superseded:
            return Released()
        if self.result is not None:
            return Succeeded(self.result)
        if self.problem is not None:
            return Failed(self.problem, self.after)
        return Snoozed(self.after or timedelta(0))


ToChild = Init | Run | Answered | Cancel
FromChild = Ready | Broken | Died | Progressed | Output | Log | Usage | Stepped | Asked | Line | Ended


class Corrupt(Exception):
    """The bytes that came are no frame."""


def ended(outcome: Outcome, *, noticed: bool, leftovers: bool, peak_memory: int | None = None) -> Ended:
    """Return the last frame of an attempt that ended in a child with `outcome`."""
    result: bytes | None = None
    problem: TaskProblem | None = None
    after: timedelta | None = None
    wait: Wait | None = None
    match outcome:
        case Succeeded():
            result = outcome.result
        case Failed():
            problem, after = outcome.problem, outcome.after
        case Snoozed():
            after = outcome.after
        case Parked():
            wait = outcome.wait
        case Released():
            pass
        case _:
            raise AssertionError(f"no function ends by itself as {outcome}")
    is_superseded = isinstance(outcome, Released)
    return Ended(result, problem, after, noticed, leftovers, peak_memory, wait, is_superseded)


_encoder = msgspec.msgpack.Encoder()


def encode(frame: ToChild | FromChild) -> bytes:
    """Return the bytes of a frame."""
    buffer = bytearray(HEADER)
    _encoder.encode_into(frame, buffer, HEADER)
    buffer[:HEADER] = (len(buffer) - HEADER).to_bytes(HEADER, "big")
    return bytes(buffer)


class Reader:
    """Splits a stream of bytes into the frames of one direction."""

    def __init__(self, kind: Any, max_size: int) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._max_size = max_size
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """Add received bytes, and yield the frames that are complete. Raises Corrupt for bytes that are no frame."""
        self._buffer += data
        start = 0
        while (end := self._end(start)) is not None:
            yield self._decode(memoryview(self._buffer)[start + HEADER : end])
            start = end
        if start:
            del self._buffer[:start]

    def _end(self, start: int) -> int | None:
        """Return where the frame at `start` ends, None while it is incomplete."""
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
