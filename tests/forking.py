"""Processes of `tasker` as forks of one that has loaded it: imports take a second, once instead of for each.

Run as a program it receives commands over a socket, each with the standard streams and a socket on which it tells the
process id and later the exit code. Streams are made anew in the fork, as Python makes them at its start.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

LIMIT = 60
"""Seconds that a command may take."""
_LONGEST = 100_000
"""Bytes of one request: its words and its environment."""
_LOADED = ("tasker.wiring.app", "tasker.cli.banner", "tasker.engines.postgres", "tasker.engines.sqlite")
"""What a service loads at its start or soon after."""


class Forked:
    """A process that was forked, with the methods of subprocess.Popen that tests use. pid: leads its own session."""

    def __init__(self, reply: socket.socket) -> None:
        self._reply = reply
        self.pid = int(reply.recv(100))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, and return the exit code. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            ready, _, _ = select.select([self._reply], [], [], timeout)
            if not ready:
                raise subprocess.TimeoutExpired("tasker", timeout or 0)
            self.returncode = int(self._reply.recv(100) or b"99")
            self._reply.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Forks:
    """Starts commands in forks of a process that has loaded `tasker`. Threads may share it."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.forking", str(theirs.fileno())]
        in_background = ["sh", "-c", '"$@" &', "sh"]  # no child of this process: other tests count these
        subprocess.run([*in_background, *command], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, check=True)
        theirs.close()

    def close(self) -> None:
        """End the process; those that it has forked go on."""
        self._control.close()

    def run(
        self,
        words: Sequence[str],
        streams: Sequence[int],
        *,
        env: Mapping[str, str],
        folder: Path | None = None,
        closed: bool = False,
    ) -> int:
        """Return the exit code of a command. streams: input, output and errors. closed: it has no output."""
        return self._fork(
            streams, words=list(words), env=dict(env), folder=str(folder or Path.cwd()), closed=closed
        ).wait(LIMIT)

    def start(self, words: Sequence[str], streams: Sequence[int], *, env: Mapping[str, str], folder: Path) -> Forked:
        """Start a service."""
        return self._fork(streams, words=list(words), env=dict(env), folder=str(folder), is_service=True)

    def _fork(self, streams: Sequence[int], **wanted: Any) -> Forked:
        request = json.dumps({"closed": False, "is_service": False, **wanted}).encode()
        assert len(request) < _LONGEST, "too long: use a process"
        reply, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        socket.send_fds(self._control, [request], [*streams, theirs.fileno()])
        theirs.close()
        return Forked(reply)


@cache
def forks() -> Forks:
    """Return the process that forks, which ends with this one."""
    made = Forks()
    atexit.register(made.close)
    return made


def _serve(control: socket.socket) -> None:
    from tasker.cli import main

    for name in _LOADED:
        importlib.import_module(name)
    with contextlib.redirect_stdout(io.StringIO()):
        main(["ls", "--help"])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, _LONGEST, 4)
        if not request:
            return
        if os.fork() == 0:
            control.close()
            _answer(json.loads(request), descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def _answer(request: dict[str, Any], descriptors: list[int]) -> None:
    """Run the command in one more process, which may end in any way; tell its id, and at its end the exit code.

    It is killed when nobody is left to hear of its end: pytest has been killed.
    """
    *streams, reply = descriptors
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = os.fork()
    if process == 0:
        os.close(reply)
        _become(request, streams)
        return
    os.setpgid(0, 0)  # what ends the group of pytest leaves this one to end the service
    for stream in streams:
        os.close(stream)
    os.write(reply, str(process).encode())
    end = os.pidfd_open(process)
    ready, _, _ = select.select([reply, end], [], [])
    if end not in ready:
        os.kill(process, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # nobody asks
        os.write(reply, str(code).encode())
    os._exit(0)


def _become(request: dict[str, Any], streams: list[int]) -> None:
    """Be the process of a command. A service ends as Python does: it waits for threads, and runs what is to be run."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # sh lets what it starts in the background ignore it
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    if request["is_service"]:
        os.setsid()
        sys.path[0] = request["folder"]  # as `python -m` has it
        sys.exit(_run(request, streams))
    signal.alarm(LIMIT)
    try:
        os._exit(_run(request, streams))
    finally:
        os._exit(99)


def _run(request: dict[str, Any], streams: list[int]) -> int:
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["folder"])
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    encoding = request["env"].get("PYTHONIOENCODING", "utf-8")
    sys.stdin = open(0, encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding=encoding, errors="backslashreplace", closefd=False, buffering=1)  # noqa: SIM115
    if request["closed"]:
        os.close(1)
        sys.stdout = None
    else:
        sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False), encoding=encoding)  # noqa: SIM115
    sys.argv = ["tasker", *request["words"]]
    return _end(_main())


def _main() -> int:
    from tasker.cli import main

    try:
        return int(main())
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1


def _end(code: int) -> int:
    sys.stderr.flush()
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        return 120  # as Python ends then
    return code


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
