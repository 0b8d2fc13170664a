"""POST /batch compared with single submissions: speed and memory."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from bench import fill, load
from bench.measures import SUM, Plan, Taken, burst, ratio
from bench.report import Row
from bench.servers import TASKER, Server, running

SUBMISSIONS = 100_000
LINE = b'{"type":"sum","params":[4,2]}\n'
MEBIBYTE = 1024 * 1024


@dataclass
class _Batches:
    """Rounds of batches: accepted submissions a second, seconds to the first reply, growth of the server in MB."""

    rates: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    grown: list[float] = field(default_factory=list)


def batch(plan: Plan) -> list[Row]:
    """One request with many submissions, while their tasks run at the same time; replies are read as they come."""
    singles, batches, unread = Taken(), _Batches(), _Batches()
    for _ in range(plan.rounds):
        with running(TASKER, plan.disk) as server:
            burst(server, SUM, plan.seconds, singles)
            _submit(server, batches, reads_early=True)
            _submit(server, unread, reads_early=False)
    grown = max(batches.grown + unread.grown)
    spread = f"{min(batches.rates):,.0f} to {max(batches.rates):,.0f} and {singles.submit_rate:,.0f}/s"
    return [
        Row(f"/batch of {SUBMISSIONS:,} / single submissions", ratio(batches.rates, singles.submitted), bar=5,
            detail=spread),
        Row("  the replies read when all is sent", ratio(unread.rates, singles.submitted)),
        Row("  memory over idle", grown, "MB", 150, "at most"),
        Row("  first reply after", statistics.median(batches.firsts) * 1000, "ms"),
    ]  # fmt: skip


def _submit(server: Server, taken: _Batches, *, reads_early: bool) -> None:
    """Submit one batch, check that every submission is accepted, and wait until all have run."""
    idle = server.rss()
    with _watched(server.rss) as most, socket.create_connection((load.HOST, server.port), timeout=120) as connection:
        body = LINE * SUBMISSIONS
        head = f"POST /batch HTTP/1.1\r\nHost: {load.HOST}\r\nContent-Type: application/jsonl\r\n"
        start = time.perf_counter()
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        sending = threading.Thread(target=connection.sendall, args=(body,))
        sending.start()
        if not reads_early:
            sending.join()
        reply, first = _read(connection)
        took = time.perf_counter() - start
        sending.join()
    accepted = reply.count(b'"status":202')
    if accepted != SUBMISSIONS or f'"accepted":{SUBMISSIONS},'.encode() not in reply[-200:]:
        raise load.LoadError(f"{accepted:,} of {SUBMISSIONS:,} accepted: {reply[:300]!r} ... {reply[-300:]!r}")
    taken.rates.append(SUBMISSIONS / took)
    taken.firsts.append(first - start)
    taken.grown.append((most[0] - idle) / MEBIBYTE)
    for status in ("pending", "running"):
        while fill.has_task(server.port, status):
            time.sleep(0.05)


def _read(connection: socket.socket) -> tuple[bytes, float]:
    """Return the whole reply, and when its first lines came."""
    reply, first = bytearray(), 0.0
    while not reply.endswith(b"\r\n0\r\n\r\n"):
        part = connection.recv(MEBIBYTE)
        if not part:
            break
        reply += part
        first = first or (time.perf_counter() if b'"index":0' in reply else 0.0)
    return bytes(reply), first


@contextmanager
def _watched(measure: Callable[[], int]) -> Iterator[list[int]]:
    """Yield a list whose only number is the largest that `measure` has returned so far."""
    most, done = [measure()], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            with suppress(OSError):
                most[0] = max(most[0], measure())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield most
    finally:
        done.set()
        watching.join()


MEASURES = {"batch": batch}
