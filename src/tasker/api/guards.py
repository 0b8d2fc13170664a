"""The guards: checks of every request's head before routing, in one pass, the same for every path.

Allow-lists only, and deny by default: without a valid Host, or without a valid key where one is needed, a request
reaches nothing but auth.PUBLIC_PATHS. Scopes are checked later, where the operation is known.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from time import perf_counter
from typing import NamedTuple, Protocol

import structlog

from tasker.api.auth import CHALLENGE
from tasker.api.bodies import log_body_fault
from tasker.api.problems import CLOSE, Refused, body_too_large, cut_off, problem_reply
from tasker.api.replies import ASGIApp, ClientGone, Head, Header, Receive, Reply, Scope, Send, send_reply
from tasker.errors import RequestError
from tasker.metrics import Metrics

MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 * 1024
MAX_URI_BYTES = 8 * 1024
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_ONCE = frozenset(
    b"host authorization origin sec-fetch-site content-type content-length content-encoding transfer-encoding"
    b" idempotency-key request-id last-event-id cookie".split()
)
_LISTS = frozenset({b"accept", b"accept-encoding", b"prefer", b"if-none-match", b"traceparent"})
_READ = _ONCE | _LISTS
_MAX_KNOWN_HOSTS = 64
_REPEATED = {b"host": "bad-host", b"authorization": "unauthorized"}
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_HOST = re.compile(rb"(\[[0-9a-f:.]+\]|[^\[\]:@/\s]+)(?::[0-9]{1,5})?")
_JSON_TYPE = re.compile(rb'\s*application/json\s*(?:;\s*charset\s*=\s*"?utf-?8"?\s*)?;?\s*', re.IGNORECASE)

log = structlog.get_logger("tasker.api")


class Body(NamedTuple):
    """A kind of body: its media types, its limit in bytes, and the name of the setting for that limit."""

    medias: tuple[bytes, ...]
    max_size: int
    setting: str


class Rules(NamedTuple):
    """The limits that the guards enforce. `max_body` is in bytes; bodies: the kinds besides JSON, by path.

    form: the kind besides JSON of every other path, None for none.
    """

    allowed_hosts: frozenset[bytes]
    max_body: int
    bodies: Mapping[str, Body] = {}
    form: Body | None = None


class Admission(Protocol):
    """Identifies the caller."""

    async def admit(self, path: str, head: Head) -> None:
        """Set the caller in `head`. Raises Refused, Unavailable."""


def show_problem(error: RequestError, scope: Scope) -> Reply:
    """Return an error as a problem."""
    return problem_reply(error, scope["tasker"].request_id)


class Guard:
    """ASGI: passes valid requests to `app`, and turns refusals and failures into problems, as `show` shows them."""

    def __init__(
        self,
        app: ASGIApp,
        rules: Rules,
        gate: Admission,
        metrics: Metrics,
        show: Callable[[RequestError, Scope], Reply] = show_problem,
    ) -> None:
        self._app = app
        self._rules = rules
        self._gate = gate
        self._metrics = metrics
        self._show = show
        self._known_hosts: set[bytes] = set()
        self._prefix = os.urandom(6).hex().encode()
        self._number = count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._no_request(scope, receive, send)
        started = perf_counter()
        head = scope["tasker"] = Head(scope["method"])
        try:
            self._check(scope, head)
            head.address = client_address(scope)
            await self._gate.admit(scope["path"], head)
            if head.method not in SAFE_METHODS:
                _check_origin(head.headers)
                _check_body(head.headers, self._rules.max_body, self._rules.bodies.get(scope["path"], self._rules.form))
            await self._app(scope, receive, send)
        except RequestError as error:
            log_body_fault(error, head)
            if head.status:  # in the middle of a stream: its client reconnects, and gets the problem then
                log.warning("stream.cut_off", request_id=head.request_id.decode(), reason=error.detail)
                return await send({"type": "http.response.body", "body": b""})
            await send_reply(send, head, self._show(error, scope))
        except ClientGone:
            if not head.status:
                # A client that has disconnected does not read it. One that broke off its body still does, and without a
                # reply of ours the server would send plain text.
                await send_reply(send, head, self._show(cut_off(), scope))
            head.status = 499  # nginx's status for it
        except Exception:  # any bug: the client gets the Request-Id, the log the rest
            log.exception("request failed", request_id=head.request_id.decode(), method=head.method, path=scope["path"])
            if head.status:
                raise
            fault = RequestError("Tasker has a fault; its log says more", name="internal")
            await send_reply(send, head, self._show(fault, scope))
        finally:
            self._metrics.request_ended(head.operation, head.status, perf_counter() - started)

    async def _no_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on the server's start and stop; refuse WebSockets."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    def _check(self, scope: Scope, head: Head) -> None:
        """Read the head and refuse what the rules forbid, the clearest attacks first."""
        oversized = _read_headers(scope["headers"], head)
        given = head.headers.get(b"request-id")
        if given is None or not _REQUEST_ID.fullmatch(given):
            given = b"%b-%x" % (self._prefix, next(self._number))
        head.request_id = given
        if oversized:
            detail = f"expected at most {MAX_HEADERS} headers and {MAX_HEADER_BYTES:,} bytes of them"
            raise Refused("headers-too-large", detail, CLOSE)
        if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_URI_BYTES:
            raise Refused("uri-too-long", f"expected at most {MAX_URI_BYTES:,} bytes of path and query", CLOSE)
        if head.repeated is not None:
            raise _refuse_repeated(head.repeated)
        coding = head.headers.get(b"transfer-encoding")
        if coding is not None and coding.strip().lower() != b"chunked":
            got = coding[:100].decode("latin-1")
            raise Refused("bad-request", f"expected Transfer-Encoding: chunked and no other coding, got {got!r}", CLOSE)
        self._check_host(head.headers.get(b"host", b""))

    def _check_host(self, host: bytes) -> None:
        if host in self._known_hosts:
            return
        found = _HOST.fullmatch(host.lower())
        if found is None:
            raise Refused("bad-host", "expected one Host header with a host name or address", CLOSE)
        if found[1] not in self._rules.allowed_hosts:
            name = host[:100].decode("latin-1")
            raise Refused("misdirected", f"{name!r} is not served here; TASKER_ALLOWED_HOSTS names what is")
        if len(self._known_hosts) < _MAX_KNOWN_HOSTS:
            self._known_hosts.add(host)


def client_address(scope: Scope) -> str:
    """Return the address of the connection; headers about it are not trusted."""
    client = scope.get("client")
    return client[0] if client else ""


def _read_headers(headers: Iterable[Header], head: Head) -> bool:
    """Keep the headers that are used here; tell whether there are too many or they are too large."""
    size = number = 0
    kept = head.headers
    for name, value in headers:
        number += 1
        size += len(name) + len(value)
        if name in _READ:
            if name not in kept:
                kept[name] = value
            elif name in _LISTS:
                kept[name] += b"," + value
            else:
                head.repeated = head.repeated or name
    return number > MAX_HEADERS or size > MAX_HEADER_BYTES


def _refuse_repeated(name: bytes) -> Refused:
    detail = f"expected one {name.decode()} header, got more"
    problem = _REPEATED.get(name, "bad-request")
    return Refused(problem, detail, CHALLENGE if problem == "unauthorized" else CLOSE)


def _check_origin(headers: dict[bytes, bytes]) -> None:
    """Refuse requests that a page of another origin makes a browser send.

    Browsers set both headers themselves: Sec-Fetch-Site (W3C Fetch Metadata) and Origin (RFC 6454).
    """
    site = headers.get(b"sec-fetch-site")
    if site is not None and site not in (b"same-origin", b"none"):
        raise Refused("cross-origin", f"Sec-Fetch-Site is {site[:40].decode('latin-1')!r}")
    origin = headers.get(b"origin")
    if origin is not None and origin.lower().partition(b"://")[2] != headers[b"host"].lower():
        raise Refused("cross-origin", f"the page's origin {origin[:100].decode('latin-1')!r} is not this service")


def _check_body(headers: dict[bytes, bytes], max_body: int, other: Body | None) -> None:
    """Refuse a body by its headers; a request without a body needs no media type."""
    length, kind = headers.get(b"content-length"), headers.get(b"content-type", b"")
    is_other = other is not None and _media_of(kind) in other.medias
    setting = "TASKER_MAX_BODY"
    if other is not None and is_other:
        max_body, setting = other.max_size, other.setting
    size = 0
    if length is not None:
        if not length.isdigit():
            raise Refused("bad-request", "expected a number as Content-Length", CLOSE)
        size = int(length) if len(length) <= 15 else max_body + 1
        if size > max_body:
            raise body_too_large(max_body, setting)
    if size == 0 and b"transfer-encoding" not in headers:
        return
    coding = headers.get(b"content-encoding")
    if coding is not None and coding.lower() != b"identity":
        raise Refused("unsupported-encoding", "expected a body without Content-Encoding", CLOSE)
    if kind != b"application/json" and not is_other and not _JSON_TYPE.fullmatch(kind):
        got = kind[:100].decode("latin-1") or "none"
        wanted = b" or ".join((b"application/json", *(other.medias if other else ()))).decode()
        raise Refused("unsupported-media-type", f"expected Content-Type: {wanted} (UTF-8), got {got}", CLOSE)


def _media_of(kind: bytes) -> bytes:
    """Return the media type of a Content-Type in UTF-8, else b""."""
    media, _, parameters = kind.lower().partition(b";")
    return media.strip() if parameters.replace(b'"', b"").strip() in (b"", b"charset=utf-8") else b""
