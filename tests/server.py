"""Real processes for tests: `tasker serve` (or `worker`), each on a port that is held for it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import BinaryIO

from tests.forking import Forked, forks

Process = subprocess.Popen[bytes] | Forked

LOOPBACK = "127.0.0.1"
START_LIMIT = 60.0
STOP_LIMIT = 40.0


@dataclass(frozen=True)
class Server:
    """A running service: `log` is the file with all it has printed, from byte `log_start` on since this start."""

    url: str
    port: int
    process: Process
    log: Path
    data_dir: Path
    log_start: int = 0

    def kill(self) -> None:
        """End it as a power cut would: no chance to clean up."""
        self.process.kill()
        self.process.wait()

    def stop(self, timeout: float = STOP_LIMIT) -> int:
        """Ask it to stop (SIGTERM), wait, and return its exit code."""
        self.process.terminate()
        return self.process.wait(timeout)

    def text(self) -> str:
        return self.log.read_text(errors="replace")


@contextmanager
def run_server(
    folder: Path,
    *args: str,
    env: Mapping[str, str] | None = None,
    host: str = LOOPBACK,
    under: tuple[str, ...] = (),
    name: str = "server",
    port: int | None = None,
) -> Iterator[Server]:
    """Start a service in `folder` (data in `folder`/data, kept for a second start) and wait until it is ready.

    `args` go to `tasker serve`, which runs `under` another command if one is given (strace...).
    TASKER_* and OPENAI_* of the surroundings are withheld; `env` is added. `name` names its log. `port`: one that the
    caller holds, such as that of an earlier start. On the way out the process is ended; its log is printed if the body
    failed.
    """
    command = ("serve", "--data-dir", str(folder / "data"), *args)
    with _run(folder, command, env or {}, host, under, name, port) as server:
        _wait_until(server, lambda: _is_ready(host, server.port) and _has_banner(server))
        yield server


@contextmanager
def run_worker(
    folder: Path,
    *args: str,
    env: Mapping[str, str],
    host: str = LOOPBACK,
    under: tuple[str, ...] = (),
    name: str,
) -> Iterator[Server]:
    """Start `tasker worker` like run_server; `url` and `port` are those of its health."""
    with _run(folder, ("worker", *args), env, host, under, name) as worker:
        _wait_until(worker, lambda: _is_ready(host, worker.port))
        yield worker


@contextmanager
def _run(
    folder: Path,
    command: tuple[str, ...],
    env: Mapping[str, str],
    host: str,
    under: tuple[str, ...],
    name: str,
    port: int | None = None,
) -> Iterator[Server]:
    with held_port() if port is None else nullcontext(port) as port:
        server = _start(folder, command, env, (host, port), under, name)
        try:
            yield server
        except BaseException:
            print(f"--- {server.log} ---\n{server.text()}", file=sys.stderr)
            raise
        finally:
            _end(server.process)


def hold_port(host: str = LOOPBACK) -> socket.socket:
    """Return a socket that reserves its port until it is closed; nothing answers there.

    The system never assigns the port to a socket that asks for any port (measured on Linux). A server that names it can
    bind it, as SO_REUSEADDR allows two sockets while this one does not listen.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((host, 0))
    return held


@contextmanager
def held_port() -> Iterator[int]:
    """Hold a port meanwhile, as hold_port() does."""
    with hold_port() as held:
        yield int(held.getsockname()[1])


def clean_environment(**more: str) -> dict[str, str]:
    """Return the environment without settings of Tasker or of a model's provider, with `more` added."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TASKER_", "OPENAI_"))}
    return kept | more


def _start(
    folder: Path,
    command: tuple[str, ...],
    env: Mapping[str, str],
    address: tuple[str, int],
    under: tuple[str, ...],
    name: str,
) -> Server:
    host, port = address
    log = folder / f"{name}.log"
    log_start = log.stat().st_size if log.exists() else 0
    with log.open("ab") as output:
        process = _start_process([*command, "--host", host, "--port", str(port)], folder, env, under, output)
    return Server(f"http://{host}:{port}", port, process, log, folder / "data", log_start)


def _start_process(
    words: list[str], folder: Path, env: Mapping[str, str], under: tuple[str, ...], output: BinaryIO
) -> Process:
    """Start `tasker`: as a fork, unless something has to be there before Python starts."""
    environment = clean_environment(**env)
    if not under and has_only_settings(env):
        with open(os.devnull) as nothing:
            streams = (nothing.fileno(), output.fileno(), output.fileno())
            return forks().start(words, streams, env=environment, folder=folder)
    return subprocess.Popen(
        [*under, sys.executable, "-m", "tasker", *words],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def has_only_settings(env: Mapping[str, str]) -> bool:
    """Tell whether an environment changes nothing that Python or the system read as a process starts."""
    return all(name.startswith(("TASKER_", "OPENAI_")) for name in env)


def _wait_until(server: Server, is_ready: Callable[[], bool]) -> None:
    limit = monotonic() + START_LIMIT
    while not is_ready():
        with suppress(subprocess.TimeoutExpired):
            code = server.process.wait(timeout=0.05)
            raise AssertionError(f"the process ended with exit code {code} before it was ready")
        assert monotonic() < limit, f"the process is not ready after {START_LIMIT:g} s"


def _is_ready(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _has_banner(server: Server) -> bool:
    """Tell whether the banner is complete: it is printed once the service answers."""
    return b"stop: Ctrl-C" in server.log.read_bytes()[server.log_start :]


def _end(process: Process) -> None:
    """End the process (also one that is stopped); whatever it left in its session is ended with it."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"SIGTERM did not end the process within {STOP_LIMIT:g} s") from None
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
