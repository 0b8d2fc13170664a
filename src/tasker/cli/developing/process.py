"""One serving process of `tasker dev`, as its supervisor sees it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import termios
from time import monotonic
from typing import Self

from tasker.cli.developing.messages import Loaded, Message, Order, Refused, Started, encode, read_message

_LOAD_WITHIN = 60.0
"""Seconds that users' code may take to be imported."""
_LINE = 16 << 20
"""Longest line of a process, in bytes."""
_MARGIN = 10.0
"""Seconds after the drain until a process that has not ended is killed; it ends itself earlier."""


class Terminal:
    """The state of the terminal now. A process that ends while its debugger reads a line leaves it without echo."""

    def __init__(self) -> None:
        self._state = termios.tcgetattr(0) if os.isatty(0) else None

    def restore(self) -> None:
        """Put the state back."""
        if self._state is not None:
            with contextlib.suppress(termios.error):  # it was closed
                termios.tcsetattr(0, termios.TCSADRAIN, self._state)


class Process:
    """A process that loads the code, waits, serves, and ends. ended: done with its exit code."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        terminal: Terminal,
    ) -> None:
        self._process = process
        self._terminal = terminal
        self._reader = reader
        self._writer = writer
        self._drain = 0.0
        self.serving_since = monotonic()
        self.ended = asyncio.create_task(process.wait())

    @classmethod
    async def start(cls, bound: socket.socket, terminal: Terminal, *, has_input: bool) -> Self:
        """Start a process, which loads Tasker and waits for its order. has_input: it gets the terminal's input.

        terminal: what to put back at its end.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tasker.cli.developing.service",
                str(bound.fileno()),
                str(theirs.fileno()),
                stdin=None if has_input else subprocess.DEVNULL,
                pass_fds=(bound.fileno(), theirs.fileno()),
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=_LINE)
        return cls(process, reader, writer, terminal)

    async def load(self, order: Order) -> Loaded | Refused:
        """Have it load the code; wait until that is loaded, or is known not to be."""
        self._say(encode(order))
        try:
            async with asyncio.timeout(_LOAD_WITHIN):
                message = await self._hear()
        except TimeoutError:
            return Refused(f"the code was not loaded within {_LOAD_WITHIN:g} s: does it wait for something?")
        if isinstance(message, Loaded):
            self._drain = message.drain
        if isinstance(message, Loaded | Refused):
            return message
        return Refused(f"the process that loads the code has ended ({self.describe_end()})")

    async def serve(self) -> bool:
        """Let it serve; return whether it does: the database is its own from now on."""
        self._say(b"go")
        is_started = isinstance(await self._hear(), Started)
        self.serving_since = monotonic()
        return is_started

    async def stop(self) -> int:
        """Ask it to end, wait for that, and return its exit code. What runs gets a moment, then is given back."""
        self.terminate()
        done, _ = await asyncio.wait([self.ended], timeout=self._drain + _MARGIN)
        return await self.kill() if not done else self._end()

    async def kill(self) -> int:
        """End it at once, and return its exit code."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self.ended
        return self._end()

    def terminate(self) -> None:
        """Ask it to end. The second time it does not wait for running tasks."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def describe_end(self) -> str:
        """Return how it ended."""
        code = self._process.returncode
        if code is not None and code < 0:
            return f"signal {-code}, {signal.Signals(-code).name}"
        return "it says nothing" if code is None else f"exit code {code}"

    def _say(self, line: bytes) -> None:
        self._writer.write(line + b"\n")

    async def _hear(self) -> Message | None:
        """Return the next message; None if the process has ended."""
        line = b""
        with contextlib.suppress(ConnectionError):
            line = await self._reader.readline()
        if line:
            return read_message(line)
        await asyncio.wait([self.ended], timeout=_MARGIN)
        return None

    def _end(self) -> int:
        self._writer.close()
        self._terminal.restore()
        code = self._process.returncode or 0
        return code if code >= 0 else os.EX_SOFTWARE
