"""From measured costs to the first bottleneck: pure arithmetic, nothing is measured here.

A transaction costs `per_transaction + per_task * batch` of processor time. The size of batches follows from the load:
what reaches a process during a transaction shares the next one. Clients' reads are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

MAX_BATCH = 256
BUSY = 0.7
"""A resource that is used more than this makes its users wait: it counts as saturated."""
GROUP_COMMIT = 7
"""Commits that share a sync if none of them notifies: measured with 16 writers."""
_BATCH_OF_A_BUSY_API = 16
_DAY = 86_400


@dataclass(frozen=True)
class Step:
    """Processor seconds of a transaction, and of each task in it."""

    per_transaction: float
    per_task: float

    @classmethod
    def through(cls, one: float, many: float, batch: float) -> Step:
        """Return the step whose cost for a task is `one` alone and `many` in batches of `batch`."""
        per_transaction = (one - many) / (1 - 1 / batch)
        return cls(per_transaction, one - per_transaction)

    def each(self, batch: float) -> float:
        """Return the seconds for one task of a batch."""
        return self.per_transaction / batch + self.per_task


@dataclass(frozen=True)
class Costs:
    """Measured costs: seconds of processor time, bytes, counts."""

    submit: Step
    claim: Step
    complete: Step
    api: Step
    worker: Step
    listen: float
    """Of the database, for one notification to one process that listens to another channel of the database."""
    listen_worker: float
    """Of the process, for the same."""
    idle: float
    """Of the database, for an idle worker in a second."""
    idle_worker: float
    idle_syncs: float
    wal: float
    kept: float
    round_trips: int = 4


@dataclass(frozen=True)
class Machine:
    """The database's machine. round_trip: in seconds."""

    cores: float = 2
    sync: float = 0.17e-3
    wal_per_second: float = 1.8e9
    connections: int = 200
    round_trip: float = 0.1e-3


@dataclass(frozen=True)
class Setup:
    """The processes. api_processes: None for as many as needed. shards: databases that share the load equally."""

    workers: int
    rate: float
    api_processes: int | None = None
    pool_size: int = 8
    pooled: int | None = None
    """Connections behind a pooler, instead of a pool for each process; each still listens on one of its own."""
    submitted_in: float = 1
    """Tasks that clients submit in one request."""
    awaited: float = 0
    """Share of the tasks whose end somebody waits for: only those ends are notified."""
    shards: int = 1


@dataclass(frozen=True)
class Usage:
    """Usage of one database. share: of what its machine has; the rest is absolute."""

    share: Mapping[str, float]
    cores: float
    api_cores: float
    worker_cores: float
    api_processes: int
    connections: int
    notices: float
    wal_per_second: float
    kept_per_day: float
    batches: tuple[float, float, float]

    @property
    def first(self) -> str:
        """The most used resource."""
        return max(self.share, key=lambda name: self.share[name])


def batch(rate: float, fixed: float, per_task: float, lanes: int = 1) -> float:
    """Return how many tasks share a transaction of one process: those that come during `lanes` others."""
    busy = rate * per_task
    if busy >= 1:
        return MAX_BATCH
    return min(MAX_BATCH, max(1.0, rate * fixed / (1 - busy) / lanes))


