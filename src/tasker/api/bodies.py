"""Read the body of a request, within the limits of size and time."""

from __future__ import annotations

import asyncio

import structlog

from tasker.api.buffers import PIECE, Buffer, Buffers
from tasker.api.problems import CLOSE, BodyFault, Refused, body_too_large, cut_off, too_slow
from tasker.api.replies import Head, Receive
from tasker.errors import RequestError
from tasker.service.pauses import Turns

BODY_WITHIN = 30.0
"""Seconds within which a client must send a body."""
SLOWEST = 500
"""Least average bytes a second of a body that may take longer."""

_log = structlog.get_logger("tasker.api")


def log_body_fault(error: RequestError, head: Head) -> None:
    """Log a body that did not arrive whole; other errors are only the client's concern."""
    if isinstance(error, BodyFault):
        _log.info(
            "request.body_not_read",
            request_id=head.request_id.decode(),
            method=head.method,
            operation=head.operation,
            address=head.address,
            reason=error.detail,
        )


class Allowance:
    """The waiting time left to a client for a body that may take longer than `within` seconds in all.

    Waiting uses it up; each byte earns 1/SLOWEST second back, up to `within`. So a client may pause, but a trickle is
    cut off. Time that the service spends between two pieces does not count.
    """

    def __init__(self, within: float) -> None:
        self._most = within
        self.left = within
        """Seconds."""

    def waited(self, seconds: float) -> None:
        self.left -= seconds

    def came(self, size: int) -> None:
        self.left = min(self._most, self.left + size / SLOWEST)

    def used_up(self) -> BodyFault:
        """Return the 408 for a client that has no time left."""
        return too_slow(
            f"the body came too slowly: expected no pause of more than {self._most:g} seconds,"
            f" and at least {SLOWEST} bytes a second on average"
        )


class BodyReader:
    """Reads bodies of at most `max_body` bytes, each within `within` seconds. buffers: count the large ones.

    One timer serves all bodies: `asyncio.timeout`, with a timer for each, costs more than the reading.
    """

    def __init__(self, max_body: int, buffers: Buffers, within: float = BODY_WITHIN) -> None:
        self.buffers = buffers
        self._max_body = max_body
        self._within = within
        self._turns = Turns()
        self._reading: dict[asyncio.Task[object], float] = {}  # deadlines, the earliest first
        self._late: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def read(
        self, receive: Receive, content_length: bytes | None, owner: str = ""
    ) -> tuple[bytes, Buffer | None]:
        """Return the whole body, and the buffer that counts a large one: close it when the body is no longer needed.

        Large bodies that arrive together are returned one by one, because handling each blocks the loop for
        milliseconds. Raises Refused if the body is too large, too slow or cut off, or if there are too many large ones,
        in all or of the `owner`.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._reading[task] = loop.time() + self._within
        if self._timer is None:
            self._timer = loop.call_later(self._within, self._cut_off)
        try:
            body, buffer = await self._read(receive, content_length, owner)
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            self.buffers.was_cut_off()  # it may also have been cut off to free memory, and was then cancelled twice
            raise too_slow(f"the body did not come within {self._within:g} seconds") from None
        finally:
            del self._reading[task]
            if self._late:
                self._late.discard(task)
        if buffer is not None:
            try:
                await self._turns.next()
            except BaseException:
                buffer.close()
                raise
        return body, buffer

    def _cut_off(self) -> None:
        """Cancel the reads that are late, and set the timer for the next deadline."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timer = None
        for task, deadline in self._reading.items():
            if deadline > now:
                self._timer = loop.call_at(deadline, self._cut_off)
                return
            if task not in self._late:
                self._late.add(task)
                task.cancel()

    async def _read(self, receive: Receive, content_length: bytes | None, owner: str) -> tuple[bytes, Buffer | None]:
        expected = -1 if content_length is None else int(content_length)
        parts: list[bytes] = []
        size = 0
        buffer: Buffer | None = None
        try:
            while expected != 0:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise cut_off()
                part = message.get("body", b"")
                size += len(part)
                if size > self._max_body:
                    raise body_too_large(self._max_body, "TASKER_MAX_BODY")
                parts.append(part)
                if size > PIECE:
                    buffer = buffer or self.buffers.open(owner)
                    self._count(buffer, size)
                # The server may announce more although Content-Length is reached; asking again costs a loop iteration.
                if size == expected or not message.get("more_body", False):
                    break
            if buffer is not None and not buffer.keep():
                raise too_many_kept()
        except BaseException:
            if buffer is not None:
                buffer.close()
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts), buffer

    def _count(self, buffer: Buffer, size: int) -> None:
        """Count what has arrived of a body. Raises Refused if it does not fit into memory."""
        buffer.add(size - buffer.size)
        if self.buffers.is_full:
            raise crowded_out()


def crowded_out() -> Refused:
    """Return the 503 for a large body that does not fit into memory."""
    detail = "too many large bodies are arriving (TASKER_MAX_BUFFERED): send it again after a while"
    return Refused("unavailable", detail, CLOSE, (b"retry-after", b"1"))


def too_many_kept() -> Refused:
    """Return the 503 for a large body of an owner whose earlier bodies are still being checked or stored."""
    detail = (
        "large bodies of the same owner's earlier requests are still being checked or stored, and use up the owner's"
        " share of TASKER_MAX_BUFFERED: send it again after a while, and fewer at the same time"
    )
    return Refused("unavailable", detail, CLOSE, (b"retry-after", b"1"))
