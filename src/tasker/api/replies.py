"""Replies: a status, headers and a body that is encoded once; and how they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from datetime import datetime, timedelta
from hashlib import blake2b
from math import ceil
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from tasker.api.buffers import PIECE, Buffers
from tasker.model import Attempt, Status, Task
from tasker.model.keys import NOBODY, Caller
from tasker.rules import waiting

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]
_T = TypeVar("_T", Task, Attempt)

encode = msgspec.json.Encoder().encode
encode_lines = msgspec.json.Encoder().encode_lines

_NOSNIFF = (b"x-content-type-options", b"nosniff")
_NO_STORE = (b"cache-control", b"no-store")
JSON_HEADERS: tuple[Header, ...] = ((b"content-type", b"application/json"), _NO_STORE, _NOSNIFF)
MAX_RETRY_AFTER = 3600


class ClientGone(Exception):
    """The client has closed the connection."""


class Reply(NamedTuple):
    """A whole reply."""

    status: int
    body: bytes = b""
    headers: tuple[Header, ...] = JSON_HEADERS


class Chunks(Protocol):
    """The parts of a stream; an async generator is one."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __anext__(self) -> bytes: ...

    async def aclose(self) -> None: ...


class Stream(NamedTuple):
    """A reply that is sent in parts as they come.

    watched: whether to notice that the client disconnects; not possible while its body is still being received.
    """

    media: str
    chunks: Chunks
    headers: tuple[Header, ...] = ()
    watched: bool = True


class Head:
    """The head of one request as the guards read it, and what is learned about it until its end.

    address: of the connection. limits: the headers about the key's rate. is_welcome: whether the key is still valid, in
    the middle of a stream. audit_target: what is acted on, for the audit log, if the path does not name it.
    """

    __slots__ = (
        "address",
        "audit_target",
        "caller",
        "headers",
        "is_welcome",
        "limits",
        "method",
        "operation",
        "repeated",
        "request_id",
        "status",
    )

    def __init__(self, method: str) -> None:
        self.method = method
        self.request_id = b""
        self.headers: dict[bytes, bytes] = {}
        self.repeated: bytes | None = None
        self.address = ""
        self.audit_target = ""
        self.caller = NOBODY
        self.is_welcome: Callable[[], bool] = _always
        self.limits: tuple[Header, ...] = ()
        self.operation = "none"
        self.status = 0


def _always() -> bool:
    return True


async def send_reply(send: Send, head: Head, reply: Reply, unread: Buffers | None = None) -> None:
    """Send `reply`, without its body for HEAD. unread: counts a large reply until the client has read it."""
    head.status = reply.status
    headers = [*reply.headers, *head.limits, (b"request-id", head.request_id)]
    body = reply.body
    is_large = unread is not None and len(body) > PIECE
    if head.method == "HEAD" or is_large:
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if head.method == "HEAD":
        body = b""
    elif unread is not None and is_large:
        await _send_pieces(send, body, unread)
        body = b""
    await send({"type": "http.response.body", "body": body})


async def _send_pieces(send: Send, body: bytes, unread: Buffers) -> None:
    """Send a part of a reply as fast as the client reads it: the server takes a piece once the last one is sent."""
    if len(body) <= PIECE:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        return
    held = unread.open()
    held.add(len(body))
    view = memoryview(body)
    try:
        for start in range(0, len(body), PIECE):
            piece = bytes(view[start : start + PIECE])
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    finally:
        held.close()


async def send_stream(send: Send, receive: Receive, head: Head, stream: Stream, unread: Buffers) -> None:
    """Send `stream` until it ends. Raises ClientGone if the client disconnects. unread: counts what it has not read."""
    head.status = 200
    headers = [
        (b"content-type", stream.media.encode()),
        _NO_STORE,
        _NOSNIFF,
        (b"x-accel-buffering", b"no"),  # else nginx would hold small parts back
        *stream.headers,
        *head.limits,
        (b"request-id", head.request_id),
    ]
    loop = asyncio.get_running_loop()
    leaving: asyncio.Future[None] = asyncio.ensure_future(gone(receive)) if stream.watched else loop.create_future()
    try:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while head.method != "HEAD" and (chunk := await _next(stream.chunks, leaving)) is not None:
            if not head.is_welcome():
                break  # the client reconnects, and gets the problem then
            await _send_pieces(send, chunk, unread)
            del chunk  # do not hold it while waiting for the next one
            if unread.is_full:
                await unread.room()
        await send({"type": "http.response.body", "body": b""})
    finally:
        leaving.cancel()
        await stream.chunks.aclose()


