"""A worker over the real engine and the real executor; tasks signal what they do, nothing sleeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Annotated

from tasker import Context, Fail, Retry, Snooze, secret, task
from tasker.builtin.reverse import reverse
from tasker.builtin.sum import sum as sum_
from tasker.clock import SystemClock
from tasker.config.settings import GptSettings
from tasker.executor.executor import Executor
from tasker.metrics import Metrics
from tasker.model import Task
from tasker.model.history import History
from tasker.rules.urls import UrlRules
from tasker.service.admission import OpenQueues
from tasker.service.children import ChildLimits, ChildService
from tasker.service.reading import Reading
from tasker.tasktypes.registry import Registry
from tasker.testing import make_draft
from tasker.worker.attempts import AttemptRunner, BudgetCheck
from tasker.worker.worker import Worker
from tests.executor.rig import Signal
from tests.stores import open_store

NOW = timedelta(0)


class Stage:
    """What the tasks of a test do, and how the test steers them."""

    def __init__(self) -> None:
        self.started = Signal()
        self.release = Signal()
        self.runs: list[str] = []


class OffsetClock(SystemClock):
    """The machine's clocks; a test may set the wall clock."""

    ahead = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.ahead


class Rig:
    """A worker with all that it needs; tests use `submit` and `until`."""

    def __init__(self, folder: Path, *, check_budget: BudgetCheck | None = None, **worker: timedelta | int) -> None:
        self.clock = OffsetClock()
        self._opening = open_store(folder / "tasker.db", self.clock)
        self.stage = Stage()
        self.registry = Registry()
        for function in (*_functions(self.stage), *_with_steps(self.stage), reverse, sum_):
            self.registry.add(function)
        self.executor = Executor(
            self.registry,
            targets=(),
            processes=1,
            cancel_grace=timedelta(seconds=0.2),
            child_max_tasks=10,
            child_max_memory=None,
            max_result=1000,
            gpt=GptSettings(),
            secrets=(),
        )
        self._check_budget = check_budget
        self.settings = {"slots": 3, "processes": 1, "lease_for": timedelta(seconds=30)} | worker
        self._news = asyncio.Event()
        self.metrics, self.history = Metrics(), History()

    async def open(self) -> None:
        self.engine = await self._opening.__aenter__()
        self.engine.watch(lambda _: self._news.set())
        runner = AttemptRunner(
            self.engine,
            self.registry,
            self.executor,
            self.clock,
            self.metrics,
            random=Random(0),
            history=self.history,
            check_budget=self._check_budget,
            start_children=self._make_children().start,
        )
        self.worker = Worker(
            self.engine,
            self.registry,
            runner,
            self.clock,
            heartbeat_every=timedelta(seconds=10),
            **self.settings,  # type: ignore[arg-type]
        )
        await self.worker.start()

    def _make_children(self) -> ChildService:
        reading = Reading(self.registry, self.clock, UrlRules())
        return ChildService(
            self.engine.steps, reading, self.clock, OpenQueues(self.engine.queues, self.clock), ChildLimits(20, 1000)
        )

    async def close(self) -> None:
        await self.worker.drain(NOW, asyncio.Event())
        await self.executor.close()
        await self._opening.__aexit__(None, None, None)

    async def submit(self, type: str, params: bytes = b"[]", **more: object) -> Task:
        draft = make_draft(self.clock.now(), type=type, params=params, **more)  # type: ignore[arg-type]
        await self.engine.submit([draft])
        return await self.get(draft)

    async def get(self, task: object) -> Task:
        found = await self.engine.find(task.task_id)  # type: ignore[attr-defined]
        assert found is not None
        return found

    async def until(self, task: Task, is_so: Callable[[Task], bool]) -> Task:
        """Return the task once `is_so`; show the task if it takes too long."""
        try:
            async with asyncio.timeout(30):
                while not is_so(found := await self.get(task)):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"the task never came so far: {await self.get(task)}") from None
        return found

    async def end(self, task: Task) -> Task:
        return await self.until(task, lambda found: found.status.is_terminal)


def _functions(stage: Stage) -> list[Callable[..., object]]:
    @task
    async def add(a: int, b: int) -> int:
        stage.runs.append("add")
        return a + b

    @task
    async def hold(context: Context) -> str:
        """Runs until the test releases it."""
        stage.runs.append("hold")
        stage.started.set()
        await stage.release.wait()
        return "released"

    @task
    async def fail() -> None:
        raise Fail("it cannot work")

    @task
    async def again() -> None:
        stage.runs.append("again")
        raise Retry(after=0)

    @task
    async def later(context: Context) -> int:
        if context.attempt == 1:
            raise Snooze(0)
        return context.attempt

    @task
    async def chatty(context: Context) -> None:
        context.output("one ")
        context.output("two")
        context.progress(0.5, message="half")
        context.log("a line", colour="red")
        context.usage(tokens=3)
        stage.started.set()
        await stage.release.wait()
        context.output("three")
        context.usage(seconds=1)

    return [add, hold, fail, again, later, chatty]


def _with_steps(stage: Stage) -> list[Callable[..., object]]:
    @task
    async def nap(context: Context, seconds: float) -> str:
        stage.runs.append(await context.step("one", lambda: f"one of {context.attempt}"))
        stage.started.set()
        await context.sleep("nap", seconds=seconds)
        return "slept"

    @task(retry=2)
    async def second(context: Context) -> str:
        """Fails once, after a step."""
        done = await context.step("one", lambda: f"one of {context.attempt}")
        if context.attempt == 1:
            raise Retry(after=0)
        return done

    @task
    async def pay(context: Context, card: Annotated[str, secret]) -> str:
        await context.step("pay", lambda: {"card": card, "paid": True})
        await context.sleep("a while", seconds=1.2)
        done: dict[str, object] = await context.step("again", lambda: card)
        return "has it" if done == card else "lost it"

    return [nap, second, pay]
