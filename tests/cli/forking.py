"""Many commands from one process, each in a fork: what a command imports is loaded once, and not for each of them.

Run as a program it reads requests, one on each line of JSON, and answers each with the exit code and what the command
wrote to standard error. Standard streams are made anew in the fork, as Python makes them at its start.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

LIMIT = 60


class Forks:
    """Runs commands in forks of a process that has loaded `tasker`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, words: Sequence[str], *, output: str, env: Mapping[str, str]) -> tuple[int, str]:
        """Return the exit code and standard error of a command.

        output: a file, `pipe` for one without a reader, or `closed`.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"words": list(words), "output": output, "env": dict(env)}) + "\n")
        self._process.stdin.flush()
        code, error = json.loads(self._process.stdout.readline())
        return code, error


@contextmanager
def forks() -> Iterator[Forks]:
    """Start the process that forks; end it with what it runs."""
    command = [sys.executable, "-m", "tests.cli.forking"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Forks(process)


def _serve() -> None:
    import tasker.wiring.app  # noqa: F401  loaded once, for all forks
    from tasker.cli import main

    with redirect_stdout(io.StringIO()):
        main(["ls", "--help"])
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryFile() as error:
            code = _fork(request, error.fileno())
            error.seek(0)
            print(json.dumps([code, error.read().decode()]), flush=True)


def _fork(request: dict[str, Any], error: int) -> int:
    process = os.fork()
    if process == 0:
        try:
            os._exit(_run(request, error))
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _run(request: dict[str, Any], error: int) -> int:
    import signal

    signal.alarm(LIMIT)
    os.environ.clear()
    os.environ.update(request["env"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(error, 2)
    _open_output(request["output"])
    encoding = request["env"]["PYTHONIOENCODING"]
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1)  # noqa: SIM115
    is_closed = request["output"] == "closed"
    sys.stdout = None if is_closed else io.TextIOWrapper(open(1, "wb", closefd=False), encoding=encoding)  # noqa: SIM115
    sys.argv = ["tasker", *request["words"]]
    from tasker.cli import main

    try:
        code = int(main())
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        return 120  # as Python ends then
    return code


def _open_output(output: str) -> None:
    """Make standard output what the request asks for."""
    if output == "closed":
        os.close(1)
    elif output == "pipe":
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
        os.close(writer)
    else:
        os.dup2(os.open(output, os.O_WRONLY), 1)


if __name__ == "__main__":
    _serve()
