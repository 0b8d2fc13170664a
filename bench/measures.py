"""The measures of one machine. Each takes a Plan and returns rows; each round measures all servers in turn."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import fill, load
from bench.machine import fdatasync_ms
from bench.report import Row
from bench.servers import (
    ECHO,
    HUEY_GTHREAD,
    HUEY_SYNC,
    NULL,
    NULL_IDLE,
    SEED,
    SEED_QUIET,
    TASKER,
    Peer,
    Server,
    running,
    temporary_folder,
)

SUM = load.post("/task", b'{"type":"sum","params":[4,2]}')
NOOP = load.post("/task", b'{"type":"noop","params":[]}')
SUM_WAITED = load.post("/task", b'{"type":"sum","params":[4,2]}', "Prefer: wait=5")
LATER = load.post("/task", b'{"type":"noop","params":[],"delay":3600}')
KIB = 1024


@dataclass(frozen=True)
class Plan:
    """How much to measure. disk: where to make the servers' folders. ended: the tasks of each store of `pages`."""

    disk: Path
    rounds: int = 5
    seconds: float = 3.0
    samples: int = 2000
    waits: int = 10_000
    wait_for: int = 60
    finished: int = 500_000
    backlog: int = 100_000
    ended: tuple[int, ...] = (1_000_000,)


@dataclass
class Taken:
    """The rounds of one server: accepted and completed tasks a second, latencies of the submissions in ms.

    cpu: microseconds of processor time for each accepted task. On a busy machine it varies less than the rates.
    """

    submitted: list[float] = field(default_factory=list)
    completed: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def submit_rate(self) -> float:
        return statistics.median(self.submitted)

    @property
    def end_to_end_rate(self) -> float:
        return statistics.median(self.completed)

    def spread(self, rates: Sequence[float]) -> str:
        return f"{len(rates)} rounds, {min(rates):,.0f} to {max(rates):,.0f}"


def burst(server: Server, request: bytes, seconds: float, taken: Taken, *, runs: bool = True) -> None:
    """Submit for this long, then check that every accepted task completes. Raises LoadError on any error."""
    warm = load.submit_for(server.port, request, seconds=0.5)
    if runs:
        load.wait_completed(server.port, warm.task_ids, timeout=60)
    before = server.cpu_seconds()
    result = load.submit_for(server.port, request, seconds=seconds)
    used = server.cpu_seconds() - before
    if result.errors:
        raise load.LoadError(f"replies that are not accepted tasks: {result.errors.most_common(3)}")
    taken.submitted.append(result.rate)
    taken.cpu.append(used / len(result.task_ids) * 1e6)
    taken.p50.append(percentile(result.latencies, 50) * 1000)
    taken.p99.append(percentile(result.latencies, 99) * 1000)
    if runs:
        finished = load.wait_completed(server.port, result.task_ids, timeout=120)
        taken.completed.append(len(result.task_ids) / (finished - result.started))


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile of an ordered sequence."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def rounds(plan: Plan, peers: Iterable[Peer], request: bytes) -> dict[Peer, Taken]:
    """Measure the peers in turn, as often as the plan says."""
    taken = {peer: Taken() for peer in peers}
    for _ in range(plan.rounds):
        for peer, figures in taken.items():
            with running(peer, plan.disk) as server:
                burst(server, request, plan.seconds, figures, runs=peer is not NULL_IDLE)
    return taken


def better_huey(plan: Plan, request: bytes) -> Peer:
    """Return the faster of gunicorn's two kinds of worker, by a short trial."""
    trial = {HUEY_SYNC: Taken(), HUEY_GTHREAD: Taken()}
    for peer, figures in trial.items():
        with running(peer, plan.disk) as server:
            burst(server, request, min(plan.seconds, 2), figures)
    return max(trial, key=lambda peer: trial[peer].end_to_end_rate)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the rounds' ratios: a disturbance of a round affects both sides of its ratio."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


