"""An executor over real child processes, and a reporter that a test can wait on."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import psutil

from tasker.builtin import builtin_registry
from tasker.config.settings import GptSettings
from tasker.executor.attempt import Stop
from tasker.executor.executor import Executor
from tasker.model import Claim, Policy, Progress, new_task_id
from tasker.rules.lifecycle import Outcome
from tasker.tasktypes.registry import Registry, load
from tasker.tasktypes.steps import Stepper
from tasker.testing import START

TASKS = str(Path(__file__).with_name("sample_tasks.py"))
LIMIT = 40.0
"""Seconds after which a test gives up waiting; none should take that long."""


class Recorder:
    """An Observer that keeps all reports, by kind. Like the worker's, it is for the loop's thread only."""

    def __init__(self) -> None:
        self.progresses: list[Progress] = []
        self.chunks: list[str] = []
        self.logs: list[tuple[str, str, dict[str, Any]]] = []
        self.printed_lines: list[tuple[str, str]] = []
        self.used: dict[str, Any] = {}
        self.step_events: list[tuple[str, dict[str, Any]]] = []
        self.peak: int | None = None
        self._news = asyncio.Event()

    def progress(self, progress: Progress) -> None:
        asyncio.get_running_loop()
        self.progresses.append(progress)

    def output(self, chunk: str) -> None:
        asyncio.get_running_loop()
        self.chunks.append(chunk)
        self._news.set()

    def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        asyncio.get_running_loop()
        self.logs.append((level, message, dict(fields)))

    def usage(self, usage: Mapping[str, Any]) -> None:
        asyncio.get_running_loop()
        self.used.update(usage)

    def step(self, event: str, data: Mapping[str, Any]) -> None:
        asyncio.get_running_loop()
        self.step_events.append((event, dict(data)))

    max_output: int | None = None
    is_cut_off = False
    is_full = False

    def when_not_full(self, callback: Callable[[], None]) -> None:
        callback()

    def printed(self, line: str, stream: str | None = None) -> bool:
        asyncio.get_running_loop()
        if stream is not None:
            self.printed_lines.append((stream, line))
        return True

    def peak_memory(self, size: int) -> None:
        assert self.peak is None, "reported once"
        self.peak = size

    async def heard(self, count: int = 1) -> list[str]:
        """Wait for that many pieces of output and return them."""
        async with asyncio.timeout(LIMIT):
            while len(self.chunks) < count:
                self._news.clear()
                await self._news.wait()
        return self.chunks


class Signal:
    """An event that any loop or thread may set, and any loop may wait for: functions run on other loops."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        for loop, event in self._waiting:
            loop.call_soon_threadsafe(event.set)

    async def wait(self) -> None:
        event = asyncio.Event()
        self._waiting.append((asyncio.get_running_loop(), event))
        if not self._is_set:
            await event.wait()


class Running:
    """An attempt under way in a test."""

    def __init__(self, task: asyncio.Task[Outcome], stop: Stop, recorder: Recorder, claim: Claim) -> None:
        self.task = task
        self.stop = stop
        self.recorder = recorder
        self.claim = claim

    async def outcome(self) -> Outcome:
        async with asyncio.timeout(LIMIT):
            return await self.task


class Rig:
    """An executor; `run` runs a type by name and returns the outcome, `start` does not wait for it."""

    def __init__(self, registry: Registry, executor: Executor) -> None:
        self.registry = registry
        self.executor = executor

    def start(
        self,
        type_name: str,
        *params: Any,
        timeout: float | None = None,
        isolate: bool = False,
        attempt: int = 1,
        stepper: Stepper | None = None,
    ) -> Running:
        stop, recorder, claim = Stop(), Recorder(), make_claim(type_name, params, timeout, attempt)
        run = self.executor.run(claim, recorder, stop, isolate=isolate, stepper=stepper)
        return Running(asyncio.create_task(run), stop, recorder, claim)

    async def run(self, type_name: str, *params: Any, timeout: float | None = None, isolate: bool = False) -> Outcome:
        return await self.start(type_name, *params, timeout=timeout, isolate=isolate).outcome()

    @property
    def free_children(self) -> int:
        """How many `def` tasks could begin now without waiting for another to end."""
        return self.executor._pool.free

    async def value(self, type_name: str, *params: Any, isolate: bool = False) -> Any:
        """Run and return what the function returned."""
        outcome = await self.run(type_name, *params, isolate=isolate)
        return msgspec.json.decode(outcome.result)  # type: ignore[union-attr]


def make_claim(type_name: str, params: Iterable[Any] = (), timeout: float | None = None, attempt: int = 1) -> Claim:
    limit = None if timeout is None else timedelta(seconds=timeout)
    return Claim(
        task_id=new_task_id(START),
        attempt=attempt,
        type=type_name,
        params=msgspec.json.encode(tuple(params)),
        queue="default",
        priority=0,
        policy=Policy(timeout=limit),
        tries=0,
        crashes=0,
        interruptions=0,
        started_at=START,
        worker="test",
    )


@contextlib.asynccontextmanager
async def open_rig(*, targets: Iterable[str] = (TASKS,), **settings: Any) -> AsyncIterator[Rig]:
    registry = builtin_registry(GptSettings(provider="openai"))
    load(registry, [target for target in targets if Path(target).parent == Path(TASKS).parent])
    defaults: dict[str, Any] = {
        "processes": 1,
        "cancel_grace": timedelta(seconds=LIMIT),
        "child_max_tasks": 1000,
        "child_max_memory": None,
        "max_result": 1 << 20,
        "gpt": GptSettings(provider="openai"),
        "secrets": (),
    }
    executor = Executor(registry, targets=tuple(targets), **(defaults | settings))
    await executor.open()
    try:
        yield Rig(registry, executor)
    finally:
        async with asyncio.timeout(LIMIT):
            await executor.close()


class Vanishing:
    """A process identified while it lives, so that the test waits for its end and not for another's."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)

    async def gone(self) -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._pidfd, ended.set)
        try:
            async with asyncio.timeout(LIMIT):
                await ended.wait()
        finally:
            loop.remove_reader(self._pidfd)
            os.close(self._pidfd)


async def gone(pid: int) -> None:
    """Wait for the end of a process that may have ended already."""
    with contextlib.suppress(ProcessLookupError):
        await Vanishing(pid).gone()


def own_children() -> list[psutil.Process]:
    """Return this process's children, zombies included, without the services that other suites may run."""
    return [child for child in psutil.Process().children() if not _is_service(child)]


def _is_service(child: psutil.Process) -> bool:
    try:
        return child.name() == "postgres" or "serve" in child.cmdline()
    except psutil.Error:
        return False
