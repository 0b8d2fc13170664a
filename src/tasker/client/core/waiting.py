"""Waiting until something is over: by long polls, each of them one request."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from tasker.client.core.effects import Call, Pause, Reply
from tasker.client.core.exchange import PATIENCE, Exchange, read_body, read_retry_after
from tasker.client.errors import ClientError

T = TypeVar("T")

LONGEST_POLL = timedelta(seconds=60)
"""Longest `wait` of one request."""
_SHORTEST_POLL = 1.0
"""Seconds."""


def wait_until(
    exchange: Exchange,
    path: str,
    type: type[T],
    timeout: timedelta | float | None,
    *,
    is_over: Callable[[T], bool],
    late: Callable[[T, timedelta], ClientError],
) -> Call[T]:
    """Return what is at `path` once it is over. Raises what `late` makes after `timeout` (None: never).

    It outlasts a restart of the service.
    """
    limit = None if timeout is None else as_timedelta(timeout)
    start = exchange.now()
    while True:
        waited = timedelta(seconds=exchange.now() - start)
        left = LONGEST_POLL if limit is None else min(max(limit - waited, timedelta(0)), LONGEST_POLL)
        reply = yield from exchange.send("GET", path, wait=left, retries=PATIENCE)
        seen = read_body(reply, type)
        if is_over(seen):
            return seen
        if limit is not None and timedelta(seconds=exchange.now() - start) >= limit:
            raise late(seen, limit)
        yield from pace(reply)


def pace(reply: Reply) -> Call[None]:
    """Pause if the service answered without waiting (it is stopping, say), so as not to poll in a tight loop."""
    if reply.elapsed < _SHORTEST_POLL:
        asked = read_retry_after(reply)
        yield Pause(asked.total_seconds() if asked else _SHORTEST_POLL)


def as_timedelta(value: timedelta | float) -> timedelta:
    """Return a duration; numbers are seconds."""
    return value if isinstance(value, timedelta) else timedelta(seconds=value)
