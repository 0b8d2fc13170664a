"""Commands in forks of one process that has loaded `tasker`: what a command imports is loaded once, not for each.

Run as a program it receives commands over a socket, each with the standard streams and a socket for the exit code.
Streams are made anew in the fork, as Python makes them at its start.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
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


class Forks:
    """Runs commands in forks of a process that has loaded `tasker`. Threads may share it."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.cli.forking", str(theirs.fileno())]
        in_background = ["sh", "-c", '"$@" &', "sh"]  # no child of this process: other tests count these
        subprocess.run([*in_background, *command], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, check=True)
        theirs.close()

    def close(self) -> None:
        """End the process once its commands have ended."""
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
        given = {"words": list(words), "env": dict(env), "folder": str(folder or Path.cwd()), "closed": closed}
        request = json.dumps(given).encode()
        assert len(request) < _LONGEST, "too long: use a process"
        reply, theirs = socket.socketpair()
        with reply:
            socket.send_fds(self._control, [request], [*streams, theirs.fileno()])
            theirs.close()
            reply.settimeout(LIMIT)
            return int(reply.recv(100) or b"99")


@cache
def forks() -> Forks:
    """Return the process that forks, which ends with this one."""
    made = Forks()
    atexit.register(made.close)
    return made


def _serve(control: socket.socket) -> None:
    import tasker.wiring.app  # noqa: F401  loaded once, for all forks
    from tasker.cli import main

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
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def _answer(request: dict[str, Any], descriptors: list[int]) -> None:
    """Run the command in one more process, which may end in any way, and send its exit code."""
    *streams, reply = descriptors
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = os.fork()
    if process == 0:
        os.close(reply)
        try:
            os._exit(_run(request, streams))
        finally:
            os._exit(99)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    os.write(reply, str(code).encode())


def _run(request: dict[str, Any], streams: list[int]) -> int:
    signal.alarm(LIMIT)
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
