"""Start and stop the measured servers: each in a fresh folder, pinned to one core, ended by its pid."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.load import HOST, Client, LoadError, get

ROOT = Path(__file__).parent.parent
NOOP = ROOT / "bench" / "noop.py"
SERVER_CORE, LOAD_CORE = 0, 1
Commands = Callable[[int, Path], list[list[str]]]


@dataclass(frozen=True, eq=False)
class Peer:
    """A server to measure. commands(port, folder): the arguments of its processes, the web server first."""

    name: str
    commands: Commands
    setup: tuple[str, ...] = ()
    """The arguments of a Python process that prepares the store; it ends before the others start."""


@dataclass(frozen=True)
class Store:
    """A database server of the peer: the environment for its processes, and its process id."""

    env: dict[str, str]
    pid: int


@dataclass
class Server:
    """A started peer."""

    port: int
    folder: Path
    processes: list[subprocess.Popen[bytes]]
    store: Store | None = None

    def cpu_seconds(self) -> float:
        """Return the processor time of all its processes so far, their children's and its database's included."""
        started = [psutil.Process(process.pid) for process in self.processes]
        if self.store:
            started.append(psutil.Process(self.store.pid))
        every = started + [child for process in started for child in process.children(recursive=True)]
        return sum(times.user + times.system for times in (process.cpu_times() for process in every))

    def rss(self) -> int:
        """Return the resident bytes of the web server's process (not of its children)."""
        return int(psutil.Process(self.processes[0].pid).memory_info().rss)


def python(*arguments: str) -> list[str]:
    """Return the command of a Python process."""
    return [sys.executable, *arguments]


def _gunicorn(port: int, *options: str) -> list[str]:
    return python("-m", "gunicorn", "-b", f"{HOST}:{port}", "--log-level", "error", "--keep-alive", "30", *options,
                   "bench.peers.huey_flask:app")  # fmt: skip


def _consumer(workers: int) -> list[str]:
    return python("-m", "huey.bin.huey_consumer", "bench.peers.huey_flask.huey", "-w", str(workers), "-k", "thread",
                   "-q", "-d", "0.01", "-m", "0.05")  # fmt: skip


def huey_peer(name: str, workers: int, *options: str) -> Peer:
    """Return Flask + huey with gunicorn's `options` and a consumer of `workers` threads."""
    return Peer(name, lambda port, _: [_gunicorn(port, *options), _consumer(workers)])


def _tasker(port: int, folder: Path) -> list[list[str]]:
    return [python("-m", "tasker", "serve", "--port", str(port), "--data-dir", str(folder), str(NOOP))]


TASKER = Peer("tasker", _tasker)
NULL = Peer("tasker, no store", lambda port, folder: [python("-m", "bench.null_app", str(port), str(folder))])
NULL_IDLE = Peer(
    "tasker, accepting only", lambda port, folder: [python("-m", "bench.null_app", str(port), str(folder), "--idle")]
)
SEED = Peer("seed's design", lambda port, _: [python("-m", "bench.peers.seed_flask", str(port))])
SEED_QUIET = Peer(
    "seed's design, no request log", lambda port, _: [python("-m", "bench.peers.seed_flask", str(port), "--quiet")]
)
HUEY_SYNC = huey_peer("huey + Flask (sync)", 1, "-k", "sync", "-w", "1")
HUEY_GTHREAD = huey_peer("huey + Flask (gthread)", 1, "-k", "gthread", "-w", "1", "--threads", "4")


def _with_worker(web: Commands, *worker: str) -> Commands:
    return lambda port, folder: [*web(port, folder), python(*worker)]


def _tasker_api(port: int, _folder: Path) -> list[list[str]]:
    return [python("-m", "tasker", "serve", "--no-worker", "--port", str(port), str(NOOP))]


def _uvicorn(module: str) -> Commands:
    return lambda port, _folder: [
        python("-m", "uvicorn", f"bench.peers.{module}:app", "--host", HOST, "--port", str(port),
                "--log-level", "warning", "--no-access-log")
    ]  # fmt: skip


