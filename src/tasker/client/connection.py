"""One request at a time to the service: retries, authentication, and problems turned into exceptions."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol, TypeVar
from urllib.parse import SplitResult, urlsplit

import httpx2
import msgspec

from tasker.client.errors import ServiceError, UnexpectedReply, Unreachable, error_class
from tasker.model import JsonObject
from tasker.validation.encoding import NotJson, encode_strict, place_of_fault
from tasker.wire.problems import Problem

_T = TypeVar("_T")


class _Page(Protocol):
    """One page of a list."""

    @property
    def items(self) -> Sequence[Any]: ...

    @property
    def next_cursor(self) -> str | None: ...


_TRANSIENT = {429, 502, 503, 504}
_LASTING = {"budget-exhausted"}
"""Problems with a transient status that last until midnight (UTC): raised at once instead of waited out."""
_MAX_PAUSE = 60.0
_LONGEST_SILENCE = 60.0
"""Seconds; the service sends a heartbeat on a stream every fifteen."""
PATIENCE = 6
"""Retries while waiting: a service that restarts is back within half a minute."""
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Connection:
    """Sends requests to one service. `timeout` bounds each step of a request (connect, send, read), in seconds.

    A request that gets no answer, or 429, 502, 503 or 504, is sent again up to `retries` times, after a random pause
    that doubles, or after what Retry-After says. Callers pass only requests that may be repeated.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        timeout: float,
        retries: int,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or not _has_port(parts):
            raise ValueError(f"expected a URL with http:// or https://, got {url!r}")
        self.url = url.rstrip("/")
        self._retries = retries
        self._timeout = timeout
        self._sleep = sleep
        self._http = httpx2.Client(
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=timeout,
            trust_env=parts.hostname not in _LOOPBACK,  # no proxy reaches this machine's own services
            verify=parts.scheme == "https",  # spares plain HTTP the loading of certificates; redirects are not followed
        )

    def close(self) -> None:
        self._http.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        body: JsonObject | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        wait: timedelta = timedelta(0),
        retries: int | None = None,
    ) -> httpx2.Response:
        """Send a request, with retries, and return the reply if its status is below 300.

        `wait` is how long the service may hold the reply back. Raises Unreachable, ServiceError, and ValueError for a
        body that JSON cannot hold; then nothing is sent.
        """
        request = self._http.build_request(
            method,
            self.url + path,
            content=None if body is None else _encode(body),
            params=dict(query) if query else None,
            headers=_headers(headers, wait=wait, has_body=body is not None),
            timeout=httpx2.Timeout(self._timeout, read=self._timeout + wait.total_seconds()),
        )
        limit = self._retries if retries is None else retries
        for retry in itertools.count():
            try:
                return self._exchange(request)
            except (Unreachable, ServiceError) as error:
                if retry >= limit or not self.pause(error, retry):
                    raise
        raise AssertionError("endless")

    def read(self, method: str, path: str, type: type[_T], **options: Any) -> _T:
        """Send a request as `send` does, and return the body of the reply as a value of `type`.

        Raises UnexpectedReply, and as `send`.
        """
        return read_body(self.send(method, path, **options), type)

    def read_list(self, path: str, page: type[_Page], query: Mapping[str, Any], limit: int | None) -> Iterator[Any]:
        """Yield the items of a list, at most `limit`; pages are read as they are needed. Raises as `read`."""
        return itertools.islice(self._read_pages(path, page, dict(query)), limit)

    def _read_pages(self, path: str, page: type[_Page], query: dict[str, Any]) -> Iterator[Any]:
        while True:
            found = self.read("GET", path, page, query=query)
            yield from found.items
            if found.next_cursor is None:
                return
            query["cursor"] = found.next_cursor

    def stream(self, path: str, *, headers: Mapping[str, str]) -> Iterator[bytes]:
        """Yield the data of Server-Sent Events as they come, until the service ends the stream. Raises as `send`.

        A silence of a minute, four missed heartbeats, counts as a broken connection.
        """
        request = self._http.build_request(
            "GET",
            self.url + path,
            headers={"Accept": "text/event-stream", **headers},
            timeout=httpx2.Timeout(self._timeout, read=max(self._timeout, _LONGEST_SILENCE)),
        )
        try:
            reply = self._http.send(request, stream=True)
            with contextlib.closing(reply):
                if reply.status_code >= 300:
                    reply.read()
                    raise _read_problem(reply)
                for line in reply.iter_lines():
                    if line.startswith("data: "):
                        yield line.removeprefix("data: ").encode()
        except httpx2.RequestError as error:
            raise Unreachable(self.url, str(error) or type(error).__name__) from error

    def follow(
        self, path: str, read: Callable[[bytes], tuple[_T, str]], *, last_id: str, has_ended: Callable[[], bool]
    ) -> Iterator[_T]:
        """Yield the events of a stream, each once; reconnect after the last one until `has_ended`. Raises as `send`.

        read: decodes an event and returns it with its id. last_id: begin after the event with this id.
        """
        misses = 0
        while True:
            try:
                for text in self.stream(path, headers={"Last-Event-ID": last_id} if last_id else {}):
                    event, event_id = read(text)
                    last_id, misses = event_id or last_id, 0
                    yield event
                if has_ended():
                    return
                raise Unreachable(self.url, "the service ended the stream")
            except (Unreachable, ServiceError) as error:
                misses += 1
                if misses > PATIENCE or not self.pause(error, misses):
                    raise

    def pause(self, error: Unreachable | ServiceError, retry: int) -> bool:
        """Pause before a retry after `error`. Return False at once if a retry is useless."""
        if _is_transient(error):
            self._sleep(_pause(error, retry))
        return _is_transient(error)

    def _exchange(self, request: httpx2.Request) -> httpx2.Response:
        try:
            reply = self._http.send(request)
        except httpx2.RequestError as error:
            raise Unreachable(self.url, str(error) or type(error).__name__) from error
        if reply.status_code >= 300:
            raise _read_problem(reply)
        return reply


