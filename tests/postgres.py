"""A PostgreSQL server of the tests' own: a new cluster in a temporary folder, on a port of the loopback held for it.

One for each process of pytest that asks for it, shared by its tests; each test takes a database (or a schema) of its
own. Tests that cut its power have another, as durable as a real one; nobody waits for the disk of the shared one. Its
time zone is an odd one, so that nothing comes to depend on the server's zone.
"""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest

from tests.server import hold_port

START_LIMIT = 60.0
STOP_LIMIT = 30.0
NOT_INSTALLED = "PostgreSQL's server is not installed: apt install postgresql"
CONFIGURATION = """\
listen_addresses = '127.0.0.1'
max_connections = 200
shared_preload_libraries = ''
synchronous_commit = on
timezone = 'Asia/Kathmandu'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %d '
"""
DURABLE = "fsync = on\n"
NOT_DURABLE = "fsync = off\nfull_page_writes = off\n"


class Cluster:
    """One PostgreSQL server with its own data; it can be stopped, killed or paused, and started again."""

    def __init__(self, binaries: Path, folder: Path, *, durable: bool) -> None:
        self.folder = folder
        self._durability = DURABLE if durable else NOT_DURABLE
        self.data = folder / "data"
        self.log = folder / "server.log"
        self._held = hold_port()  # also while the server is down
        self.port: int = self._held.getsockname()[1]
        self._binaries = binaries
        self._names = (f"test_{count}" for count in itertools.count(1))
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: psycopg.Connection[Any] | None = None

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        assert self._process is not None, "the cluster has not been started"
        return self._process.pid

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def fresh_database(self, template: str = "template0") -> str:
        """Create an empty database (or a copy of `template`) and return its URL."""
        name = next(self._names)
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url_of(name)

    def drop_database(self, url: str) -> None:
        """Drop a database; end remaining connections to it."""
        self.execute(f"DROP DATABASE IF EXISTS {database_of(url)} WITH (FORCE)")

    def execute(self, statements: str) -> None:
        """Run SQL over a connection that is kept, faster than `sql`. Several statements commit together."""
        try:
            self._connected().execute(statements)
        except psycopg.OperationalError:  # the server has been stopped since the last time
            self.disconnect()
            self._connected().execute(statements)

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = psycopg.connect(self.url, autocommit=True)
        return self._connection

    def disconnect(self) -> None:
        """Close the connection of `execute`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def sql(self, statement: str, database: str = "postgres") -> list[list[str]]:
        """Run SQL by psql, outside every loop and pool; return the rows as text."""
        address = ["-h", str(self.folder), "-p", str(self.port), "-U", "postgres", "-d", database]
        psql = [_psql(self._binaries), "-X", "-q", "-A", "-t", "-F", "\x1f", "-R", "\x1e", "-v", "ON_ERROR_STOP=1"]
        done = subprocess.run(
            [*psql, *address], input=statement, capture_output=True, text=True, env=_environment(), timeout=60
        )
        assert done.returncode == 0, done.stderr
        return [row.split("\x1f") for row in done.stdout.rstrip("\n").split("\x1e") if row]

    def create(self) -> None:
        """Make the files of a new cluster."""
        account = own_account()
        self.folder.chmod(0o700)
        if account:
            shutil.chown(self.folder, account, account)
        initdb: list[str | Path] = [
            self._binaries / "initdb",
            "-D",
            self.data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "-N",
        ]
        _run([*initdb, "--locale=C"])
        with (self.data / "postgresql.conf").open("a") as configuration:
            configuration.write(f"{CONFIGURATION}{self._durability}unix_socket_directories = '{self.folder}'\n")

    def start(self) -> None:
        """Start it and wait until it takes connections: after a crash it recovers first."""
        assert self._process is None or self._process.poll() is not None, "the cluster is running already"
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*as_account("QUIT"), self._binaries / "postgres", "-D", self.data, "-p", str(self.port)],
                cwd=self.folder, env=_environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        self._wait_until_ready()

    def ensure_running(self) -> None:
        """Bring it back, whatever a test has done to it."""
        if self._process is not None and self._process.poll() is None:
            self.resume()
            self._wait_until_ready()
        else:
            self.start()

    def stop(self, mode: str = "immediate") -> None:
        """Stop it as `pg_ctl stop -m` does: `immediate` leaves no checkpoint, so it recovers at the next start."""
        if self._process is None or self._process.poll() is not None:
            return
        self.resume()
        self._process.send_signal({"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
        try:
            self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End all its processes at once, as the loss of its machine would."""
        family = self._family()
        self._each(psutil.Process.kill, family)
        psutil.wait_procs(family, STOP_LIMIT)
        if self._process is not None:
            self._process.wait(STOP_LIMIT)

    def pause(self) -> None:
        """Stop all its processes (SIGSTOP): connections stay open, and nothing answers."""
        self._each(psutil.Process.suspend, self._family())

    def resume(self) -> None:
        self._each(psutil.Process.resume, self._family())

    def backends(self, database: str) -> list[int]:
        """Return the process ids of the sessions that are connected to `database`."""
        rows = self.sql(f"SELECT pid FROM pg_stat_activity WHERE datname = '{database}' ORDER BY backend_start")
        return [int(pid) for (pid,) in rows]

    def _wait_until_ready(self) -> None:
        limit = monotonic() + START_LIMIT
        while not self._is_ready():
            assert self._process is not None
            code = self._process.poll()
            assert code is None, f"PostgreSQL ended with exit code {code}:\n{self.log.read_text()}"
            assert monotonic() < limit, f"PostgreSQL is not ready after {START_LIMIT:g} s:\n{self.log.read_text()}"
            sleep(0.02)

    def _is_ready(self) -> bool:
        """Tell whether it takes connections: also after the death of a backend it recovers for a moment."""
        probe: list[str | Path] = [
            self._binaries / "pg_isready",
            "-q",
            "-h",
            str(self.folder),
            "-p",
            str(self.port),
            "-t",
            "5",
        ]
        return subprocess.run(probe, env=_environment()).returncode == 0

    def _family(self) -> list[psutil.Process]:
        if self._process is None or self._process.poll() is not None:
            return []
        with suppress(psutil.NoSuchProcess):
            postmaster = psutil.Process(self._process.pid)
            return [postmaster, *postmaster.children(recursive=True)]
        return []

    @staticmethod
    def _each(act: Callable[[psutil.Process], None], processes: list[psutil.Process]) -> None:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                act(process)


