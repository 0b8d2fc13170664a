"""Receiving the body of a request: never more than the limit, and never longer than the client is given."""

from __future__ import annotations

import asyncio

import structlog

from tasker.api.buffers import PIECE, Buffer, Buffers
from tasker.api.problems import CLOSE, BodyFault, Refused, body_too_large, cut_off, too_slow
from tasker.api.replies import Head, Receive
from tasker.errors import RequestError
from tasker.service.pauses import Turns

BODY_WITHIN = 30.0
"""Seconds that a client has for sending a body."""
SLOWEST = 500
"""Bytes a second that have to come, on average, of a body that may take longer."""

_log = structlog.get_logger("tasker.api")


def log_body_fault(error: RequestError, head: Head) -> None:
    """Log a body that did not come whole; any other error is the client's own affair."""
    if isinstance(error, BodyFault):
        _log.info(
            "request.body_not_read", request_id=head.request_id.decode(), method=head.method, operation=head.operation,
            address=head.address, reason=error.detail,
        )  # fmt: skip


class Allowance:
    """How long a client may keep us waiting for a body that may take longer than `within` seconds in all.

    Waiting uses it up, each byte earns 1/SLOWEST second back, never more than there was at first: a client may pause,
    but a trickle ends. What we do between two pieces does not count.
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

    One timer serves all the bodies that are on their way: `asyncio.timeout`, a timer for each, costs more than reading.
    """

    def __init__(self, max_body: int, buffers: Buffers, within: float = BODY_WITHIN) -> None:
        self.buffers = buffers
        self._max_body = max_body
        self._within = within
        self._turns = Turns()
        self._reading: dict[asyncio.Task[object], float] = {}  # the oldest first, as all have the same time
        self._late: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def read(
        self, receive: Receive, content_length: bytes | None, owner: str = ""
    ) -> tuple[bytes, Buffer | None]:
        """Return the whole body, and where it is counted if it is large: to be closed when it is needed no more.

        owner: whose request it is. Large ones that come at once are returned one by one: what is done with each takes
        the loop for milliseconds. Raises Refused when it is too large, too slow or cut off, or there are too many
        large ones, of all or of the owner.
        """
        body, buffer = await self._in_time(receive, content_length, owner)
        if buffer is not None:
            try:
                await self._turns.next()
            except BaseException:
                buffer.close()
                raise
        return body, buffer

    async def _in_time(self, receive: Receive, content_length: bytes | None, owner: str) -> tuple[bytes, Buffer | None]:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._reading[task] = loop.time() + self._within
        if self._timer is None:
            self._timer = loop.call_later(self._within, self._cut_off)
        try:
            return await self._read(receive, content_length, owner)
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            self.buffers.was_cut_off()  # it may be both: then it was cancelled twice
            raise too_slow(f"the body did not come within {self._within:g} seconds") from None
        finally:
            del self._reading[task]
            self._late.discard(task)

    def _cut_off(self) -> None:
        """Cancel the reads that are late, and come back when the next one would be."""
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
                # The server may say that more comes when all that was announced is here; asking again costs a turn.
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
        """Note how much of a body is here. Raises Refused where there is no room for it."""
        buffer.add(size - buffer.size)
        if self.buffers.is_full:
            raise crowded_out()


def crowded_out() -> Refused:
    """Return the 503 for a large body for which there is no room beside the others."""
    detail = "too many large bodies are on their way, as TASKER_MAX_BUFFERED counts them: send it again after a while"
    return Refused("unavailable", detail, CLOSE, (b"retry-after", b"1"))


def too_many_kept() -> Refused:
    """Return the 503 for a large body of an owner of whom many others are being checked or stored."""
    detail = (
        "large bodies of earlier requests of the same owner are still being checked or stored, and take that part of"
        " TASKER_MAX_BUFFERED which one owner may have: send it again after a while, and fewer at the same time"
    )
    return Refused("unavailable", detail, CLOSE, (b"retry-after", b"1"))
