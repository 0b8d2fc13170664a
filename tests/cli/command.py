"""Runs `tasker` as a user does: in a process of its own, with pipes or on a terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.forking import forks
from tests.server import clean_environment, has_only_settings

LIMIT = 60.0
_SERVICES = {("serve",), ("worker",), ("dev",)}


class Done(NamedTuple):
    """The result of a finished command."""

    code: int
    out: str
    err: str


def tasker(*args: str, env: Mapping[str, str] | None = None, input: str = "", folder: Path | None = None) -> Done:
    """Run `tasker` with pipes until it ends.

    A fork is enough for a command that is no service, in an environment that does not change how Python starts.
    """
    env = env or {}
    if args[:1] in _SERVICES or not has_only_settings(env):
        return _in_a_process(args, env, input, folder)
    return _in_a_fork(args, env, input, folder)


def _in_a_process(args: Sequence[str], env: Mapping[str, str], input: str, folder: Path | None) -> Done:
    done = subprocess.run(
        [sys.executable, "-m", "tasker", *args],
        env=clean_environment(**env),
        input=input,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def _in_a_fork(args: Sequence[str], env: Mapping[str, str], input: str, folder: Path | None) -> Done:
    (source, sink), (out, out_end), (err, err_end) = os.pipe(), os.pipe(), os.pipe()
    with ThreadPoolExecutor(3) as threads:
        threads.submit(_write, sink, input.encode())
        texts = [threads.submit(_read, end) for end in (out, err)]
        try:
            code = forks().run(args, (source, out_end, err_end), env=clean_environment(**env), folder=folder)
        finally:
            for end in (source, out_end, err_end):
                os.close(end)
    return Done(code, *(text.result().decode() for text in texts))


def _write(descriptor: int, data: bytes) -> None:
    with suppress(BrokenPipeError), open(descriptor, "wb") as pipe:
        pipe.write(data)


def _read(descriptor: int) -> bytes:
    with open(descriptor, "rb") as pipe:
        return pipe.read()


class Terminal:
    """`tasker` on a terminal of its own: what it shows so far, keys pressed, its end."""

    def __init__(self, process: subprocess.Popen[bytes], screen: int) -> None:
        self.process = process
        self.shown = ""
        self.screen = screen

    def wait_for(self, text: str) -> str:
        """Return everything shown so far, once it contains `text`."""
        while text not in self.shown:
            assert self._read(), f"ended without showing {text!r}:\n{self.shown}"
        return self.shown

    def press(self, keys: str) -> None:
        os.write(self.screen, keys.encode())

    def hang_up(self) -> None:
        """Close the terminal's window: the process gets SIGHUP, and its output is dropped."""
        os.close(self.screen)
        self.screen = -1

    def close(self) -> None:
        if self.screen != -1:
            os.close(self.screen)

    def end(self) -> int:
        """Read the rest of the output, and return the exit code."""
        while self._read():
            pass
        return self.process.wait(LIMIT)

    def _read(self) -> bool:
        ready, _, _ = select.select([self.screen], [], [], LIMIT)
        assert ready, f"nothing new for {LIMIT:g} s:\n{self.shown}"
        try:
            data = os.read(self.screen, 65536)
        except OSError:  # Linux says so when the other side has closed
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)


@contextmanager
def on_terminal(
    *args: str, env: Mapping[str, str] | None = None, folder: Path | None = None, under: tuple[str, ...] = ()
) -> Iterator[Terminal]:
    """Run `tasker` (under another command, if given) on a terminal; kill it at the end."""
    screen, inner = pty.openpty()
    process = subprocess.Popen(
        [*under, sys.executable, "-m", "tasker", *args],
        env=clean_environment(**{"TERM": "xterm", "COLUMNS": "200", **(env or {})}),
        cwd=folder,
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    os.close(inner)
    terminal = Terminal(process, screen)
    try:
        yield terminal
    finally:
        process.kill()
        process.wait()
        terminal.close()


def _take_terminal() -> None:
    """Make standard input the controlling terminal, so that Ctrl-C is a signal.

    It is ignored in what a script runs in the background, tests too, and children would inherit that.
    """
    import fcntl
    import termios

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