async def _next(chunks: Chunks, leaving: asyncio.Future[None]) -> bytes | None:
    """Return the next chunk, None at the end. Raises ClientGone if the client disconnects first."""
    coming = asyncio.ensure_future(anext(chunks, None))
    try:
        await asyncio.wait((coming, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not coming.done():
            raise ClientGone
        return coming.result()
    finally:
        if not coming.done():
            coming.cancel()
            await asyncio.wait([coming])


async def gone(receive: Receive) -> None:
    """Return when the client has disconnected; ignore what it still sends."""
    while (await receive())["type"] != "http.disconnect":
        pass


def json_reply(value: Any, status: int = 200, *headers: Header) -> Reply:
    """Return a reply that carries `value` as JSON."""
    return Reply(status, encode(value), JSON_HEADERS + headers)


def text_reply(body: bytes, content_type: str, *headers: Header, cache: bytes = b"no-store") -> Reply:
    """Return a 200 with another media type than JSON."""
    own = ((b"content-type", content_type.encode()), (b"cache-control", cache), _NOSNIFF)
    return Reply(200, body, own + headers)


def empty_reply(status: int, *headers: Header) -> Reply:
    """Return a reply without a body."""
    return Reply(status, b"", (_NO_STORE, _NOSNIFF, *headers))


def encode_task(
    task: Task,
    *,
    tracebacks: bool,
    attempts: list[Attempt] | None = None,
    parts: bytes = b"",
    path: bytes | None = None,
) -> bytes:
    """Return a Task as JSON: the stored one and its links, with its attempts if given.

    For callers who may read it; `receipts.show_task` serves every caller. The links are added as text, which saves
    copying the whole Task into another struct. parts: further members, as JSON with a comma before each. path: its
    `path_of`, if known.
    """
    if not tracebacks:
        task = _without_traceback(task)
    more = b""
    if attempts is not None:
        shown = attempts if tracebacks else [_without_traceback(attempt) for attempt in attempts]
        more = b',"attempts":' + encode(shown)
    path = path or path_of(task)
    links = links_of(task, path)
    if task.children is not None or task.input is not None or task.parent_id is not None:
        links = links[:-1] + _family_links(task, path)
    return b'%b%b%b,"links":%b}' % (encode(task)[:-1], more, parts, links)


def _family_links(task: Task, path: bytes) -> bytes:
    """Return the links of a task to its family, and to where it gets its answer; without the first brace."""
    links = b""
    if task.parent_id is not None:
        links += b',"parent":"/task/%b"' % encode(task.parent_id)[1:-1]
    if task.children is not None:
        links += b',"children":"/task?parent=%b"' % encode(task.task_id)[1:-1]
    if task.input is not None:
        links += b',"input":"%b/input"' % path
    return links + b"}"


def sees_tracebacks(caller: Caller) -> bool:
    """Tell whether the caller sees tracebacks: an admin, or any caller where no keys are used."""
    return caller.may("admin")


def _without_traceback(item: _T) -> _T:
    if item.error is None or item.error.traceback is None:
        return item
    return msgspec.structs.replace(item, error=msgspec.structs.replace(item.error, traceback=None))


def path_of(task: Task) -> bytes:
    """Return the path of a task."""
    return b"/task/%b" % encode(task.task_id)[1:-1]  # takes a third of the time of str()


def links_of(task: Task, path: bytes) -> bytes:
    """Return the links of a task as JSON: only for what can be done with it now."""
    links = b'{"self":"%b","events":"%b/events","result":"%b/result"' % (path, path, path)
    if not task.status.is_terminal:
        return b'%b,"cancel":"%b/cancel"}' % (links, path)
    if task.status is not Status.COMPLETED:
        return b'%b,"retry":"%b/retry"}' % (links, path)
    return links + b"}"


def make_etag(body: bytes) -> bytes:
    """Return a weak entity tag (RFC 9110, 8.8.3) that changes with anything in `body`."""
    return b'W/"%b"' % blake2b(body, digest_size=12).hexdigest().encode()


def etag_matches(if_none_match: bytes, etag: bytes) -> bool:
    """Tell whether If-None-Match names `etag`, by weak comparison (RFC 9110, 13.1.2)."""
    if if_none_match.strip() == b"*":
        return True
    opaque = etag.removeprefix(b"W/")
    return any(tag.strip().removeprefix(b"W/") == opaque for tag in if_none_match.split(b","))


def retry_after(task: Task, now: datetime) -> tuple[Header, ...]:
    """Return the Retry-After of an open task: whole seconds, at least one; nothing for one that has ended."""
    is_later = task.status is Status.PENDING and waiting.is_later(task, now)
    return retry_in(task, waiting.ask_again_in(task, None, now) if is_later else timedelta(seconds=1))


def retry_in(task: Task, wait: timedelta) -> tuple[Header, ...]:
    """Return the Retry-After of an open task for a known wait; nothing for one that has ended."""
    if task.status.is_terminal:
        return ()
    return ((b"retry-after", seconds_in(wait)),)


def seconds_in(wait: timedelta) -> bytes:
    """Return a Retry-After: whole seconds, at least one."""
    return b"%d" % min(max(ceil(wait.total_seconds()), 1), MAX_RETRY_AFTER)
