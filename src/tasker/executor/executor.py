"""Run attempts: pick a loop, a child or a thread for each, and return its outcome."""

from __future__ import annotations

import asyncio
import dis
import logging
from collections.abc import Collection, Sequence
from contextvars import copy_context
from datetime import timedelta
from functools import lru_cache
from typing import Any

import structlog
from pydantic import SecretStr

from tasker.config.settings import GptSettings
from tasker.executor.attempt import Observer, Stop
from tasker.executor.call import Call
from tasker.executor.in_child import ChildAttempt
from tasker.executor.in_thread import ThreadAttempt
from tasker.executor.loop_reporter import ServiceLoop
from tasker.executor.on_loop import LoopAttempt
from tasker.executor.pool import CannotStart, Pool
from tasker.executor.process import ChildProcess, ChildSpec
from tasker.executor.task_loop import Mailbox, TaskLoops
from tasker.logs.attempt import ATTEMPT, LoggedAttempt
from tasker.model import Claim
from tasker.rules.lifecycle import Cancelled, Crashed, Failed, Outcome, Released, problem
from tasker.tasktypes.registry import Registry, TaskType
from tasker.tasktypes.sources import Recorded
from tasker.tasktypes.steps import Stepper

CLOSE_WITHIN = 1.0
"""Seconds that cancelled functions on the service's loop get to end when the executor closes."""

_log = structlog.get_logger("tasker.executor")


