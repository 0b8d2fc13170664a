"""Live pages of the dashboard: what many of them cost beside a load, and when they show a change."""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from bench import load
from bench.measures import NOOP, Plan, percentile
from bench.report import Row
from bench.servers import TASKER, Server, running
from tasker.clock import SystemClock
from tasker.model import new_task_id
from tasker.web.queries import pack_ids

_PAGES = 100
_RATE = 1000
"""Tasks a second of the load."""
_CHANGES = 50
"""Tasks in sight of the lists that end meanwhile, at an even pace."""
_ROUNDS = 3
_MOST_CPU, _MOST_DELAY = 0.05, 500
_ENDED = re.compile(rb'<tr id="t-([0-9a-f-]{36})" data-status="completed"')


class _Used(NamedTuple):
    """The processor time of the server for one load, and how long that took, in seconds."""

    cpu: float
    took: float


@dataclass
class _Watched:
    """What open pages got.

    connected: pages whose stream has begun. is_over: tells them to close. seen: when a page, by number, first showed
    that a task had ended, in seconds since 1970.
    """

    bytes: int = 0
    messages: int = 0
    connected: int = 0
    is_over: bool = False
    seen: dict[tuple[int, str], float] = field(default_factory=dict)


def watchers(plan: Plan) -> list[Row]:
    """100 open pages, half overviews, half lists, at 1,000 tasks/s: processor time over the same load alone."""
    seconds = 2 * plan.seconds
    alone: list[_Used] = []
    beside: list[_Used] = []
    delays: list[float] = []
    watched = _Watched()
    with running(TASKER, plan.disk) as server:
        warm = load.submit_for(server.port, NOOP, seconds=1)
        load.wait_completed(server.port, warm.task_ids, timeout=60)
        for place in range(min(plan.rounds, _ROUNDS)):
            for is_watched in (place % 2 == 0, place % 2 == 1):
                ids = [str(new_task_id(SystemClock().now())) for _ in range(_CHANGES)]
                if is_watched:
                    watched = _Watched()
                    with _watching(server.port, ids, watched):
                        beside.append(_burst(server, ids, seconds))
                    delays += _delays(server, watched)
                else:
                    alone.append(_burst(server, ids, seconds))
    return _rows(alone, beside, sorted(delays), watched, seconds)


def _rows(alone: list[_Used], beside: list[_Used], delays: list[float], watched: _Watched, seconds: float) -> list[Row]:
    more = statistics.median((one.cpu - other.cpu) / one.took for one, other in zip(beside, alone, strict=True))
    expected = len(beside) * _CHANGES * (_PAGES // 2)
    rates = [_RATE * seconds / used.took for used in beside]
    kilobytes = watched.bytes / seconds / 1000
    return [
        Row(f"{_PAGES} open pages at {_RATE:,} tasks/s: of a core, over the same load alone", more * 100, "%",
            _MOST_CPU * 100, "at most",
            f"{statistics.median(used.cpu / used.took for used in beside):.0%} with them, {len(beside)} rounds; "
            f"{watched.messages / seconds:,.0f} messages and {kilobytes:,.0f} kB a second"),
        Row("  submissions a second beside them", statistics.median(rates), "/s"),
        Row("  changes in sight that came", len(delays) / expected, bar=1, detail=f"{len(delays):,} of {expected:,}"),
        Row("  p95 from the end of a task to the page", percentile(delays, 95) * 1000, "ms", _MOST_DELAY, "at most",
            f"p50 {percentile(delays, 50) * 1000:.0f} ms"),
    ]  # fmt: skip


def _burst(server: Server, ids: list[str], seconds: float) -> _Used:
    """Run the load and the tasks in sight; return what the server has used for the load."""
    _later(server, ids, seconds)
    used = _load(server, _RATE, seconds)
    load.wait_completed(server.port, ids, timeout=30)
    time.sleep(1)  # the pages may show it later
    return used


def _later(server: Server, ids: list[str], seconds: float) -> None:
    """Submit the tasks in sight, which end one after the other within this time."""

    def on_reply(status: int, body: bytes, _took: float) -> None:
        if status != 201:
            raise load.LoadError(f"a delayed task gave {status} {body[:200]!r}")

    requests: list[bytes] = []
    for place, task_id in enumerate(ids):
        body = {"type": "noop", "params": [], "delay": seconds * (place + 1) / (_CHANGES + 1)}
        requests.append(load.post(f"/task/{task_id}", json.dumps(body).encode(), method="PUT"))
    with load.Client(server.port, 1) as client:
        client.exchange(requests, on_reply, until=float("inf"))


def _load(server: Server, rate: int, seconds: float) -> _Used:
    """Submit no-op tasks at an even pace for this long; return what the server has used."""
    begun, before = time.perf_counter(), server.cpu_seconds()

    def paced() -> Iterator[bytes]:
        for number in range(int(rate * seconds)):
            time.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            yield NOOP

    def on_reply(status: int, body: bytes, _took: float) -> None:
        if status != 202:
            raise load.LoadError(f"a submission gave {status} {body[:200]!r}")

    with load.Client(server.port, 64) as client:
        client.exchange(paced(), on_reply, until=float("inf"))
    return _Used(server.cpu_seconds() - before, time.perf_counter() - begun)


def _delays(server: Server, watched: _Watched) -> list[float]:
    """Return the seconds from the end of a task, as the service noted it, to each page that has shown it."""
    ended: dict[str, float] = {}
    for task_id in {task_id for _, task_id in watched.seen}:
        found = json.loads(load.fetch(server.port, f"/task/{task_id}"))
        ended[task_id] = datetime.fromisoformat(found["finished_at"]).timestamp()
    return [at - ended[task_id] for (_, task_id), at in watched.seen.items()]


@contextmanager
def _watching(port: int, ids: list[str], watched: _Watched) -> Iterator[None]:
    """Keep the pages open, in a thread of their own, until the block ends."""
    thread = threading.Thread(target=asyncio.run, args=(_watch_all(port, ids, watched),))
    thread.start()
    try:
        deadline = time.monotonic() + 10
        while watched.connected < _PAGES:
            if time.monotonic() > deadline:
                raise load.LoadError(f"{watched.connected} of {_PAGES} pages were opened")
            time.sleep(0.01)
        yield
    finally:
        watched.is_over = True
        thread.join()


async def _watch_all(port: int, ids: list[str], watched: _Watched) -> None:
    paths = ("/ui/live/overview?window=1h", f"/ui/live/tasks?rows={pack_ids(ids)}")
    streams = [asyncio.create_task(_watch(port, place, paths[place % 2], watched)) for place in range(_PAGES)]
    while not watched.is_over:
        await asyncio.sleep(0.05)
    for stream in streams:
        stream.cancel()
    await asyncio.gather(*streams, return_exceptions=True)


async def _watch(port: int, number: int, path: str, watched: _Watched) -> None:
    """Read the stream of a page, as a browser does."""
    reader, writer = await asyncio.open_connection(load.HOST, port, limit=1 << 20)
    writer.write(load.get(path))
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise load.LoadError(f"GET {path} gave {head[:100]!r}")
    watched.connected += 1
    while message := await reader.readuntil(b"\n\n"):
        now = time.time()
        watched.bytes += len(message)
        watched.messages += 1
        for found in _ENDED.findall(message):
            watched.seen.setdefault((number, found.decode()), now)


MEASURES: dict[str, Callable[[Plan], list[Row]]] = {"watchers": watchers}