def usage(costs: Costs, machine: Machine, setup: Setup) -> Usage:
    """Return a setup's usage of one of its databases."""
    rate, workers = setup.rate / setup.shards, max(1, setup.workers // setup.shards)
    waits = costs.round_trips * machine.round_trip + machine.sync

    def shared(step: Step, own: Step, at: float, lanes: int = 1) -> float:
        fixed = waits + step.per_transaction + own.per_transaction / 2
        return batch(at, fixed, step.per_task + own.per_task / 2, lanes)

    apis = setup.api_processes or _processes(rate, costs)
    submitted = max(setup.submitted_in, shared(costs.submit, costs.api, rate / apis, lanes=2))
    completed = shared(costs.complete, costs.worker, rate / workers)
    claimed = max(submitted, completed)
    notices = rate / submitted + rate / completed * setup.awaited
    processes = workers + apis
    cores = (
        rate * (costs.submit.each(submitted) + costs.claim.each(claimed) + costs.complete.each(completed))
        + notices * processes * costs.listen + processes * costs.idle
    )  # fmt: skip
    api_cores = rate * costs.api.each(submitted) + notices * apis * costs.listen_worker
    worker_cores = (
        rate * costs.worker.each(completed) + notices * workers * costs.listen_worker + workers * costs.idle_worker
    )
    each = 1 if setup.pooled else setup.pool_size + 1
    connections = processes * each + (setup.pooled or 0)
    ends = rate / completed * (1 - setup.awaited) + processes * costs.idle_syncs
    return Usage(
        share={
            "database processor": cores / machine.cores,
            "commits": (notices + ends / GROUP_COMMIT) * machine.sync,
            "WAL": rate * costs.wal / machine.wal_per_second,
            "connections": connections / machine.connections * BUSY,  # a full pool is not slow
            "worker processor": worker_cores / workers,
        },
        cores=cores, api_cores=api_cores, worker_cores=worker_cores, api_processes=apis, connections=connections,
        notices=notices, wal_per_second=rate * costs.wal, kept_per_day=rate * costs.kept * _DAY,
        batches=(submitted, claimed, completed),
    )  # fmt: skip


def _processes(rate: float, costs: Costs) -> int:
    """Return the number of API processes needed: as few as possible, because more would share fewer transactions."""
    return max(1, ceil(rate * costs.api.each(_BATCH_OF_A_BUSY_API)))


def most(costs: Costs, machine: Machine, setup: Setup, *, besides: tuple[str, ...] = ()) -> float:
    """Return the largest rate at which nothing (except `besides`) is saturated, to three digits; 0 if there is none."""

    def fits(rate: float) -> bool:
        share = usage(costs, machine, replace(setup, rate=rate)).share
        return all(used <= BUSY for name, used in share.items() if name not in besides)

    low, high = 0.0, 1e7
    if not fits(1e-3):
        return 0.0
    while high - low > 0.001 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def costs_of(kept: Mapping[str, Any]) -> Costs:
    """Return the costs that `python -m bench.scale` has measured."""
    steps, accepted, ran = kept["tasks"]["steps"], kept["processes"]["accepted"], kept["processes"]["ran"]
    crowd, notices = kept["crowd"], kept["notices"]
    alone, many = accepted[0], accepted[2]
    one, busy = ran[0], ran[1]
    idle = next(row for row in crowd["idle"] if row["workers"] >= 50)
    nobody, others = notices["listeners"][0], notices["other_channel"][-1]
    return Costs(
        submit=_step(steps["submit"]), claim=_step(steps["claim"]), complete=_step(steps["complete"]),
        api=Step.through(alone["api_us"] / 1e6, many["api_us"] / 1e6, _batch(alone, many)),
        worker=Step.through(one["worker_us"] / 1e6, busy["worker_us"] / 1e6, _batch(one, busy)),
        listen=(others["database_us"] - nobody["database_us"]) / others["listeners"] / 1e6,
        listen_worker=(others["client_us"] - nobody["client_us"]) / others["listeners"] / 1e6,
        idle=idle["database_us"] / 1e6, idle_worker=idle["client_us"] / 1e6, idle_syncs=idle["syncs"],
        wal=sum(figures["100"]["wal_bytes"] for figures in steps.values()),
        kept=sum(size for name, size in kept["tasks"]["bytes_kept"].items() if name.startswith("task")),
    )  # fmt: skip


def _batch(alone: Mapping[str, Any], shared: Mapping[str, Any]) -> float:
    """Return how many tasks shared a transaction: alone, each needs as many commits as a batch."""
    return float(alone["commits"] / shared["commits"])


def _step(figures: Mapping[str, Any]) -> Step:
    return Step.through(figures["1"]["database_us"] / 1e6, figures["100"]["database_us"] / 1e6, 100)
