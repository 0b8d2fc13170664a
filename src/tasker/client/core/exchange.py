"""Requests to one service: retries, problems turned into exceptions, replies read as values."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import SplitResult, urlencode, urlsplit

import msgspec

from tasker.client.core.effects import Call, Close, Emit, Flow, Open, Pause, ReadLines, Reply, Request
from tasker.client.errors import ServiceError, UnexpectedReply, Unreachable, error_class
from tasker.validation.encoding import NotJson, encode_strict, place_of_fault
from tasker.wire.problems import Problem

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Page(Protocol[T_co]):
    """One page of a list."""

    @property
    def items(self) -> Sequence[T_co]: ...

    @property
    def next_cursor(self) -> str | None: ...


class Heard(NamedTuple):
    """The data of events that have come, and whether the service has only said that it is there."""

    events: list[bytes]
    has_heartbeat: bool


PATIENCE = 6
"""Retries while waiting: a service that restarts is back within half a minute."""
_TRANSIENT = {429, 502, 503, 504}
_LASTING = {"budget-exhausted"}
"""Problems with a transient status that last until midnight (UTC): raised at once instead of waited out."""
_MAX_PAUSE = 60.0
_LONGEST_SILENCE = 60.0
"""Seconds; the service sends a heartbeat on a stream every fifteen."""
_NO_WAIT = timedelta(0)


@dataclass(frozen=True)
class Exchange:
    """How one service is asked. `timeout` bounds each step of a request (connect, send, read), in seconds.

    A request that gets no answer, or 429, 502, 503 or 504, is sent again up to `retries` times, after a random pause
    that doubles, or after what Retry-After says. Callers pass only requests that may be repeated. now: a clock that
    measures durations, in seconds.
    """

    url: str
    timeout: float = 30.0
    retries: int = 2
    now: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or not _has_port(parts):
            raise ValueError(f"expected a URL with http:// or https://, got {self.url!r}")
        object.__setattr__(self, "url", self.url.rstrip("/"))

    def altered(self, timeout: float | None, retries: int | None) -> Exchange:
        """Return this with another timeout or number of retries; None keeps them."""
        return replace(
            self,
            timeout=self.timeout if timeout is None else timeout,
            retries=self.retries if retries is None else retries,
        )

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        lines: bytes | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        wait: timedelta = _NO_WAIT,
        retries: int | None = None,
    ) -> Call[Reply]:
        """Send a request, with retries, and return the reply if its status is below 300.

        body: sent as JSON. lines: sent as JSON Lines. query: members that are None are left out. wait: how long the
        service may hold the reply back. Raises Unreachable, ServiceError, and ValueError for a body that JSON cannot
        hold; then nothing is sent.
        """
        request = Request(
            method=method,
            target=path + _query(query),
            content=lines if body is None else _encode(body),
            headers=_headers(headers, wait=wait, has_body=body is not None, has_lines=lines is not None),
            timeout=self.timeout,
            read_timeout=self.timeout + wait.total_seconds(),
        )
        limit = self.retries if retries is None else retries
        for retry in itertools.count():
            try:
                reply: Reply = yield request
                if reply.status < 300:
                    return reply
                raise _read_problem(reply)
            except (Unreachable, ServiceError) as error:
                if retry >= limit or not (yield from self.pause(error, retry)):
                    raise
        raise AssertionError("endless")

    def read(self, method: str, path: str, type: type[T], **options: Any) -> Call[T]:
        """Send a request as `send` does, and return the body of the reply as a value of `type`.

        Raises UnexpectedReply, and as `send`.
        """
        return read_body((yield from self.send(method, path, **options)), type)

    def read_list(
        self, path: str, page: type[Page[T]], query: Mapping[str, Any] | None = None, limit: int | None = None
    ) -> Flow[T]:
        """Hand over the items of a list, at most `limit`; pages are read as they are needed. Raises as `read`."""
        asked, left = dict(query or {}), limit
        while left is None or left > 0:
            found = yield from self.read("GET", path, page, query=asked)
            for item in found.items[:left]:
                yield Emit(item)
            left = None if left is None else left - len(found.items)
            if found.next_cursor is None:
                return
            asked["cursor"] = found.next_cursor

    def open(self, path: str, *, query: Mapping[str, Any] | None = None, last_id: str = "") -> Call[None]:
        """Open a stream of Server-Sent Events, to begin after the event `last_id`. Raises as `send`; no retries."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        reply: Reply = yield Open(
            Request(
                method="GET",
                target=path + _query(query),
                headers=headers,
                timeout=self.timeout,
                read_timeout=max(self.timeout, _LONGEST_SILENCE),
            )
        )
        if reply.status >= 300:
            raise _read_problem(reply)

    def read_events(self) -> Call[Heard]:
        """Return what comes next on the open stream. Raises Unreachable at its end.

        A silence of a minute, four missed heartbeats, counts as a broken connection.
        """
        lines: list[bytes] | None = yield ReadLines()
        if lines is None:
            raise Unreachable(self.url, "the service ended the stream")
        events = [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: ")]
        return Heard(events, any(line.startswith(b":") for line in lines))

    def follow(
        self,
        path: str,
        read: Callable[[bytes], tuple[T, str]],
        *,
        query: Mapping[str, Any] | None = None,
        last_id: str = "",
        has_ended: Callable[[], Call[bool | None]] | None = None,
    ) -> Flow[T]:
        """Hand over the events of a stream, each once; reconnect until it has ended. Raises as `send`.

        read: decodes an event and returns it with its id. last_id: begin after the event with this id. has_ended: asked
        when the service ends the stream; it returns None if more events are there already. None for a stream without an
        end.
        """
        misses = 0
        while True:
            try:
                yield from self.open(path, query=query, last_id=last_id)
                while (lines := (yield ReadLines())) is not None:
                    for text in lines:
                        if text.startswith(b"data: "):
                            event, event_id = read(text[6:])
                            last_id, misses = event_id or last_id, 0
                            yield Emit(event)
                is_over = has_ended is not None and (yield from has_ended())
                if is_over:
                    return
                if is_over is not None:
                    raise Unreachable(self.url, "the service ended the stream")
                yield Close()
            except (Unreachable, ServiceError) as error:
                yield Close()
                misses += 1
                if misses > PATIENCE or not (yield from self.pause(error, misses)):
                    raise

    def pause(self, error: Unreachable | ServiceError, retry: int) -> Call[bool]:
        """Pause before a retry after `error`. Return False at once if a retry is useless."""
        if is_transient(error):
            yield Pause(_pause(error, retry))
        return is_transient(error)


def is_transient(error: Unreachable | ServiceError) -> bool:
    """Tell whether the same request may get another answer soon."""
    if isinstance(error, ServiceError) and error.name in _LASTING:
        return False
    return isinstance(error, Unreachable) or error.status in _TRANSIENT or error.name == "idempotency-in-flight"


def read_body(reply: Reply, type: type[T]) -> T:
    """Return the reply's body as a value of `type`. Raises UnexpectedReply."""
    return decode(reply.content, type, reply.url)


def decode(text: bytes, type: type[T], url: str) -> T:
    """Return the reply of `url` as a value of `type`. Raises UnexpectedReply."""
    try:
        return msgspec.json.decode(text, type=type)
    except msgspec.DecodeError as error:  # or of a wrong type: most likely another program has the port
        raise UnexpectedReply(url, str(error)) from error


def read_retry_after(reply: Reply) -> timedelta | None:
    """Return what the Retry-After header asks for; a date in it, which the service never sends, is ignored."""
    value = reply.headers.get("Retry-After", "")
    return timedelta(seconds=int(value)) if value.isdigit() and len(value) < 8 else None


def refusal(
    status: int, problem: Problem, request_id: str | None = None, after: timedelta | None = None
) -> ServiceError:
    """Return the exception for a problem of the service. after: what it asks to wait before the next try."""
    return error_class(status)(
        status,
        problem.detail,
        name=problem.type.rpartition("/")[2],
        title=problem.title,
        faults=problem.errors or (),
        request_id=request_id,
        retry_after=after,
    )


def _read_problem(reply: Reply) -> ServiceError:
    try:
        problem = msgspec.json.decode(reply.content, type=Problem)
    except msgspec.DecodeError:  # not the service's: a proxy's page
        problem = Problem(detail=f"{reply.status} {reply.phrase}")
    return refusal(reply.status, problem, reply.headers.get("Request-Id"), read_retry_after(reply))


def _pause(error: Unreachable | ServiceError, retry: int) -> float:
    """Return the seconds before the next try: what the service asks for, else up to 0.5 s, doubled with each retry."""
    if isinstance(error, ServiceError) and error.retry_after is not None:
        return min(error.retry_after.total_seconds(), _MAX_PAUSE) + random.uniform(0, 0.25)  # noqa: S311
    return random.uniform(0.25, 0.5) * float(2 ** min(retry, 4))  # noqa: S311  spreads clients, keeps no secret


def _encode(body: Mapping[str, Any]) -> bytes:
    try:
        return encode_strict(body)
    except NotJson as error:
        raise ValueError(f"the request is not sent, for {place_of_fault(body)}: {error}") from None


def _headers(given: Mapping[str, str] | None, *, wait: timedelta, has_body: bool, has_lines: bool) -> dict[str, str]:
    headers = dict(given or {})
    if wait:
        headers["Prefer"] = f"wait={math.ceil(wait.total_seconds())}"
    if has_body:
        headers["Content-Type"] = "application/json"
    elif has_lines:
        headers["Content-Type"] = "application/jsonl"
    return headers


def _query(members: Mapping[str, Any] | None) -> str:
    """Return the query of an address: true and false in small letters, sequences as one text with commas."""
    given = {name: _as_text(value) for name, value in (members or {}).items() if value is not None}
    return f"?{urlencode(given)}" if given else ""


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value)


def _has_port(parts: SplitResult) -> bool:
    """Tell whether the URL has a valid port, or none."""
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False
