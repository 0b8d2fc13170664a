"""Many submissions in one body: as lines that are read as they arrive, or as the elements of one array."""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from tasker.api.bodies import Allowance
from tasker.api.problems import Refused, body_too_large, cut_off
from tasker.api.replies import Receive
from tasker.errors import Malformed, RequestError
from tasker.service.pauses import Pauses
from tasker.validation.jsontext import check_no_mark

AT_ONCE = 500
"""The most submissions that are checked and stored together."""
CHUNK = 1 << 20
"""Bytes of submissions that fill a chunk."""
MAX_LINES = 1_000_000
"""The most submissions in one request."""
PIECE_WITHIN = 30.0
"""Seconds that a client may take between pieces of a body in lines (see Allowance)."""
_PAUSE = 0.02
"""Seconds without another piece after which the lines so far are stored: their replies do not wait for more lines."""
_LOOK_EVERY = 1.0
"""Seconds between checks whether the service is stopping."""


class Line(NamedTuple):
    """One submission as it was sent. place: its index, from 0. number: of its line, from 1; None in an array.

    text: None if it is longer than a submission may be.
    """

    place: int
    number: int | None
    text: bytes | None


class Source(Protocol):
    """A source of submissions."""

    async def chunk(self) -> list[Line]:
        """Return the next submissions, [] at the end. Raises RequestError if the body ends early."""

    def close(self) -> None:
        """Stop reading."""


class Pieces:
    """A large body, piece by piece. Each is received on demand only, so that the client is slowed down."""

    def __init__(self, receive: Receive, *, within: float = PIECE_WITHIN, stopping: Callable[[], bool]) -> None:
        self._receive = receive
        self.allowance = Allowance(within)
        self._stopping = stopping
        self._coming: asyncio.Future[bytes | None] | None = None
        self._is_last = False

    async def next(self, patience: float) -> bytes | None:
        """Return the next piece, b"" at the end, None if none arrived within `patience` seconds or no time is left.

        Raises Refused (the body is cut off, the service is stopping).
        """
        if self._is_last:
            return b""
        if self.allowance.left <= 0:  # also for a client that sends its bytes just before `patience` ends
            return None
        self._coming = self._coming or asyncio.ensure_future(self._piece())
        if not await self._has_come(self._coming, patience):
            return None
        piece, self._coming = self._coming.result(), None
        if piece is None:
            raise cut_off()
        self.allowance.came(len(piece))
        return piece

    async def next_in_time(self) -> bytes:
        """Return the next piece, b"" at the end. Raises Refused if the client is too slow, and as `next`."""
        piece = await self.next(self.allowance.left)
        if piece is None:
            raise self.allowance.used_up()
        return piece

    async def _has_come(self, coming: asyncio.Future[bytes | None], patience: float) -> bool:
        """Wait `patience` seconds for a piece; tell whether it arrived. Raises Refused (the service is stopping)."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            while not coming.done():
                left = began + patience - loop.time()
                if left <= 0:
                    return False
                await asyncio.wait([coming], timeout=min(left, _LOOK_EVERY))
                if self._stopping():
                    raise Refused("shutting-down", "the service is stopping: send the rest again after a while")
            return True
        finally:
            self.allowance.waited(loop.time() - began)

    async def _piece(self) -> bytes | None:
        """Return a piece that is not empty, b"" at the end, None when the client has disconnected."""
        while not self._is_last:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return None
            self._is_last = not message.get("more_body", False)
            if piece := message.get("body", b""):
                return bytes(piece)
        return b""

    def close(self) -> None:
        if self._coming is not None:
            self._coming.cancel()


class LineSource:
    """JSON Lines (https://jsonlines.org): an object on each line. Blank lines count as lines, not as submissions.

    Holds one chunk and the last piece of the body. A line of more than `max_line` bytes is skipped.
    """

    def __init__(self, pieces: Pieces, *, max_line: int, max_size: int) -> None:
        self._pieces = pieces
        self._max_line = max_line
        self._max_size = max_size
        self._size = 0
        self._rest: list[
            bytes
        ] = []  # a line may arrive in any number of pieces: they are joined once, when it is whole
        self._rest_size = 0
        self._is_too_long = False
        self._ready: deque[Line] = deque()
        self._number = 0
        self._place = 0
        self._fault: RequestError | None = None
        self._has_ended = False

    async def chunk(self) -> list[Line]:
        while len(self._ready) < AT_ONCE and not self._has_ended:
            piece = await (self._pieces.next(_PAUSE) if self._ready else self._in_time())
            if piece is None:
                break
            self._take(piece)
        if not self._ready and self._fault is not None:
            raise self._fault
        return self._next_lines()

    def close(self) -> None:
        self._pieces.close()

    async def _in_time(self) -> bytes | None:
        try:
            return await self._pieces.next_in_time()
        except RequestError as fault:
            self._end(fault)
            return None

    def _next_lines(self) -> list[Line]:
        lines: list[Line] = []
        size = 0
        while self._ready and len(lines) < AT_ONCE and size < CHUNK:
            lines.append(self._ready.popleft())
            size += len(lines[-1].text or b"")
        return lines

    def _take(self, piece: bytes) -> None:
        """Split a piece into lines."""
        self._size += len(piece)
        if self._size > self._max_size:
            self._end(body_too_large(self._max_size, "TASKER_MAX_BATCH"))
            return
        if not piece:  # the end: the last line needs no line break
            self._add(self._take_rest())
            self._has_ended = True
            return
        first, *more = piece.split(b"\n")
        self._keep(first)
        if more:
            self._add(self._take_rest())
            for text in more[:-1]:
                self._add(text)
            self._keep(more[-1])

    def _keep(self, part: bytes) -> None:
        """Keep a part of an incomplete line, unless the line is too long already."""
        self._rest_size += len(part)
        if self._rest_size > self._max_line:
            self._rest, self._is_too_long = [], True
        elif part and not self._is_too_long:
            self._rest.append(part)

    def _take_rest(self) -> bytes:
        text, self._rest, self._rest_size = b"".join(self._rest), [], 0
        return text

    def _add(self, text: bytes) -> None:
        self._number += 1
        is_too_long, self._is_too_long = self._is_too_long or len(text) > self._max_line, False
        if self._fault is not None or not (is_too_long or text.strip()):
            return
        if self._place == MAX_LINES:
            self._end(Refused("payload-too-large", f"expected at most {MAX_LINES:,} submissions"))
            return
        self._ready.append(Line(self._place, self._number, None if is_too_long else text))
        self._place += 1

    def _end(self, fault: RequestError) -> None:
        """Stop reading with this fault; the lines before it are returned first."""
        self._fault, self._has_ended, self._rest = fault, True, []


class ArraySource:
    """The elements of a JSON array, read as a whole."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self._texts = texts
        self._next = 0

    @classmethod
    async def of(cls, body: bytes) -> ArraySource:
        """Return the elements of a body. Raises Malformed if it is not a JSON array."""
        texts, pauses = [], Pauses()
        for text in split_array(body):
            texts.append(text)
            if pauses.due():
                await pauses.pause()
        return cls(texts)

    async def chunk(self) -> list[Line]:
        first, self._next = self._next, self._next + AT_ONCE
        texts = self._texts[first : self._next]
        return [Line(place, None, text) for place, text in enumerate(texts, start=first)]

    def close(self) -> None:
        pass


# Accepts any element with a recognizable end: a fault within one is that element's own, and reported with it.
_lenient = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str, strict=False)
_blanks = re.compile(r"[ \t\r\n]*").match


