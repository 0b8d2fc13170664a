"""The groups of a service: tasks that were submitted under one name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from urllib.parse import quote

from httpx2 import Response

from tasker.client.connection import PATIENCE, Connection, read_body
from tasker.client.errors import GroupTimeout
from tasker.client.options import as_timedelta
from tasker.wire.bulk import BulkReply
from tasker.wire.groups import Group, GroupInList, GroupPage

_LONGEST_POLL = timedelta(seconds=60)
"""Longest `wait` of one request."""


class Groups:
    """The groups of one service. Every method may raise Unreachable, NotAllowed and ServiceError.

    pace: pauses after a reply that came without a wait.
    """

    def __init__(self, connection: Connection, pace: Callable[[Response], None]) -> None:
        self._connection = connection
        self._pace = pace

    def find_many(self, *, limit: int | None = None) -> Iterator[GroupInList]:
        """Yield groups, those with open tasks first, at most `limit`; pages are read as they are needed."""
        return self._connection.read_list("/group", GroupPage, {}, limit)

    def get(self, name: str) -> Group:
        """Return the group as it is now. Raises NotFound."""
        return self._connection.read("GET", _path(name), Group)

    def wait(self, name: str, timeout: timedelta | float | None = None) -> Group:
        """Return the group once none of its tasks is open. Raises GroupTimeout after `timeout` (None: never), NotFound.

        It outlasts a restart of the service.
        """
        limit = None if timeout is None else as_timedelta(timeout)
        start = time.monotonic()
        while True:
            waited = timedelta(seconds=time.monotonic() - start)
            left = _LONGEST_POLL if limit is None else min(max(limit - waited, timedelta(0)), _LONGEST_POLL)
            reply = self._connection.send("GET", _path(name), wait=left, retries=PATIENCE)
            group = read_body(reply, Group)
            if group.ended_at is not None:
                return group
            if limit is not None and timedelta(seconds=time.monotonic() - start) >= limit:
                raise GroupTimeout(group, limit)
            self._pace(reply)

    def cancel(self, name: str) -> BulkReply:
        """Cancel its open tasks; return how far that is: of very many, it goes on by itself. Raises NotFound."""
        return self._connection.read("POST", f"{_path(name)}/cancel", BulkReply, retries=0)


def _path(name: str) -> str:
    return f"/group/{quote(name, safe='')}"
