"""The HTTP server of a service: Granian in this process, on a socket that is bound already."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import socket
from collections.abc import AsyncIterator

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.net import SocketHolder  # type: ignore[attr-defined]
from granian.server.embed import Server

from tasker.api.replies import ASGIApp
from tasker.errors import PortTaken

_MAX_CONNECTIONS = 20_000
"""Held connections before new ones queue: Granian's default queues clients past about 1,000 open waits."""
_MAX_FILES = 65_536
_BACKLOG = 4096
"""Connections that may wait to be accepted."""
_CONNECTION_BUFFER = 256 * 1024
"""Bytes that the server may buffer of one connection, each way: its own default is over 50 % larger."""
_HEADERS_WITHIN = 10_000
"""Milliseconds that a client has to send the headers of a request."""
_UNREAD_MILLIS = 120_000
"""Milliseconds that a client may leave a reply unread or unacknowledged before its connection is closed."""


def raise_file_limit() -> None:
    """Raise the limit of open files as far as allowed: each connection is one, and the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def settle_memory() -> None:
    """Let the garbage collector ignore what lives as long as the service, and run less often.

    A task makes hundreds of short-lived objects; at Python's defaults the collector took 8 % of a submission's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@contextlib.asynccontextmanager
async def listening(app: ASGIApp, bound: socket.socket | None) -> AsyncIterator[None]:
    """Serve the app on a socket that is bound already, or nowhere if None. Raises PortTaken."""
    if bound is None:
        yield
        return
    _listen(bound)
    host, port = bound.getsockname()[:2]
    server = _Server(bound, app)
    serving = asyncio.create_task(server.serve())
    try:
        await _answering(host, port, serving)
        yield
    finally:
        server.stop()  # type: ignore[no-untyped-call]
        await serving


class _Server(Server):
    """Granian's server on our socket: with its own (SO_REUSEPORT), two services could share one port unnoticed."""

    def __init__(self, listening: socket.socket, app: ASGIApp) -> None:
        super().__init__(
            app,
            interface=Interfaces.ASGINL,
            websockets=False,
            http=HTTPModes.http1,
            backpressure=_MAX_CONNECTIONS,
            log_enabled=False,
            http1_settings=HTTP1Settings(header_read_timeout=_HEADERS_WITHIN, max_buffer_size=_CONNECTION_BUFFER),
        )
        self._listening = listening

    def _init_shared_socket(self) -> None:
        descriptor = self._listening.detach()  # Granian closes it
        self._ssp, self._shd = None, SocketHolder(descriptor, False, _BACKLOG)  # type: ignore[assignment, call-arg]


def _listen(bound: socket.socket) -> None:
    """Begin to accept connections, as the only one on this port. Raises PortTaken."""
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit both
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MILLIS)  # the server has no such limit
    try:
        bound.listen(_BACKLOG)
    except OSError as error:
        host, port = bound.getsockname()[:2]
        raise PortTaken(f"TASKER_PORT: cannot listen on {host} at port {port}: {error.strerror}") from error


async def _answering(host: str, port: int, serving: asyncio.Task[None]) -> None:
    """Return once the server answers; raise what ended the server instead."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  these mean every address
    reader, writer = await asyncio.open_connection(reachable, port)
    try:
        writer.write(b"?\r\n\r\n")  # no HTTP: the server answers by itself, without the app
        answered = asyncio.create_task(reader.read(1))
        await asyncio.wait([serving, answered], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
            raise RuntimeError("the HTTP server has ended before it answered")
    finally:
        writer.close()
