"""A service in which nothing happens by itself: whoever moves its clock says what comes next. Tests use it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from tasker.api.app import build_app
from tasker.api.replies import ASGIApp
from tasker.chores.loop import BATCH, Chore
from tasker.chores.plan import bulk_chore, engine_chores
from tasker.clock import Clock
from tasker.config.settings import SECRET_VARIABLES, Settings
from tasker.engines.protocol import Engine
from tasker.engines.sqlite import SqliteEngine, open_sqlite
from tasker.engines.sqlite.storage import open_writer
from tasker.executor.executor import Executor
from tasker.metrics import Metrics
from tasker.model import Claim
from tasker.model.history import History
from tasker.service import Service
from tasker.service.hub import Hub
from tasker.tasktypes.registry import Registry
from tasker.wiring.parts import make_service, make_worker
from tasker.worker.attempts import AttemptRunner
from tasker.worker.worker import Worker

_AT_ONCE = timedelta(0)


@dataclass(frozen=True, kw_only=True)
class ByHand:
    """A service on the embedded engine, whose worker, chores and schedules do one step at a time."""

    registry: Registry
    engine: Engine
    service: Service
    executor: Executor
    asgi: ASGIApp
    _embedded: SqliteEngine
    _worker: Worker
    _chores: tuple[Chore, ...]
    _upkeep: tuple[Chore, ...]

    async def run_next(self) -> Claim | None:
        """Run the attempt of the first task that is due to its end; return its claim, None if none is due."""
        return await self._worker.run_next()

    @property
    def has_new_schedules(self) -> bool:
        """Whether a schedule may be due that was not when `fire` looked."""
        return self.service.schedules.changed.is_set()

    async def fire(self) -> datetime | None:
        """Fire the schedules whose time has come; return the time of the next tick."""
        schedules = self.service.schedules
        while True:
            schedules.changed.clear()
            moment = await schedules.run_once()
            if not schedules.is_reading:
                return moment
            await schedules.changed.wait()

    async def next_moment(self) -> datetime | None:
        """Return when time alone makes the next task due, or fails one; None if it never does."""
        return await self._embedded.next_moment()

    async def do_chores(self) -> int:
        """Do what may make tasks due or end them: deadlines, limits, bulk actions; return how much there was."""
        done = 0
        for chore in self._chores:
            while changed := await chore.run_once():
                done += changed
                if changed < chore.full:
                    break
        return done

    async def count(self) -> None:
        """Bring the statistics up to date."""
        while await self.engine.stats.fold(limit=BATCH) >= BATCH:
            pass

    async def keep_up(self) -> None:
        """Do what else the service does now and then: statistics, retention, the worker's sign of life."""
        await self._worker.leases.heartbeat()
        for chore in self._upkeep:
            while await chore.run_once() >= chore.full:
                pass


@contextlib.asynccontextmanager
async def open_by_hand(
    settings: Settings, registry: Registry, clock: Clock, make_executor: Callable[..., Executor] = Executor
) -> AsyncIterator[ByHand]:
    """Open a service over a new store in `settings.data_dir`, without a network and without child processes.

    Webhooks are stored, and nothing is sent to them. Random delays are the same in each run.
    """
    hub, history, metrics = Hub(), History(), Metrics(slots=settings.slots)
    _make_store(settings.database_file)
    async with contextlib.AsyncExitStack() as stack:
        engine = await stack.enter_async_context(open_sqlite(settings.database_file, clock))
        stack.callback(engine.watch(hub.publish))
        service = make_service(settings, engine, registry, clock, hub=hub, history=history, health=None)
        executor = make_executor(
            registry,
            targets=(),
            processes=settings.processes,
            cancel_grace=settings.cancel_grace,
            child_max_tasks=settings.child_max_tasks,
            child_max_memory=None,
            max_result=int(settings.max_result),
            gpt=settings.gpt,
            secrets=SECRET_VARIABLES,
            in_process=True,
        )
        stack.push_async_callback(executor.close)
        runner = AttemptRunner(
            engine,
            registry,
            executor,
            clock,
            metrics,
            random=Random(0),  # noqa: S311  the same delays in each run
            history=history,
            check_budget=service.budgets.hold,
            start_children=service.children.start,
            max_output=int(settings.max_output),
        )
        runner.drain()  # nothing waits in memory: whoever waits for others parks, and they come next
        worker = make_worker(settings, engine, registry, runner, clock)
        await worker.leases.start()
        stack.push_async_callback(worker.drain, _AT_ONCE, asyncio.Event())
        stack.callback(service.close)
        stack.callback(service.stop)
        await service.keys.refresh()
        of_store = {chore.name: chore for chore in engine_chores(engine, clock, Random(0))}  # noqa: S311
        yield ByHand(
            registry=registry,
            engine=engine,
            service=service,
            executor=executor,
            asgi=build_app(service, settings, metrics, clock),
            _embedded=engine,
            _worker=worker,
            _chores=(of_store.pop("deadlines"), of_store.pop("sweep"), bulk_chore(service)),
            _upkeep=tuple(of_store.values()),
        )


def _make_store(path: Path) -> None:
    """Make the file of an empty store. Raises FileExistsError."""
    with path.open("xb") as file:
        file.write(_empty_store())


@lru_cache(maxsize=1)
def _empty_store() -> bytes:
    """Return the file of a store without tasks: to migrate an empty one takes longer than all else at the start."""
    with TemporaryDirectory(prefix="tasker-") as folder:
        path = Path(folder, "tasker.db")
        connection, _ = open_writer(path)
        connection.close()
        return path.read_bytes()