@cache
def cluster() -> Cluster:
    """Return the running cluster of this process of pytest; the first call starts it."""
    return new_cluster(durable=False)


def new_cluster(*, durable: bool) -> Cluster:
    """Return a running cluster, for `end` to end. durable: what was committed outlives the loss of the machine.

    Without PostgreSQL the test is skipped; where the environment says CI it fails.
    """
    binaries = find_binaries()
    if binaries is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(NOT_INSTALLED)
    folder = Path(tempfile.mkdtemp(prefix="tasker-postgres-"))
    made = Cluster(binaries, folder, durable=durable)
    atexit.register(end, made)
    made.create()
    made.start()
    return made


def end_cluster() -> None:
    """Stop the cluster of this process, if there is one, and remove its files."""
    if cluster.cache_info().currsize:
        end(cluster())
        cluster.cache_clear()


def fresh_database() -> str:
    """Create an empty database in the cluster of this process and return its URL."""
    return cluster().fresh_database()


def database_of(url: str) -> str:
    """Return the database's name in `url`."""
    return urlsplit(url).path.removeprefix("/")


def find_binaries() -> Path | None:
    """Return the folder of PostgreSQL's server programs: the newest of Debian's, or the one pg_config names."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    if debian:
        return debian[-1].parent
    with suppress(OSError, subprocess.CalledProcessError):
        named = Path(subprocess.check_output(["pg_config", "--bindir"], text=True).strip())
        return named if (named / "initdb").exists() else None
    return None


def _version(initdb: Path) -> tuple[int, ...]:
    """Debian's folders are called by their version: 15, or 9.6."""
    return tuple(int(part) for part in initdb.parent.parent.name.split(".") if part.isdigit())


def own_account() -> str | None:
    """Return whom PostgreSQL has to run as: it refuses to run as root."""
    return "postgres" if os.geteuid() == 0 else None


def as_account(signal_at_our_death: str | None = None) -> list[str]:
    """Return the command that runs another one as PostgreSQL's account, and ends it should this process be killed."""
    account = own_account()
    become = [f"--reuid={account}", f"--regid={account}", "--init-groups"] if account else []
    outlive = [f"--pdeathsig={signal_at_our_death}"] if signal_at_our_death else []
    needed = bool(become) or (bool(outlive) and shutil.which("setpriv") is not None)
    return ["setpriv", *become, *outlive] if needed else []


def _run(command: list[str | Path]) -> None:
    done = subprocess.run([*as_account(), *command], capture_output=True, text=True, env=_environment(), cwd="/")
    assert done.returncode == 0, f"{command[0]}: {done.stderr}"


def _environment() -> dict[str, str]:
    """Return the environment without settings of libpq, and with messages in English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C"}


def _psql(binaries: Path) -> str:
    own = binaries / "psql"
    return str(own) if own.exists() else "psql"


def end(made: Cluster) -> None:
    made.disconnect()
    with suppress(ProcessLookupError):
        made.stop("immediate")
    shutil.rmtree(made.folder, ignore_errors=True)
