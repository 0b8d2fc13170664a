"""Waiting until something is over: by long polls, each of them one request, and by a stream where that is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

from tasker.client.core.effects import Call, Close, Pause, Reply
from tasker.client.core.exchange import PATIENCE, Exchange, is_transient, read_body, read_retry_after
from tasker.client.errors import ClientError, ServiceError, Unreachable

T = TypeVar("T")

LONGEST_POLL = timedelta(seconds=60)
"""Longest `wait` of one request."""
_SHORTEST_POLL = 1.0
"""Seconds."""
_LONGEST_STREAM = 300.0
"""Seconds."""
_CUT = 5.0
"""Seconds after which a poll without an answer counts as cut off: a proxy waits no longer, say."""


def wait_until(
    exchange: Exchange,
    path: str,
    type: type[T],
    timeout: timedelta | float | None,
    *,
    is_over: Callable[[T], bool],
    late: Callable[[T, timedelta], ClientError],
    watch: Mapping[str, Any] | None = None,
) -> Call[T]:
    """Return what is at `path` once it is over. Raises what `late` makes after `timeout` (None: never).

    It outlasts a restart of the service. One poll comes first; if that took long, or was cut off, a stream tells of the
    end: that of all events, by the query `watch`. Without one, polls that are cut off become shorter.
    """
    limit = None if timeout is None else as_timedelta(timeout)
    return _Waiting(exchange, path, type, limit, is_over, late, watch, exchange.now()).run()


@dataclass
class _Waiting(Generic[T]):
    """One wait. limit: how long. start: when it began."""

    exchange: Exchange
    path: str
    type: type[T]
    limit: timedelta | None
    is_over: Callable[[T], bool]
    late: Callable[[T, timedelta], ClientError]
    watch: Mapping[str, Any] | None
    start: float
    longest: timedelta = LONGEST_POLL
    prefers_stream: bool = False
    misses: int = 0

    def run(self) -> Call[T]:
        while True:
            if self.prefers_stream and self.watch is not None and self._has_time():
                yield from self._listen()
            asked = self.exchange.now()
            try:
                reply = yield from self.exchange.send("GET", self.path, wait=self._poll(), retries=0)
            except (Unreachable, ServiceError) as error:
                yield from self._miss(error, self.exchange.now() - asked)
                continue
            self.misses = 0
            seen = read_body(reply, self.type)
            if self.is_over(seen):
                return seen
            if self.limit is not None and self._waited() >= self.limit:
                raise self.late(seen, self.limit)
            self.prefers_stream = self.prefers_stream or timedelta(seconds=reply.elapsed) > LONGEST_POLL / 2
            yield from pace(reply)

    def _waited(self) -> timedelta:
        return timedelta(seconds=self.exchange.now() - self.start)

    def _poll(self) -> timedelta:
        """Return how long the next poll may take."""
        return self.longest if self.limit is None else min(max(self.limit - self._waited(), timedelta(0)), self.longest)

    def _has_time(self) -> bool:
        """Tell whether more time is left than a poll takes: the last one keeps the limit exactly."""
        return self.limit is None or self.limit - self._waited() > LONGEST_POLL

    def _miss(self, error: Unreachable | ServiceError, held: float) -> Call[None]:
        """Go on after a poll without an answer, or raise the error."""
        self.misses += 1
        is_late = self.limit is not None and self._waited() >= self.limit
        if is_late or self.misses > PATIENCE or not (yield from self.exchange.pause(error, self.misses - 1)):
            raise error
        if held >= _CUT:
            self.prefers_stream = True
            self.longest = min(timedelta(seconds=held * 0.8), self.longest)

    def _listen(self) -> Call[None]:
        """Wait for an event, as long as there is time, and for some minutes at most: none is waited for in vain."""
        end = self.exchange.now() + _LONGEST_STREAM
        try:
            yield from self.exchange.open("/events", query=self.watch)
            seen = yield from self.exchange.read("GET", self.path, self.type)
            has_news = self.is_over(seen)  # it may have ended before the stream began
            while not has_news and self._has_time() and self.exchange.now() < end:
                has_news = bool((yield from self.exchange.read_events()).events)
        except (Unreachable, ServiceError) as error:
            if not is_transient(error):
                self.watch = None
        yield Close()


def pace(reply: Reply) -> Call[None]:
    """Pause if the service answered without waiting (it is stopping, say), so as not to poll in a tight loop."""
    if reply.elapsed < _SHORTEST_POLL:
        asked = read_retry_after(reply)
        yield Pause(asked.total_seconds() if asked else _SHORTEST_POLL)


def as_timedelta(value: timedelta | float) -> timedelta:
    """Return a duration; numbers are seconds."""
    return value if isinstance(value, timedelta) else timedelta(seconds=value)
