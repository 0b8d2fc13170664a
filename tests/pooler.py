"""PgBouncer of the tests' own, in front of a cluster of theirs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.postgres import Cluster, as_account, own_account
from tests.server import LOOPBACK, hold_port

START_LIMIT = 30.0
NOT_INSTALLED = "PgBouncer is not installed: apt install pgbouncer"
CONFIGURATION = """\
[databases]
* = host=127.0.0.1 port={cluster} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {sessions}
max_client_conn = 500
logfile = {folder}/log
ignore_startup_parameters = {ignored}
"""


class Pooler:
    """One PgBouncer; it can be killed, and started again on its port."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the pooler has not been started"
        return self._process.pid

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres@{LOOPBACK}:{self.port}/{database}"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        program = find_program()
        assert program is not None
        self._process = subprocess.Popen(
            [*as_account("KILL"), program, str(self.folder / "ini")],
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        limit = monotonic() + START_LIMIT
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert monotonic() < limit, "PgBouncer does not answer"
            sleep(0.02)

    def kill(self) -> None:
        """End it as the loss of its machine would, with all connections through it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection((LOOPBACK, self.port), timeout=1):
            return True
        return False


def find_program() -> str | None:
    """Return PgBouncer's program; Debian's is where only root's PATH leads."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def run_pooler(
    cluster: Cluster, *, mode: str = "transaction", sessions: int = 4, ignored: str = ""
) -> Iterator[Pooler]:
    """Run a PgBouncer in front of a cluster.

    sessions: how many it has with the server, for each database. ignored: start-up parameters that it takes and drops;
    it refuses others. Without the program the test is skipped; where the environment says CI it fails.
    """
    if find_program() is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(NOT_INSTALLED)
    folder, held = Path(tempfile.mkdtemp(prefix="tasker-pooler-")), hold_port()
    pooler = Pooler(folder, held.getsockname()[1])
    text = CONFIGURATION.format(
        cluster=cluster.port, port=pooler.port, mode=mode, sessions=sessions, folder=folder, ignored=ignored
    )
    (folder / "ini").write_text(text)
    if account := own_account():
        for one in (folder, folder / "ini"):
            shutil.chown(one, account, account)
    try:
        pooler.start()
        yield pooler
    finally:
        pooler.kill()
        held.close()
        shutil.rmtree(folder, ignore_errors=True)
