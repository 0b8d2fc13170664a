"""`tasker worker ls`: which processes run tasks."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from cyclopts import App

from tasker.cli.options import DEFAULT_OUTPUT, Output, print_found

if TYPE_CHECKING:
    from tasker.wire.workers import Worker

app = App(name="worker", help="Show which processes run tasks.")


@app.command
def ls(*, output: Output = DEFAULT_OUTPUT) -> int:
    """List the workers and how much each runs: a table on a terminal, tab-separated lines elsewhere."""
    with output.connect() as client:
        found = list(client.workers.find_many())
    header = ("WORKER", "STATUS", "HOST", "PID", "VERSION", "RUNNING", "QUEUES", "STARTED", "HEARTBEAT")
    row = partial(_row, now=datetime.now(UTC))
    return print_found(found, header, row, json=output.json, empty="No workers: nothing runs tasks.")


def _row(worker: Worker, now: datetime) -> tuple[str, ...]:
    from tasker.cli.terminal import ago

    queues = "all" if worker.queues is None else ",".join(worker.queues)
    running = f"{len(worker.running)}/{worker.slots}"
    times = ago(worker.started_at, now), ago(worker.heartbeat_at, now)
    return worker.worker_id, worker.status, worker.host, str(worker.pid), worker.version, running, queues, *times
