"""The service's side of one child process: start it, exchange frames with it, end it and all that it has started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from msgspec import Struct

from tasker.executor.frames import SLACK, Corrupt, Died, Ended, FromChild, Init, Reader, ToChild, encode
from tasker.executor.kernel import count_oom_kills, kill_group, kill_tree
from tasker.executor.raw_output import RawOutput
from tasker.tasktypes.sources import Recorded

LAST_FRAMES_WITHIN = 1.0
"""Seconds to wait for the last frames of a dead child while another process keeps its socket open."""
EXIT_WITHIN = 0.1
"""Seconds between the end of a child's connection and its exit, where the exit has closed the connection."""


class ChildSpec(Struct, frozen=True, kw_only=True):
    """How children are started. `secrets`: names of environment variables that they do not get.

    recorded: what they import instead of what is on disk.
    """

    targets: tuple[str, ...]
    max_result: int
    log_level: int
    secrets: tuple[str, ...]
    recorded: Recorded | None = None

    def init(self, gpt: Mapping[str, Any] | None) -> Init:
        """Return the first frame. A child that gets the settings of gpt, API key included, runs no user's code."""
        return Init(
            targets=() if gpt is not None else self.targets,
            sys_path=tuple(sys.path),
            max_result=self.max_result,
            log_level=self.log_level,
            gpt=None if gpt is None else dict(gpt),
            recorded=None if gpt is not None else self.recorded,
        )


class Listener(Protocol):
    """The current owner of a child, which handles its frames and its end."""

    def on_frame(self, frame: FromChild, /) -> None:
        """Take a frame from the child."""

    def on_corrupt(self, reason: str, /) -> None:
        """The child has sent bytes that are no frame, and is being killed."""

    def on_exit(self, detail: str, /) -> None:
        """The child has ended; it has been waited for, and its process group killed."""


class ChildProcess(asyncio.Protocol):
    """One child. It leads a process group (and session) of its own, and is always ended by SIGKILL."""

    def __init__(self, spec: ChildSpec, listener: Listener) -> None:
        self.listener = listener
        self.attempts = 0
        self.exited = asyncio.get_running_loop().create_future()
        self._reason: str | None = None
        self._oom_kills = count_oom_kills()
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(FromChild, spec.max_result + SLACK)
        self._socket, theirs = socket.socketpair()
        lifeline, self._lifeline = os.pipe()
        raw, raw_output = os.pipe()
        try:
            self._process = _spawn(theirs.fileno(), lifeline, raw_output, spec.secrets)
        except BaseException:
            self._socket.close()
            os.close(self._lifeline)
            os.close(raw)
            raise
        finally:
            theirs.close()
            os.close(lifeline)
            os.close(raw_output)
        self._raw_output = RawOutput(raw, lambda line: self.listener.on_frame(line))
        self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._on_exit)
        self._transport: asyncio.Transport | None = None
        self._is_killed = False
        self._is_disconnected = False
        self._has_ended = False

    async def connect(self, init: Init) -> None:
        """Open the connection and send the first frame."""
        transport, _ = await self._loop.create_unix_connection(lambda: self, sock=self._socket)
        self._transport = transport
        self.send(init)

    @property
    def is_usable(self) -> bool:
        return not (self._is_killed or self._is_disconnected or self._has_ended)

    def send(self, frame: ToChild) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(frame))

    def pause(self) -> None:
        """Stop reading until `resume`: the child's frames stay in the socket; when it is full, the child blocks."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again; idempotent."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def kill(self) -> None:
        """Kill the child and its descendants. Returns before they have ended; idempotent."""
        if not (self._is_killed or self._has_ended):
            self._is_killed = True
            kill_tree(self.pid)

    def kill_alone(self) -> None:
        """Kill a child that is known to have no descendants: the search for them takes a while."""
        if not (self._is_killed or self._has_ended):
            self._is_killed = True
            kill_group(self.pid)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                if isinstance(frame, Died):
                    self._reason = f"an exception came outside of its function: {frame.detail}"
                else:
                    if isinstance(frame, Ended):  # what was written before belongs to this attempt
                        self._raw_output.drain()
                    self.listener.on_frame(frame)
        except Corrupt as error:
            if self.is_usable:
                self.listener.on_corrupt(str(error))
                self.kill()

    def connection_lost(self, _error: Exception | None) -> None:
        """The child has ended or is about to; or it has closed its socket, and is killed because it is useless now."""
        self._transport = None
        self._is_disconnected = True
        if self._has_ended:
            self._finish()
        elif not self._is_killed:
            self._loop.call_later(EXIT_WITHIN, self._end_disconnected)

    def _end_disconnected(self) -> None:
        if not (self._is_killed or self._has_ended):
            self._reason = self._reason or "it closed its connection to the service, and was killed for that"
            self.kill()

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._has_ended = True
        kill_group(self.pid)  # before it is waited for: afterwards the number may belong to another process
        self._code = self._process.wait()
        os.close(self._pidfd)
        os.close(self._lifeline)
        if self._transport is None:
            self._socket.close()
            self._finish()
        else:
            self._loop.call_later(LAST_FRAMES_WITHIN, self._finish)

    def _finish(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)
            self._raw_output.drain()
            self._raw_output.close()
            if self._transport is not None:
                self._transport.abort()
            self.listener.on_exit(self._describe_end())

    def _describe_end(self) -> str:
        if self._reason is not None:
            return f"the process of the task ended: {self._reason}"
        if self._code >= 0:
            return f"the process of the task ended by itself, with exit code {self._code}"
        name = str(-self._code)
        with contextlib.suppress(ValueError):
            name = signal.Signals(-self._code).name
        return f"the process of the task was killed by {name}{self._memory_note(name)}"

    def _memory_note(self, name: str) -> str:
        """Name memory as the cause only if the kernel killed a process for lack of it in the child's lifetime."""
        kills = count_oom_kills()
        if name != "SIGKILL" or kills is None or self._oom_kills is None:
            return ""
        return " (the system ran out of memory)" if kills > self._oom_kills else " (not for lack of memory)"


def _spawn(sock: int, lifeline: int, output: int, secrets: Collection[str]) -> subprocess.Popen[bytes]:
    """Start a fresh interpreter: a fork would inherit the service's locks, held by threads, and its open database."""
    return subprocess.Popen(  # noqa: S603  our own program
        # -P: no file in the working directory may replace a module of ours; sys.path comes with Init
        [sys.executable, "-P", "-m", "tasker.executor.child", str(sock), str(lifeline)],
        pass_fds=(sock, lifeline),
        env={name: value for name, value in os.environ.items() if name not in secrets},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
