"""The load generator: HTTP/1.1 over many kept-alive connections, one epoll loop, no pipelining.

Each connection sends its next request when its reply has come. Every reply is read whole and checked.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import repeat

HOST = "127.0.0.1"
_TASK_ID = re.compile(rb'"task_id": ?"([0-9a-f-]{36})"')
_COMPLETED = re.compile(rb'"status": ?"completed"')
OnReply = Callable[[int, bytes, float], None]
"""Called with the HTTP status, the body and the seconds the reply took."""


class LoadError(Exception):
    """The server did not answer as it must."""


def post(path: str, body: bytes, *headers: str, method: str = "POST") -> bytes:
    """Return the bytes of a POST, or of another method, with a JSON body."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def get(path: str, *headers: str) -> bytes:
    """Return the bytes of a GET."""
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {HOST}", *headers, "", ""]).encode()


def _reply_in(data: bytes) -> tuple[int, bytes, bool] | None:
    """Return status, body and whether the server closes, or None while the reply is incomplete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[:end].lower()
    at = head.find(b"content-length:")
    if at < 0:
        raise LoadError(f"a reply without Content-Length: {data[:200]!r}")
    line_end = head.find(b"\r\n", at)
    length = int(head[at + 15 : line_end if line_end >= 0 else end])
    if len(data) < end + 4 + length:
        return None
    return int(head[9:12]), data[end + 4 :], b"connection: close" in head


class _Connection:
    """One socket with at most one request under way."""

    __slots__ = ("buffer", "port", "request", "sent_at", "socket", "source")

    def __init__(self, port: int, source: str = "") -> None:
        self.port = port
        self.source = source
        self.buffer = b""
        self.request = b""
        self.sent_at = 0.0
        self.socket = self._connect()

    def _connect(self) -> socket.socket:
        source = (self.source, 0) if self.source else None
        connection = socket.create_connection((HOST, self.port), timeout=10, source_address=source)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def reconnect(self) -> None:
        self.socket.close()
        self.socket = self._connect()
        self.buffer = b""

    def send(self, request: bytes) -> None:
        self.request = request
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)


class Client:
    """A fixed number of connections to one port; a context manager."""

    def __init__(self, port: int, connections: int, sources: int = 1) -> None:
        self._poll = select.epoll()
        self._by_fd: dict[int, _Connection] = {}
        self._open = 0
        self.resets = 0
        for number in range(connections):
            self._register(_Connection(port, f"127.0.0.{2 + number % sources}" if sources > 1 else ""))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._by_fd.values():
            connection.socket.close()
        self._poll.close()

    def _register(self, connection: _Connection) -> None:
        self._by_fd[connection.socket.fileno()] = connection
        self._poll.register(connection.socket, select.EPOLLIN)

    def _renew(self, connection: _Connection) -> None:
        self._by_fd.pop(connection.socket.fileno())
        connection.reconnect()
        self._register(connection)

    def exchange(self, requests: Iterable[bytes], on_reply: OnReply, *, until: float, patience: float = 15) -> None:
        """Send requests until they end or perf_counter() reaches `until`; return when every reply has come.

        A connection lost under a request counts in `resets` and the request is not repeated. Raises LoadError when
        nothing comes for `patience` seconds.
        """
        source = iter(requests)
        self.begin(source)
        self.finish(source, on_reply, until=until, patience=patience)

    def begin(self, source: Iterator[bytes]) -> None:
        """Send one request on each connection and do not wait."""
        self._open = sum(self._send_next(connection, source) for connection in list(self._by_fd.values()))

    def finish(self, source: Iterator[bytes], on_reply: OnReply, *, until: float, patience: float = 15) -> None:
        """Take the replies to `begin`; go on sending as in `exchange`."""
        while self._open:
            ready = self._poll.poll(patience)
            if not ready:
                raise LoadError(f"{self._open} requests had no reply for {patience:g} s")
            for fd, _ in ready:
                connection = self._by_fd[fd]
                if not self._receive(connection, on_reply):
                    continue
                self._open -= 1
                if time.perf_counter() < until:
                    self._open += self._send_next(connection, source)

    def _send_next(self, connection: _Connection, source: Iterator[bytes]) -> int:
        request = next(source, None)
        if request is None:
            return 0
        connection.send(request)
        return 1

    def _receive(self, connection: _Connection, on_reply: OnReply) -> bool:
        """Read what has come; return whether the request is over, with or without a reply."""
        data = b""
        with contextlib.suppress(ConnectionError):
            data = connection.socket.recv(65536)
        if not data:
            if connection.request:
                self.resets += 1
            over = bool(connection.request)
            connection.request = b""
            self._renew(connection)
            return over
        if connection.buffer:
            data = connection.buffer + data
        reply = _reply_in(data)
        if reply is None:
            connection.buffer = data
            return False
        status, body, closes = reply
        on_reply(status, body, time.perf_counter() - connection.sent_at)
        connection.buffer = connection.request = b""
        if closes:
            self._renew(connection)
        return True


def fetch(port: int, path: str, *, patience: float = 15) -> bytes:
    """GET `path` once and return the body. Raises LoadError for another status than 200, or for no answer."""
    bodies: list[bytes] = []

    def on_reply(status: int, body: bytes, _took: float) -> None:
        if status != 200:
            raise LoadError(f"GET {path} gave {status} {body[:200]!r}")
        bodies.append(body)

    with Client(port, 1) as client:
        client.exchange([get(path)], on_reply, until=float("inf"), patience=patience)
    return bodies[0]


@dataclass
class Load:
    """The outcome of a burst of submissions. `rate`: accepted tasks a second. Latencies are in seconds, in order."""

    rate: float = 0.0
    started: float = 0.0
    task_ids: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


def submit_for(port: int, request: bytes, *, seconds: float, connections: int = 64, limit: int | None = None) -> Load:
    """Send `request` over and over; every reply must be a 202 (or 200) with a task_id, others count as errors."""
    load = Load()
    in_time = 0

    def on_reply(status: int, body: bytes, took: float) -> None:
        nonlocal in_time
        found = _TASK_ID.search(body)
        if status not in (202, 200) or found is None:
            load.errors[f"{status} {body[:120].decode(errors='replace')}"] += 1
            return
        load.task_ids.append(found[1].decode())
        load.latencies.append(took)
        in_time += time.perf_counter() <= until

    with Client(port, connections) as client:
        load.started = time.perf_counter()
        until = load.started + seconds
        client.exchange(repeat(request) if limit is None else repeat(request, limit), on_reply, until=until)
        if client.resets:
            load.errors["connection lost"] += client.resets
    load.rate = in_time / min(seconds, time.perf_counter() - load.started)
    load.latencies.sort()
    return load


def find_open(port: int, task_ids: Iterable[str], *, connections: int = 64) -> set[str]:
    """Read each task; return those that are not completed. Raises LoadError for a reply that is not a task."""
    left = set(task_ids)

    def on_reply(status: int, body: bytes, _took: float) -> None:
        found = _TASK_ID.search(body)
        if status != 200 or found is None:
            raise LoadError(f"reading a task gave {status} {body[:200]!r}")
        if _COMPLETED.search(body):
            left.discard(found[1].decode())

    with Client(port, min(connections, len(left) or 1)) as client:
        client.exchange([get(f"/task/{task_id}") for task_id in left], on_reply, until=float("inf"))
        if client.resets:
            raise LoadError(f"{client.resets} connections lost while reading tasks")
    return left


def wait_completed(port: int, task_ids: list[str], *, timeout: float) -> float:
    """Wait until every task is completed; return the perf_counter() of the last one.

    Polls only the newest tasks, so that reading does not disturb the measure; then reads every task
    once. If that finds an open one after all, the time includes the slow reading. Raises LoadError at `timeout`.
    """
    deadline = time.perf_counter() + timeout
    left = set(task_ids[-1:])
    for watched in (task_ids[-1:], task_ids[-200:]):
        left = find_open(port, watched, connections=1)
        while left:
            _check(deadline, left)
            time.sleep(0.005)
            left = find_open(port, left, connections=1)
    finished = time.perf_counter()
    left = find_open(port, task_ids)
    while left:
        _check(deadline, left)
        time.sleep(0.02)
        left = find_open(port, left)
        finished = time.perf_counter()
    return finished


def _check(deadline: float, left: set[str]) -> None:
    if time.perf_counter() > deadline:
        raise LoadError(f"{len(left)} accepted tasks are not completed, such as {min(left)}")