class Executor:
    """Runs `async def` functions on task loops (built-in ones on the service's loop), `def` in child processes.

    targets: what children load (files, folders, modules). processes: the most children at a time. cancel_grace: how
    long a cancelled function may take to end. child_max_tasks, child_max_memory (bytes, None for no limit): a child is
    replaced after that many attempts, or when it holds more memory after one. max_result: bytes of JSON. secrets:
    environment variables that children do not get. log_level: of `logging` in children. in_process: `def` functions
    run in threads of this process, and there are no children at all: see `in_thread` for what that cannot do.
    recorded: what children import instead of what is on disk.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        targets: Sequence[str],
        processes: int,
        cancel_grace: timedelta,
        child_max_tasks: int,
        child_max_memory: int | None,
        max_result: int,
        gpt: GptSettings,
        secrets: Collection[str],
        log_level: int = logging.INFO,
        in_process: bool = False,
        recorded: Recorded | None = None,
    ) -> None:
        self._in_process = in_process
        self._registry = registry
        self._grace = cancel_grace
        self._max_result = max_result
        self._gpt = gpt
        spec = ChildSpec(
            targets=tuple(targets),
            max_result=max_result,
            log_level=log_level,
            secrets=tuple(secrets),
            recorded=recorded,
        )
        self._pool = Pool(spec, size=processes, max_attempts=child_max_tasks, max_memory=child_max_memory)
        self._stops: set[Stop] = set()
        self._mailbox = Mailbox(asyncio.get_running_loop())
        self._service_loop = ServiceLoop(self._mailbox)
        self._task_loops = TaskLoops()
        self._on_service_loop: set[asyncio.Task[Outcome]] = set()

    async def open(self) -> None:
        """Start a first child, so that the first task finds it ready; do not wait for it."""
        if not self._in_process:
            self._pool.open()

    async def close(self) -> None:
        """End what still runs as Released, kill every child process with its group, wait for their end. Idempotent."""
        for stop in list(self._stops):
            stop.abandon(Released())
        await self._pool.close()
        if self._on_service_loop:
            await asyncio.wait(self._on_service_loop, timeout=CLOSE_WITHIN)
        if not await self._task_loops.close():
            _log.warning("executor.not_ended", detail="an async function goes on; only the end of the process stops it")

    def health(self) -> str:
        """Return "ok", or why child processes do not start or async tasks do not run."""
        return f"child processes do not start: {self._pool.fault}" if self._pool.fault else self._task_loops.health()

    async def run(
        self,
        claim: Claim,
        observer: Observer,
        stop: Stop,
        *,
        stepper: Stepper | None = None,
        isolate: bool = False,
    ) -> Outcome:
        """Run one attempt and return how it ended; never raises, whatever the function does.

        A `def` function waits for a free child process; its time counts from its start there. stepper: keeps the steps
        of a function that takes a context. isolate: run it, async or not, in a child of its own, outside the pool, that
        ends with it; in_process, where it runs else.
        """
        if stop.is_requested:
            return stop.abandoned or Cancelled()
        task_type = self._registry.find(claim.type)
        if task_type is None:
            return Failed(problem("unknown-type", f"there is no task type {claim.type}"))
        self._stops.add(stop)
        try:
            if task_type.is_async and (self._in_process or not isolate):
                return await self._run_on_loop(task_type, claim, observer, stop, stepper)
            if self._in_process:
                return await self._run_in_thread(task_type, claim, observer, stop, stepper)
            return await self._run_in_child(task_type, claim, observer, stop, stepper, isolate)
        finally:
            self._stops.discard(stop)

    def run_at_once(self, claim: Claim) -> Outcome | None:
        """Run an attempt of a function that awaits nothing, and return how it ended; None if it needs `run`.

        Nothing can stop such an attempt or time it out: it occupies the service's loop until it ends. So it needs no
        asyncio task, no timer and no Stop.
        """
        task_type = self._registry.find(claim.type)
        if task_type is None or not _ends_at_once(task_type):
            return None
        variables = copy_context()
        variables.run(ATTEMPT.set, LoggedAttempt(claim.task_id, claim.attempt, claim.type))
        return variables.run(Call(task_type, claim.params, None, self._max_result).run_at_once)

    async def _run_on_loop(
        self, task_type: TaskType, claim: Claim, observer: Observer, stop: Stop, stepper: Stepper | None
    ) -> Outcome:
        is_builtin = _is_builtin(task_type)
        back = self._service_loop if is_builtin else self._mailbox
        attempt = LoopAttempt(
            task_type,
            claim,
            observer,
            stop,
            grace=self._grace,
            max_result=self._max_result,
            back=back,
            stepper=stepper,
        )
        if is_builtin:
            self._begin_here(attempt)
            return await attempt.outcome()
        self._task_loops.start(attempt)
        try:
            return await attempt.outcome()
        finally:
            self._task_loops.forget(attempt)

    def _begin_here(self, attempt: LoopAttempt) -> None:
        attempt.begin(asyncio.get_running_loop())
        assert attempt.function_task is not None
        self._on_service_loop.add(attempt.function_task)
        attempt.function_task.add_done_callback(self._on_service_loop.discard)

    async def _run_in_thread(
        self, task_type: TaskType, claim: Claim, observer: Observer, stop: Stop, stepper: Stepper | None
    ) -> Outcome:
        attempt = ThreadAttempt(
            task_type,
            claim,
            observer,
            stop,
            grace=self._grace,
            max_result=self._max_result,
            back=self._mailbox,
            stepper=stepper,
        )
        return await attempt.outcome()

    async def _run_in_child(
        self,
        task_type: TaskType,
        claim: Claim,
        observer: Observer,
        stop: Stop,
        stepper: Stepper | None,
        isolate: bool,
    ) -> Outcome:
        child = None if isolate else self._pool.take()
        if child is None:
            obtained = await self._obtain(task_type, stop, isolate)
            if not isinstance(obtained, ChildProcess):
                return obtained
            child = obtained
        attempt = ChildAttempt(
            child, claim, observer, stop, grace=self._grace, memory_limit=task_type.memory_limit, stepper=stepper
        )
        try:
            return await attempt.outcome()
        finally:
            self._give_back(child, isolate, attempt.leftovers)

    async def _obtain(self, task_type: TaskType, stop: Stop, isolate: bool) -> ChildProcess | Outcome:
        """Wait for a child; or return the outcome if none can start, or if the worker stops the attempt meanwhile."""
        start = self._pool.start_alone(self._gpt_fields(task_type)) if isolate else self._pool.acquire()
        waiting = asyncio.get_running_loop().create_task(start)
        stop.attach(lambda: _cancel(waiting))
        try:
            await asyncio.wait([waiting])
        except asyncio.CancelledError:
            waiting.cancel()
            waiting.add_done_callback(lambda done: self._drop(done, isolate))
            raise
        finally:
            stop.detach()
        if stop.is_requested:
            self._drop(waiting, isolate)
            return stop.abandoned or Cancelled()
        try:
            return waiting.result()
        except CannotStart as error:
            return Crashed(str(error))

    def _drop(self, waiting: asyncio.Task[ChildProcess], isolate: bool) -> None:
        """Give back a child that is no longer wanted."""
        if not waiting.cancelled() and waiting.exception() is None:
            self._give_back(waiting.result(), isolate, False)

    def _give_back(self, child: ChildProcess, isolate: bool, leftovers: bool) -> None:
        if isolate:
            self._pool.end(child, leftovers=leftovers)
        else:
            self._pool.release(child, leftovers=leftovers)

    def _gpt_fields(self, task_type: TaskType) -> dict[str, Any] | None:
        """Return the settings of gpt, API key included, if the child is to run gpt, else None."""
        if task_type.function.__module__ != "tasker.builtin.gpt.task":
            return None
        return {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in self._gpt}


def _is_builtin(task_type: TaskType) -> bool:
    """Return whether the function is built in: it neither blocks nor exits, so it can do without another thread."""
    module = getattr(task_type.function, "__module__", None) or ""
    return module.startswith("tasker.builtin.")


@lru_cache(maxsize=1000)
def _ends_at_once(task_type: TaskType) -> bool:
    """Return whether a function is built in and needs nothing but its params: it awaits nothing, and reports nothing.

    Every await, `async for` and `async with` is compiled to a SEND.
    """
    needs_more = task_type.context_parameter is not None or task_type.costs or task_type.secrets is not None
    if needs_more or not task_type.is_async or not _is_builtin(task_type):
        return False
    return all(step.opname != "SEND" for step in dis.get_instructions(task_type.function))


def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