def submit(plan: Plan) -> list[Row]:
    """Durable submission over 64 connections while the tasks run at the same time."""
    huey = better_huey(plan, SUM)
    taken = rounds(plan, [TASKER, huey, SEED, SEED_QUIET, NULL, NULL_IDLE], SUM)
    ours = taken[TASKER].submitted
    to = {peer: ratio(ours, figures.submitted) for peer, figures in taken.items()}
    rates = [
        Row(f"  {peer.name}: POST /task", figures.submit_rate, "/s", detail=detail_of(figures))
        for peer, figures in taken.items()
    ]
    return [
        Row("submit / huey behind Flask", to[huey], bar=6),
        Row("submit / the seed's design, in memory", to[SEED], bar=4.5),
        Row("submit / the seed's design, request log off", to[SEED_QUIET]),
        Row("submit / the same app without its store", to[NULL], bar=0.55, detail="tasks run, nothing is kept"),
        Row("submit / the same app, accepting only", to[NULL_IDLE], detail="no store, no task runs"),
        *rates,
        _generator_row(plan, max(figures.submit_rate for figures in taken.values())),
    ]


def detail_of(figures: Taken) -> str:
    """Return spread, latencies and processor time of the submissions as text."""
    p50, p99 = statistics.median(figures.p50), statistics.median(figures.p99)
    cpu = statistics.median(figures.cpu)
    return f"{figures.spread(figures.submitted)}; p50 {p50:.1f} ms, p99 {p99:.1f} ms; {cpu:,.0f} us of CPU each"


def _generator_row(plan: Plan, fastest: float) -> Row:
    """Show that the load generator is not the bottleneck."""
    with running(ECHO, plan.disk) as server:
        figures = Taken()
        burst(server, SUM, min(plan.seconds, 2), figures, runs=False)
    rate = figures.submit_rate
    return Row("load generator / fastest server", rate / fastest, bar=1.5, detail=f"{rate:,.0f}/s against an echo")


def end_to_end(plan: Plan) -> list[Row]:
    """No-op tasks, from the first submission over HTTP to the last completion."""
    huey = better_huey(plan, NOOP)
    taken = rounds(plan, [TASKER, huey, SEED], NOOP)
    ours = taken[TASKER].completed
    rates = [
        Row(f"  {peer.name}: end to end", figures.end_to_end_rate, "/s", detail=figures.spread(figures.completed))
        for peer, figures in taken.items()
    ]
    return [
        Row("end to end / huey behind Flask", ratio(ours, taken[huey].completed), bar=5),
        Row("end to end / the seed's design, in memory", ratio(ours, taken[SEED].completed)),
        *rates,
    ]


def waited_sums(server: Server, samples: int, *, warm: int = 200) -> list[float]:
    """POST sums with `Prefer: wait=5` over one connection; return the milliseconds of each, in order.

    warm: how many are sent before, which do not count.
    """
    took: list[float] = []

    def on_reply(status: int, body: bytes, seconds: float) -> None:
        if status != 200 or b'"completed"' not in body:
            raise load.LoadError(f"a waited-for sum gave {status} {body[:200]!r}")
        took.append(seconds * 1000)

    with load.Client(server.port, 1) as client:
        client.exchange([SUM_WAITED] * warm, on_reply, until=float("inf"))
        took.clear()
        client.exchange([SUM_WAITED] * samples, on_reply, until=float("inf"))
    return sorted(took)


def latency(plan: Plan) -> list[Row]:
    """POST with `Prefer: wait=5` for sum, idle, one connection: the result comes with the reply."""
    with running(TASKER, plan.disk) as server:
        before = fdatasync_ms(plan.disk)
        took = waited_sums(server, plan.samples)
    sync = statistics.mean([before, fdatasync_ms(plan.disk)])
    p50, p99 = percentile(took, 50), percentile(took, 99)
    detail = f"{len(took)} requests; fdatasync {sync:.2f} ms; largest {took[-1]:.1f} ms"
    return [
        Row("wait=5 for sum, idle: p50", p50, "ms", 3 * sync + 3, "at most", detail),
        Row("wait=5 for sum, idle: p99 / p50", p99 / p50, "x", 5, "at most", f"p99 {p99:.2f} ms"),
    ]


