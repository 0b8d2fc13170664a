"""A real server for tests: `python -m tasker serve` in a process of its own, on a free port of the loopback."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

START_LIMIT = 30.0
STOP_LIMIT = 40.0


@dataclass(frozen=True)
class Server:
    """A running service: `log` is the file with all it has printed, from byte `log_start` on since this start."""

    url: str
    port: int
    process: subprocess.Popen[bytes]
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
    port: int | None = None,
    under: tuple[str, ...] = (),
) -> Iterator[Server]:
    """Start a service in `folder` (data in `folder`/data, kept for a second start) and wait until it is ready.

    `args` go to `tasker serve`, which runs `under` another command if one is given (strace...).
    TASKER_* and OPENAI_* of the surroundings are withheld; `env` is added.
    On the way out the process is ended; its log is printed if the body failed.
    """
    server = _start(folder, args, env or {}, port or free_port(), under)
    try:
        _wait_until_ready(server)
        yield server
    except BaseException:
        print(f"--- {server.log} ---\n{server.text()}", file=sys.stderr)
        raise
    finally:
        _end(server.process)


def free_port() -> int:
    """Return a port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment(**more: str) -> dict[str, str]:
    """Return the environment without settings of Tasker or of a model's provider, with `more` added."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TASKER_", "OPENAI_"))}
    return kept | more


def _start(folder: Path, args: tuple[str, ...], env: Mapping[str, str], port: int, under: tuple[str, ...]) -> Server:
    data_dir = folder / "data"
    log = folder / "server.log"
    command = [*under, sys.executable, "-m", "tasker", "serve", "--port", str(port), "--data-dir", str(data_dir), *args]
    log_start = log.stat().st_size if log.exists() else 0
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=clean_environment(**env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return Server(f"http://127.0.0.1:{port}", port, process, log, data_dir, log_start)


def _wait_until_ready(server: Server) -> None:
    limit = monotonic() + START_LIMIT
    while not (_is_ready(server.port) and _has_banner(server)):
        with suppress(subprocess.TimeoutExpired):
            code = server.process.wait(timeout=0.05)
            raise AssertionError(f"the server ended with exit code {code} before it was ready")
        assert monotonic() < limit, f"the server is not ready after {START_LIMIT:g} s"


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
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


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the service; whatever it left in its session is ended with it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