def _fastapi(name: str, module: str, *worker: str, setup: tuple[str, ...] = ()) -> tuple[Peer, Peer]:
    web = _uvicorn(module)
    return Peer(f"{name}, web alone", web, setup), Peer(name, _with_worker(web, *worker), setup)


SHARED_API = Peer("tasker, API alone", _tasker_api)
SHARED = Peer("tasker", _with_worker(_tasker_api, "-m", "tasker", "worker", str(NOOP)))
SHARED_TWO = Peer(
    "tasker, two workers",
    lambda port, folder: [*SHARED.commands(port, folder), python("-m", "tasker", "worker", str(NOOP))],
)
_PGQUEUER = ("-m", "bench.peers.pgqueuer_fastapi")
PGQUEUER_API, PGQUEUER = _fastapi(
    "FastAPI + PgQueuer", "pgqueuer_fastapi", *_PGQUEUER, "work", setup=(*_PGQUEUER, "install")
)
_PROCRASTINATE = ("-m", "bench.peers.procrastinate_fastapi")
PROCRASTINATE_API, PROCRASTINATE = _fastapi(
    "FastAPI + Procrastinate", "procrastinate_fastapi", *_PROCRASTINATE, "work", setup=(*_PROCRASTINATE, "install")
)
_CELERY = ("-m", "celery", "-A", "bench.peers.celery_fastapi:celery", "worker", "-P", "solo", "-l", "ERROR")
CELERY_API, CELERY = _fastapi("FastAPI + Celery + Redis", "celery_fastapi", *_CELERY)
ECHO = Peer("echo", lambda port, _: [python("-m", "bench.peers.echo", str(port))])


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def pin(core: int) -> None:
    """Keep this process, and what it starts, on one core; on a machine with a single one, do nothing."""
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {core})


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a folder on the disk of `parent`, and remove it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running(
    peer: Peer, disk: Path, *, folder: Path | None = None, store: Store | None = None, ready_within: float = 30
) -> Iterator[Server]:
    """Run the peer in `folder`, or in a fresh one on `disk`, until the block ends."""
    with contextlib.ExitStack() as stack:
        place = folder or stack.enter_context(temporary_folder(disk))
        server = Server(free_port(), place, [], store)
        stack.callback(_stop, server)
        _start(server, peer)
        _await_ready(server, peer, ready_within)
        try:
            yield server
        except LoadError as error:
            raise LoadError(f"{peer.name}: {error}\n{_said(server)}") from error


def _start(server: Server, peer: Peer) -> None:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("TASKER_", "OPENAI_"))}
    ours["PYTHONPATH"] = os.pathsep.join((str(ROOT / "src"), str(ROOT)))  # this tree, whatever version is installed
    env = {**ours, "HUEY_FILE": str(server.folder / "huey.db")}
    env |= server.store.env if server.store else {}
    with (server.folder / "bench.log").open("ab") as log:
        if peer.setup:
            subprocess.run(python(*peer.setup), cwd=server.folder, env=env, stdout=log, stderr=log, check=True)
        for command in peer.commands(server.port, server.folder):
            process = subprocess.Popen(
                command, cwd=server.folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=lambda: pin(SERVER_CORE),
            )  # fmt: skip
            server.processes.append(process)


def _await_ready(server: Server, peer: Peer, within: float) -> None:
    deadline = time.monotonic() + within
    while not is_ready(server.port):
        ended = any(process.poll() is not None for process in server.processes)
        if ended or time.monotonic() > deadline:
            raise RuntimeError(f"{peer.name} did not start:\n{_said(server)}")
        time.sleep(0.01)


def _said(server: Server) -> str:
    """Return the end of its processes' logs."""
    return (server.folder / "bench.log").read_text(errors="replace")[-2000:]


def is_ready(port: int) -> bool:
    """Return whether GET /readyz answers 200."""
    statuses: list[int] = []
    with contextlib.suppress(OSError), Client(port, 1) as client:
        client.exchange([get("/readyz")], lambda status, _body, _took: statuses.append(status), until=float("inf"))
    return statuses == [200]


def _stop(server: Server) -> None:
    for process in server.processes:
        _signal_group(process, signal.SIGTERM)
    for process in server.processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal the process group of which this process is the leader."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
