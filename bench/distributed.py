"""Many processes on one database: Tasker on PostgreSQL, and FastAPI with common queues."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Iterable, Sequence

import msgspec

from bench import fill, load
from bench.measures import (
    NOOP,
    SUM,
    Plan,
    Taken,
    burst,
    detail_of,
    percentile,
    ratio,
    waited_sums,
)
from bench.report import Row
from bench.servers import (
    CELERY,
    PGQUEUER,
    PGQUEUER_API,
    PROCRASTINATE,
    PROCRASTINATE_API,
    SHARED,
    SHARED_API,
    SHARED_TWO,
    Peer,
    Server,
    running,
)
from bench.stores import PostgreSQL, postgresql, redis

NAP = load.post("/task", b'{"type":"nap","params":[60]}')


def _rounds(
    plan: Plan, database: PostgreSQL, peers: Iterable[Peer], request: bytes, *, runs: bool
) -> dict[Peer, Taken]:
    taken = {peer: Taken() for peer in peers}
    for _ in range(plan.rounds):
        for peer, figures in taken.items():
            with (
                redis() if peer is CELERY else database.fresh() as store,
                running(peer, plan.disk, store=store) as server,
            ):
                burst(server, request, plan.seconds, figures, runs=runs)
    return taken


def submit(plan: Plan) -> list[Row]:
    """Durable submission over 64 connections to one API process, without a worker."""
    with postgresql() as database:
        taken = _rounds(plan, database, [SHARED_API, PGQUEUER_API, PROCRASTINATE_API], SUM, runs=False)
    ours = taken[SHARED_API].submitted
    return [
        Row("submit / FastAPI + Procrastinate", ratio(ours, taken[PROCRASTINATE_API].submitted), bar=2),
        Row("submit / FastAPI + PgQueuer", ratio(ours, taken[PGQUEUER_API].submitted), bar=1.5),
        *(
            Row(f"  {peer.name}: POST /task", one.submit_rate, "/s", detail=detail_of(one))
            for peer, one in taken.items()
        ),
    ]


def end_to_end(plan: Plan) -> list[Row]:
    """No-op tasks over one API and one worker process, from the first submission to the last completion."""
    with postgresql() as database:
        taken = _rounds(plan, database, [SHARED, PGQUEUER, PROCRASTINATE, CELERY], NOOP, runs=True)
    ours = taken[SHARED].completed
    return [
        Row("end to end / FastAPI + PgQueuer", ratio(ours, taken[PGQUEUER].completed), bar=1.5),
        Row("end to end / FastAPI + Procrastinate", ratio(ours, taken[PROCRASTINATE].completed), bar=6),
        Row("end to end / FastAPI + Celery + Redis", ratio(ours, taken[CELERY].completed), bar=3),
        *(
            Row(f"  {peer.name}: end to end", one.end_to_end_rate, "/s", detail=one.spread(one.completed))
            for peer, one in taken.items()
        ),
    ]


def latency(plan: Plan) -> list[Row]:
    """POST with `Prefer: wait=5` for sum, idle, one connection, through the database and another process."""
    with postgresql() as database, database.fresh() as store, running(SHARED, plan.disk, store=store) as server:
        took = waited_sums(server, plan.samples)
    p50, p99 = percentile(took, 50), percentile(took, 99)
    return [Row("wait=5 for sum, idle, two processes: p50", p50, "ms", 15, "at most", f"p99 {p99:.2f} ms")]


def history(plan: Plan) -> list[Row]:
    """The same load on an empty database and on one that holds many finished tasks."""
    sums, noops = (Taken(), Taken()), (Taken(), Taken())
    with postgresql() as database, database.fresh() as store:
        full = fill.finished_shared(store.env["DATABASE_URL"], plan.finished)
        for _ in range(plan.rounds):
            for which, template in enumerate(("template0", full)):
                with database.fresh(template) as own, running(SHARED, plan.disk, store=own) as server:
                    burst(server, SUM, plan.seconds, sums[which])
                    burst(server, NOOP, plan.seconds, noops[which])
    name = f"with {plan.finished:,} finished tasks / empty"
    return [
        Row(f"submit {name}", ratio(sums[1].submitted, sums[0].submitted), bar=0.9, detail=_medians(sums, "submitted")),
        Row(f"end to end {name}", ratio(noops[1].completed, noops[0].completed), bar=0.9,
            detail=_medians(noops, "completed")),
    ]  # fmt: skip


def _medians(pair: tuple[Taken, Taken], which: str) -> str:
    empty, full = (statistics.median(getattr(taken, which)) for taken in pair)
    return f"{full:,.0f} and {empty:,.0f}/s"


def resume(plan: Plan) -> list[Row]:
    """From kill -9 of a worker at default settings until the other one has its task running again."""
    took = []
    with postgresql() as database:
        for _ in range(plan.rounds):
            with database.fresh() as store, running(SHARED_TWO, plan.disk, store=store) as server:
                took.append(_kill_and_wait(server))
    return [Row("work resumes after kill -9 of a worker", max(took), "s", 15, "at most", _each(took))]


def _each(took: Sequence[float]) -> str:
    return "the slowest of " + ", ".join(f"{one:.1f}" for one in took)


class _Seen(msgspec.Struct):
    """The fields that are read of a task."""

    status: str
    attempt: int = 0


class _WorkerSeen(msgspec.Struct):
    pid: int
    running: list[msgspec.Raw] = []


def _kill_and_wait(server: Server, limit: float = 60) -> float:
    """Kill the worker that runs a long task; return the seconds until the task runs again."""
    [task_id] = load.submit_for(server.port, NAP, seconds=5, connections=1, limit=1).task_ids
    path = f"/task/{task_id}"
    _poll(server, path, 1, limit)
    workers = msgspec.json.decode(load.fetch(server.port, "/worker"), type=dict[str, msgspec.Raw])
    [busy] = [one.pid for one in msgspec.json.decode(workers["items"], type=list[_WorkerSeen]) if one.running]
    [victim] = [process for process in server.processes if process.pid == busy]
    start = time.perf_counter()
    victim.send_signal(signal.SIGKILL)
    _poll(server, path, 2, limit)
    return time.perf_counter() - start


def _poll(server: Server, path: str, attempt: int, limit: float) -> None:
    deadline = time.monotonic() + limit
    seen = _Seen("pending")
    while (seen.status, seen.attempt) != ("running", attempt):
        if time.monotonic() > deadline:
            raise load.LoadError(f"attempt {attempt} did not start: {seen}")
        time.sleep(0.05)
        seen = msgspec.json.decode(load.fetch(server.port, path), type=_Seen)


MEASURES = {
    "shared_submit": submit,
    "shared_end_to_end": end_to_end,
    "shared_latency": latency,
    "shared_history": history,
    "shared_resume": resume,
}
