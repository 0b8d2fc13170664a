"""Whether a queue's rate holds under a backlog: embedded, and over two workers on one database."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from urllib.request import Request, urlopen

from bench import load
from bench.measures import Plan
from bench.report import Row
from bench.servers import SHARED_TWO, TASKER, Server, running
from bench.stores import postgresql

_LIMIT = 100
_BURST = 20
_SETTLES = 2.0
"""Seconds until the burst is over and every worker runs steadily."""
_SECONDS = 30.0
_RATED = load.post("/task", b'{"type":"noop","params":[],"queue":"rated"}')


def rate(plan: Plan) -> list[Row]:
    """The deviation from the rate of a queue of 100/s, over 30 s with more tasks waiting than it lets start."""
    seconds = _SECONDS if plan.rounds > 1 or plan.seconds >= 3 else 10.0
    with running(TASKER, plan.disk) as server:
        embedded = _started(server, seconds)
    with postgresql() as database, database.fresh() as store, running(SHARED_TWO, plan.disk, store=store) as server:
        shared = _started(server, seconds)
    return [_row("one process", embedded, seconds), _row("two workers on PostgreSQL", shared, seconds)]


def _row(where: str, rate: float, seconds: float) -> Row:
    return Row(f"a rate of {_LIMIT}/s is off by, {where}", abs(rate / _LIMIT - 1) * 100, "%", 2, "at most",
               f"{rate:.2f}/s over {seconds:g} s")  # fmt: skip


def _started(server: Server, seconds: float) -> float:
    """Return how many tasks of the queue start each second."""
    _set(server.port, {"limit": _LIMIT, "per": 1, "burst": _BURST})
    count = int(_LIMIT * (seconds + _SETTLES) * 1.5)
    with load.Client(server.port, 32) as client:
        client.exchange([_RATED] * count, _accepted, until=float("inf"))
    time.sleep(_SETTLES)
    before, begun = _left(server.port)
    time.sleep(seconds)
    after, ended = _left(server.port)
    if not after:
        raise load.LoadError("the backlog ran dry: the rate did not hold at all")
    return (before - after) / (ended - begun)


def _accepted(status: int, body: bytes, _took: float) -> None:
    if status != 202:
        raise load.LoadError(f"a submission gave {status} {body[:200]!r}")


def _left(port: int) -> tuple[int, float]:
    """Return how many tasks of the queue have not started, and the time of the count."""
    asked = time.perf_counter()
    queue = json.loads(load.fetch(port, "/queue/rated"))
    return queue["pending"], (asked + time.perf_counter()) / 2


def _set(port: int, rate: dict[str, int]) -> None:
    body = json.dumps({"rate": rate}).encode()
    request = Request(
        f"http://127.0.0.1:{port}/queue/rated", body, {"Content-Type": "application/json"}, method="PATCH"
    )
    with urlopen(request, timeout=10) as reply:
        if reply.status != 200:
            raise load.LoadError(f"the rate could not be set: {reply.status}")


MEASURES: dict[str, Callable[[Plan], list[Row]]] = {"queue_rate": rate}