def split_array(body: bytes) -> Iterator[bytes]:
    """Yield the texts of the elements of a JSON array. Raises Malformed, perhaps only at its end."""
    try:
        yield from (text.encode() for text in _split(body.decode()))
    except RecursionError:
        raise Malformed("the JSON is nested too deeply", name="too-deep") from None
    except UnicodeDecodeError as error:
        raise Malformed(f"the body is not UTF-8: byte {error.start} is 0x{body[error.start]:02x}") from None
    except json.JSONDecodeError as error:
        check_no_mark(error.doc)
        where = f"line {error.lineno}, column {error.colno}"
        raise Malformed(f"expected a JSON array of submissions: {error.msg} ({where})") from None


def _split(text: str) -> Iterator[str]:
    at = _past_mark(text, 0, "[")
    while text[at : at + 1] != "]":
        _, end = _lenient.raw_decode(text, at)
        yield text[at:end]
        at = _past_blanks(text, end)
        if text[at : at + 1] == "]":
            break
        at = _past_mark(text, at, ",")
        if text[at : at + 1] == "]":
            raise json.JSONDecodeError("Expecting value", text, at)
    if _past_mark(text, at, "]") != len(text):
        raise json.JSONDecodeError("Extra data", text, at + 1)


def _past_blanks(text: str, at: int) -> int:
    blanks = _blanks(text, at)
    return at if blanks is None else blanks.end()


def _past_mark(text: str, at: int, mark: str) -> int:
    """Return the place after a mark and the blanks around it."""
    at = _past_blanks(text, at)
    if text[at : at + 1] != mark:
        raise json.JSONDecodeError(f"Expecting {mark!r}", text, at)
    return _past_blanks(text, at + 1)