def _encode(body: JsonObject) -> bytes:
    try:
        return encode_strict(body)
    except NotJson as error:
        raise ValueError(f"the request is not sent, for {place_of_fault(body)}: {error}") from None


def _headers(given: Mapping[str, str] | None, *, wait: timedelta, has_body: bool) -> dict[str, str]:
    headers = dict(given or {})
    if wait:
        headers["Prefer"] = f"wait={math.ceil(wait.total_seconds())}"
    if has_body:
        headers["Content-Type"] = "application/json"
    return headers


def _is_transient(error: Unreachable | ServiceError) -> bool:
    if isinstance(error, ServiceError) and error.name in _LASTING:
        return False
    return isinstance(error, Unreachable) or error.status in _TRANSIENT or error.name == "idempotency-in-flight"


def _pause(error: Unreachable | ServiceError, retry: int) -> float:
    """Return the seconds before the next try: what the service asks for, else up to 0.5 s, doubled with each retry."""
    if isinstance(error, ServiceError) and error.retry_after is not None:
        return min(error.retry_after.total_seconds(), _MAX_PAUSE) + random.uniform(0, 0.25)  # noqa: S311
    return random.uniform(0.25, 0.5) * float(2 ** min(retry, 4))  # noqa: S311  spreads clients, keeps no secret


def _read_problem(reply: httpx2.Response) -> ServiceError:
    try:
        problem = msgspec.json.decode(reply.content, type=Problem)
    except msgspec.DecodeError:  # not the service's: a proxy's page
        problem = Problem(detail=f"{reply.status_code} {reply.reason_phrase}")
    return error_class(reply.status_code)(
        reply.status_code,
        problem.detail,
        name=problem.type.rpartition("/")[2],
        title=problem.title,
        faults=problem.errors or (),
        request_id=reply.headers.get("Request-Id"),
        retry_after=read_retry_after(reply),
    )


def _has_port(parts: SplitResult) -> bool:
    """Tell whether the URL has a valid port, or none."""
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


def read_body(reply: httpx2.Response, type: type[_T]) -> _T:
    """Return the reply's body as a value of `type`. Raises UnexpectedReply."""
    return decode(reply.content, type, str(reply.request.url))


def decode(text: bytes, type: type[_T], url: str) -> _T:
    """Return the reply of `url` as a value of `type`. Raises UnexpectedReply."""
    try:
        return msgspec.json.decode(text, type=type)
    except msgspec.DecodeError as error:  # or of a wrong type: most likely another program has the port
        raise UnexpectedReply(url, str(error)) from error


def read_retry_after(reply: httpx2.Response) -> timedelta | None:
    """Return what the Retry-After header asks for; a date in it, which the service never sends, is ignored."""
    value = reply.headers.get("Retry-After", "")
    return timedelta(seconds=int(value)) if value.isdigit() and len(value) < 8 else None
