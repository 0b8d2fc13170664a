"""The databases that the distributed peers keep their tasks in: one PostgreSQL and one Redis for a whole measure.

PostgreSQL writes durably (fsync and synchronous_commit on); Redis has its defaults. Both share the core of the
servers, so that a peer pays the whole cost of its tasks.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from tests.postgres import NOT_INSTALLED, Cluster, find_binaries

from bench.load import HOST
from bench.servers import SERVER_CORE, Store, free_port, pin

DISK = "/var/tmp"  # PostgreSQL's account must be able to reach it, which a checkout may forbid
MEMORY = "shared_buffers = 512MB\nmax_wal_size = 4GB\n"  # for all peers alike


class PostgreSQL:
    """A cluster; each server gets a database of its own, empty or a copy of `template`."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @contextlib.contextmanager
    def fresh(self, template: str = "template0") -> Iterator[Store]:
        url = self.cluster.fresh_database(template)
        try:
            yield Store({"DATABASE_URL": url, "TASKER_DATABASE_URL": url}, self.cluster.pid)
        finally:
            self.cluster.drop_database(url)
            self.cluster.sql("CHECKPOINT")


@contextlib.contextmanager
def postgresql(more: str = "") -> Iterator[PostgreSQL]:
    """Run a cluster, with `more` lines in its configuration. Raises SystemExit if PostgreSQL is not installed."""
    binaries = find_binaries()
    if binaries is None:
        raise SystemExit(NOT_INSTALLED)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=DISK))
    cluster = Cluster(binaries, folder, durable=True)
    try:
        cluster.create()
        with (cluster.data / "postgresql.conf").open("a") as configuration:
            configuration.write(MEMORY + more)
        cluster.start()
        postmaster = psutil.Process(cluster.pid)
        for process in (postmaster, *postmaster.children()):
            with contextlib.suppress(psutil.NoSuchProcess):  # the start-up's own process ends by itself
                process.cpu_affinity([SERVER_CORE])
        yield PostgreSQL(cluster)
    finally:
        cluster.stop("fast")
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def redis() -> Iterator[Store]:
    """Run an empty Redis. Raises SystemExit if it is not installed."""
    if shutil.which("redis-server") is None:
        raise SystemExit("Redis is not installed: apt install redis-server")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=DISK) as folder:
        process = subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", HOST, "--dir", folder],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=lambda: pin(SERVER_CORE),
        )  # fmt: skip
        try:
            _await_redis(port)
            yield Store({"REDIS_URL": f"redis://{HOST}:{port}/0"}, process.pid)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _await_redis(port: int) -> None:
    deadline = time.monotonic() + 10
    ping = ["redis-cli", "-p", str(port), "ping"]
    while subprocess.run(ping, capture_output=True, env=os.environ, check=False).stdout != b"PONG\n":
        if time.monotonic() > deadline:
            raise RuntimeError("Redis did not start")
        time.sleep(0.05)
