"""What a call of the client asks for: to send a request, to read a stream, to pause, to hand over a value."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Generic, TypeVar

from msgspec import Struct

T = TypeVar("T")
S = TypeVar("S")


class Request(Struct, frozen=True, kw_only=True):
    """Send a request; the answer is its Reply. Raises Unreachable.

    target: path and query. timeout: seconds for each step, connecting, say; read_timeout: seconds for the reply.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    content: bytes | None = None
    timeout: float
    read_timeout: float


class Reply(Struct, frozen=True, kw_only=True):
    """The reply to a request. headers: by any case of their names. elapsed: seconds until it was there."""

    status: int
    phrase: str
    url: str
    headers: Mapping[str, str]
    content: bytes
    elapsed: float


class Open(Struct, frozen=True):
    """Send a request whose reply is a stream; the answer is its Reply, with the content of a refusal only.

    A call has one stream at a time. It is closed with the call, at the latest.
    """

    request: Request


class ReadLines(Struct, frozen=True):
    """Wait for the next lines of the stream; the answer is a list of bytes, None at the end. Raises Unreachable."""


class Close(Struct, frozen=True):
    """Close the stream."""


class Pause(Struct, frozen=True):
    """Wait for some seconds."""

    seconds: float


class Pull(Struct, frozen=True):
    """Take the next value of what the user iterates over; the answer is NOTHING at the end."""

    source: Any


NOTHING: Any = object()


class Emit(Struct, Generic[T], frozen=True):
    """Hand a value over to who iterates."""

    value: T


Effect = Request | Open | ReadLines | Close | Pause | Pull
Call = Generator[Effect, Any, T]
"""A call of the client, which returns a value."""
Flow = Generator[Effect | Emit[T], Any, None]
"""A call of the client that hands over many values."""


def pick(flow: Flow[T], choose: Callable[[T], S | None]) -> Flow[S]:
    """Hand over what `choose` makes of the values of a flow, without None."""
    go_on: Callable[[Any], Effect | Emit[T]] = flow.send
    answer: Any = None
    while True:
        try:
            effect = go_on(answer)
        except StopIteration:
            return
        go_on, answer = flow.send, None
        if isinstance(effect, Emit):
            if (chosen := choose(effect.value)) is not None:
                yield Emit(chosen)
            continue
        try:
            answer = yield effect
        except Exception as error:
            go_on, answer = flow.throw, error
