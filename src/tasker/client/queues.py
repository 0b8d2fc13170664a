"""The queues of a service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tasker.client.connection import Connection
from tasker.wire.queues import Queue, QueuePage

_PAGE = 500
"""Queues in one page: the most that the service gives."""


class Queues:
    """The queues of one service. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find_many(self, *, limit: int | None = None) -> Iterator[Queue]:
        """Yield the queues with open tasks or limits, by name, at most `limit`; pages are read as they are needed."""
        return self._connection.read_list("/queue", QueuePage, {"limit": _PAGE}, limit)

    def get(self, name: str) -> Queue:
        """Return the queue as it is now. Raises NotFound for what cannot be a queue's name."""
        return self._connection.read("GET", f"/queue/{name}", Queue)

    def change(self, name: str, **fields: Any) -> Queue:
        """Set `paused`, `concurrency`, `concurrency_per_key`, `rate` or `shared_keys`; None removes a limit.

        Raises NotFound, InvalidRequest with every fault.
        """
        return self._connection.read("PATCH", f"/queue/{name}", Queue, body=fields)

    def pause(self, name: str) -> Queue:
        """Start none of the queue's tasks until it is resumed; running ones go on. Raises NotFound."""
        return self.change(name, paused=True)

    def resume(self, name: str) -> Queue:
        """Start its tasks again. Raises NotFound."""
        return self.change(name, paused=False)