def open_waits(plan: Plan) -> list[Row]:
    """Many simultaneous waits, each for a task of its own that stays pending."""
    with running(TASKER, plan.disk) as server:
        tasks = load.submit_for(server.port, LATER, seconds=600, limit=plan.waits)
        if len(tasks.task_ids) != plan.waits:
            raise load.LoadError(f"delayed tasks: {tasks.errors.most_common(3)}")
        before = server.rss()
        good, grown, beside = _hold_waits(server, plan, tasks.task_ids, before)
    each = grown / plan.waits / KIB
    return [
        Row(f"{plan.waits:,} open waits: errors", plan.waits - good, "", 0, "at most", f"each ?wait={plan.wait_for}"),
        Row(f"{plan.waits:,} open waits: memory each", each, "KB", 45, "at most", f"{before / KIB**2:.0f} MB before"),
        Row("  POST beside them, one connection: p50", beside, "ms"),
    ]


def _hold_waits(server: Server, plan: Plan, task_ids: list[str], before: int) -> tuple[int, int, float]:
    """Return how many waits ended well, the growth of the server in bytes, and the p50 of a POST meanwhile, in ms."""
    good = 0

    def on_reply(status: int, body: bytes, _took: float) -> None:
        nonlocal good
        good += status == 200 and b'"pending"' in body

    with load.Client(server.port, plan.waits, sources=5) as client:
        client.begin(load.get(f"/task/{task_id}?wait={plan.wait_for}") for task_id in task_ids)
        time.sleep(2)
        grown = server.rss() - before
        beside = load.submit_for(server.port, LATER, seconds=5, connections=1, limit=200)
        client.finish(iter(()), on_reply, until=0, patience=plan.wait_for + 30)
    return good, grown, percentile(beside.latencies, 50) * 1000


def history(plan: Plan) -> list[Row]:
    """The same load on an empty file and on one with many finished tasks."""
    sums, noops = (Taken(), Taken()), (Taken(), Taken())
    with temporary_folder(plan.disk) as full:
        fill.finished(full, plan.finished)
        for _ in range(plan.rounds):
            for which, folder in enumerate((None, full)):
                with running(TASKER, plan.disk, folder=folder) as server:
                    burst(server, SUM, plan.seconds, sums[which])
                    burst(server, NOOP, plan.seconds, noops[which])
    submitted = ratio(sums[1].submitted, sums[0].submitted)
    ended = ratio(noops[1].completed, noops[0].completed)
    name = f"with {plan.finished:,} finished tasks / empty"
    return [
        Row(f"submit {name}", submitted, bar=0.9, detail=_both(sums[1].submit_rate, sums[0].submit_rate)),
        Row(f"end to end {name}", ended, bar=0.9, detail=_both(noops[1].end_to_end_rate, noops[0].end_to_end_rate)),
    ]


def _both(full: float, empty: float) -> str:
    return f"{full:,.0f} and {empty:,.0f}/s"


def restart(plan: Plan) -> list[Row]:
    """From the start of the process to 200 at /readyz, with many pending tasks in the file."""
    took: list[float] = []
    with temporary_folder(plan.disk) as template:
        fill.pending(template, plan.backlog)
        for _ in range(min(plan.rounds, 3)):
            with temporary_folder(plan.disk) as folder:
                shutil.copytree(template, folder, dirs_exist_ok=True)
                start = time.perf_counter()
                with running(TASKER, plan.disk, folder=folder) as server:
                    took.append(time.perf_counter() - start)
                    _drain(server)
                    drained = plan.backlog / (time.perf_counter() - start)
    return [
        Row(f"ready with {plan.backlog:,} pending tasks", statistics.median(took), "s", 3, "at most",
            f"{len(took)} starts, slowest {max(took):.2f} s"),
        Row("  the backlog has run, start included, at", drained, "/s"),
    ]  # fmt: skip


def _drain(server: Server) -> None:
    """Wait until no task is open."""
    for status in ("pending", "running"):
        while fill.has_task(server.port, status):
            time.sleep(0.05)


MEASURES: dict[str, Callable[[Plan], list[Row]]] = {
    "submit": submit,
    "end_to_end": end_to_end,
    "latency": latency,
    "open_waits": open_waits,
    "history": history,
    "restart": restart,
}
