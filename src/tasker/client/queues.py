"""What a client does with queues."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from tasker.client.connection import read_body

if TYPE_CHECKING:
    from tasker.client.connection import Connection


_PAGE = 500
"""Queues that are asked for at a time: as many as the service gives."""


class QueueRate(Struct, frozen=True, kw_only=True):
    """At most `limit` units of weight start in each `per` seconds, and `burst` at once after a quiet while."""

    limit: int
    per: float
    burst: int


class Queue(Struct, frozen=True, kw_only=True):
    """A queue as the service showed it: what waits in it, and what is set of it."""

    name: str
    pending: int = 0
    scheduled: int = 0
    running: int = 0
    load: int = 0
    oldest_wait: float | None = None
    paused: bool = False
    concurrency: int | None = None
    concurrency_per_key: int | None = None
    rate: QueueRate | None = None
    shared_keys: bool = False


class _Page(Struct):
    items: list[Queue]
    next_cursor: str | None = None


class Queues:
    """The queues of one service. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find_many(self, *, limit: int | None = None) -> Iterator[Queue]:
        """Yield the queues that hold open tasks or are limited, by name, at most `limit`; pages are read as needed."""
        yield from itertools.islice(self._read_pages(), limit)

    def _read_pages(self) -> Iterator[Queue]:
        query: dict[str, Any] = {"limit": _PAGE}
        while True:
            page = read_body(self._connection.send("GET", "/queue", query=query), _Page)
            yield from page.items
            if page.next_cursor is None:
                return
            query["cursor"] = page.next_cursor

    def get(self, name: str) -> Queue:
        """Return the queue as it is now. Raises NotFound (what cannot be a queue's name)."""
        return read_body(self._connection.send("GET", f"/queue/{name}"), Queue)

    def change(self, name: str, **fields: Any) -> Queue:
        """Set `paused`, `concurrency`, `concurrency_per_key`, `rate` or `shared_keys`; None takes a limit away.

        Raises NotFound, InvalidRequest with every fault.
        """
        return read_body(self._connection.send("PATCH", f"/queue/{name}", body=fields), Queue)

    def pause(self, name: str) -> Queue:
        """Let nothing of the queue start until it is resumed; what runs goes on. Raises NotFound."""
        return self.change(name, paused=True)

    def resume(self, name: str) -> Queue:
        """Let its tasks start again. Raises NotFound."""
        return self.change(name, paused=False)
