"""What statistics cost: the same service with and without them, in turns, in processor time and in rates."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench import load
from bench.measures import NOOP, Plan, ratio
from bench.report import Row
from bench.servers import NOOP as TASKS
from bench.servers import SHARED, TASKER, Peer, Server, python, running
from bench.stores import postgresql

_BAR = 0.97
_UNCOUNTED = ("-m", "bench.uncounted_app")


def _serve(port: int, folder: Path) -> list[list[str]]:
    return [python(*_UNCOUNTED, "serve", "--port", str(port), "--data-dir", str(folder), str(TASKS))]


UNCOUNTED = Peer("tasker without statistics", _serve)
SHARED_UNCOUNTED = Peer("tasker without statistics", SHARED.commands, (*_UNCOUNTED, "database"))


@dataclass
class _Cost:
    """The rounds of one server: tasks a second, and microseconds of processor time for each task."""

    submitted: list[float] = field(default_factory=list)
    completed: list[float] = field(default_factory=list)
    submit_cpu: list[float] = field(default_factory=list)
    whole_cpu: list[float] = field(default_factory=list)


def _burst(server: Server, seconds: float, cost: _Cost) -> None:
    """Submit for this long and wait for all; the server is warm."""
    warm = load.submit_for(server.port, NOOP, seconds=1)
    load.wait_completed(server.port, warm.task_ids, timeout=60)
    before = server.cpu_seconds()
    result = load.submit_for(server.port, NOOP, seconds=seconds)
    submitted = server.cpu_seconds()
    if result.errors:
        raise load.LoadError(f"replies that are not accepted tasks: {result.errors.most_common(3)}")
    finished = load.wait_completed(server.port, result.task_ids, timeout=120)
    number = len(result.task_ids)
    cost.submitted.append(result.rate)
    cost.completed.append(number / (finished - result.started))
    cost.submit_cpu.append((submitted - before) / number * 1e6)
    cost.whole_cpu.append((server.cpu_seconds() - before) / number * 1e6)


def _rows(name: str, counted: _Cost, uncounted: _Cost) -> list[Row]:
    both = ("submit_cpu", "submit"), ("whole_cpu", "end to end")
    rows = [
        Row(
            f"{name}, {what}: processor time without statistics / with",
            ratio(getattr(uncounted, kind), getattr(counted, kind)),
            bar=_BAR,
            detail=f"{statistics.median(getattr(uncounted, kind)):,.0f} and"
            f" {statistics.median(getattr(counted, kind)):,.0f} us a task; {len(counted.submitted)} rounds",
        )
        for kind, what in both
    ]
    return [
        *rows,
        Row(f"  {name}, submit: rate with / without", ratio(counted.submitted, uncounted.submitted)),
        Row(f"  {name}, end to end: rate with / without", ratio(counted.completed, uncounted.completed)),
    ]


def _rounds(plan: Plan, counted: Peer, uncounted: Peer, burst: Callable[[Peer, _Cost], None]) -> tuple[_Cost, _Cost]:
    """Measure both in turns, each first in every other round."""
    costs = {counted: _Cost(), uncounted: _Cost()}
    for place in range(max(plan.rounds, 2)):
        for peer in (counted, uncounted) if place % 2 else (uncounted, counted):
            burst(peer, costs[peer])
    return costs[counted], costs[uncounted]


def embedded(plan: Plan) -> list[Row]:
    """One process on SQLite, 64 connections."""

    def burst(peer: Peer, cost: _Cost) -> None:
        with running(peer, plan.disk) as server:
            _burst(server, plan.seconds, cost)

    return _rows("SQLite", *_rounds(plan, TASKER, UNCOUNTED, burst))


def shared(plan: Plan) -> list[Row]:
    """An API and a worker on PostgreSQL, 64 connections; the database's processor time counts, too."""
    with postgresql() as database:

        def burst(peer: Peer, cost: _Cost) -> None:
            with database.fresh() as store, running(peer, plan.disk, store=store) as server:
                _burst(server, plan.seconds, cost)

        return _rows("PostgreSQL", *_rounds(plan, SHARED, SHARED_UNCOUNTED, burst))


MEASURES: dict[str, Callable[[Plan], list[Row]]] = {"stats": embedded, "shared_stats": shared}
