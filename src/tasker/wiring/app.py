"""Make a service from Settings: engine, use cases, worker, ASGI app, server. Only here are concrete engines named."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from random import SystemRandom
from typing import Any

import structlog

from tasker.api.app import build_app, build_probes, make_gate
from tasker.api.replies import ASGIApp
from tasker.builtin import builtin_registry
from tasker.builtin.gpt.task import Gpt
from tasker.chores.plan import run_all
from tasker.clock import Clock, SystemClock
from tasker.config.settings import Settings
from tasker.engines.protocol import ArchiveStore, Engine
from tasker.engines.sqlite import open_sqlite
from tasker.errors import ConfigError, Unavailable
from tasker.metrics import Metrics
from tasker.model.history import History
from tasker.model.journal import JournalLimits
from tasker.service import Service
from tasker.service.audit import Audit
from tasker.service.cursors import Cursors
from tasker.service.hub import Hub
from tasker.service.keys import Keys
from tasker.service.readiness import Health
from tasker.tasktypes.registry import Registry, load, load_entry_points
from tasker.web.app import build_web, mount
from tasker.wiring.parts import make_service, open_dispatcher, open_worker
from tasker.wiring.server import listening, raise_file_limit, settle_memory
from tasker.wiring.shutdown import FORCED, STOP_SIGNALS, Shutdown
from tasker.worker.worker import Worker

_log = structlog.get_logger("tasker.tasks")


@dataclass(frozen=True, kw_only=True)
class App:
    """Everything of one running service."""

    settings: Settings
    registry: Registry
    engine: Engine
    service: Service
    worker: Worker | None
    asgi: ASGIApp

    async def drain(self, force: asyncio.Event | None = None) -> bool:
        """Let waits return, stop claiming, and give running attempts `settings.drain` (less on `force`). Idempotent.

        Return whether the end of every attempt is stored.
        """
        self.service.stop()
        return self.worker is None or await self.worker.drain(self.settings.drain, force or asyncio.Event())


def make_registry(settings: Settings, gpt: Gpt) -> Registry:
    """Return every task type of this service: built in, the user's own, and installed.

    What cannot be loaded is left out, and logged. Raises NoSuchTarget for a target of the settings that does not exist.
    """
    registry = builtin_registry(None, default_timeout=settings.timeout, default_retention=settings.retention)
    registry.add(gpt.function)
    load(registry, settings.tasks)
    load_entry_points(registry)  # last, as in child processes: the user's own types come first
    for fault in registry.faults:
        _log.error("tasks.not_loaded", target=fault.target, reason=fault.detail, types=list(fault.types))
    return registry


@contextlib.asynccontextmanager
async def open_engine(settings: Settings) -> AsyncIterator[tuple[Engine, Clock]]:
    """Open the engine that the settings ask for; yield it and the clock of its store.

    Raises ConfigError, and StoreInUse where a service has the file.
    """
    limits = JournalLimits(settings.keep_events, int(settings.keep_events_size))
    if settings.database_url is None:
        clock, spill_over = SystemClock(), int(settings.spill_over)
        async with open_sqlite(settings.database_file, clock, journal=limits, spill_over=spill_over) as embedded:
            yield embedded, clock
        return
    opened = import_postgres().open_postgres(
        settings.database_url.get_secret_value(),
        listen_url=_listen_url(settings),
        pool_size=settings.pool_size,
        lease=settings.lease,
        journal=limits,
    )
    async with opened as engine:
        yield engine, engine.clock


async def migrate(settings: Settings) -> list[str]:
    """Migrate the store; return the names of the applied migrations. Raises ConfigError."""
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        return list(await import_postgres().migrate(url, listen_url=_listen_url(settings)))
    async with open_sqlite(settings.database_file, SystemClock()) as engine:
        return engine.migrated


@contextlib.asynccontextmanager
async def open_archive(settings: Settings) -> AsyncIterator[ArchiveStore]:
    """Open the store for an export or import. Raises ConfigError, also if a service has the file."""
    async with open_engine(settings) as (engine, _):
        yield engine.archive


@contextlib.asynccontextmanager
async def open_keys(settings: Settings) -> AsyncIterator[tuple[Keys, Audit]]:
    """Open the keys of the store, and its audit log. Raises ConfigError, and StoreInUse if a service has the file."""
    async with open_engine(settings) as (engine, clock):
        yield Keys(engine.keys, clock, is_shared=engine.is_shared), Audit(engine.audit, Cursors(engine.keys))


def _listen_url(settings: Settings) -> str | None:
    return None if settings.listen_url is None else settings.listen_url.get_secret_value()


def import_postgres() -> Any:
    """Return the distributed engine's module: its libraries are an extra."""
    try:
        from tasker.engines import postgres
    except ModuleNotFoundError as error:
        if error.name not in ("asyncpg", "pgqueuer"):
            raise
        raise ConfigError(
            f"TASKER_DATABASE_URL: PostgreSQL needs the package {error.name}: pip install 'taskerd[postgres]'"
        ) from error
    return postgres


@contextlib.asynccontextmanager
async def open_app(settings: Settings, *, api: bool = True) -> AsyncIterator[App]:
    """Run the service without a network server: store, worker (`settings.worker`), chores and the ASGI app.

    api: whether the app answers for tasks, or for probes alone. Leaving it drains: running attempts may end within
    `settings.drain`, the rest is given back. Raises ConfigError, RegistrationError.
    """
    random, hub, history = SystemRandom(), Hub(), History()
    metrics = Metrics(slots=settings.slots if settings.worker else 0)
    async with contextlib.AsyncExitStack() as stack:
        gpt = Gpt(settings.gpt, has_budgets=lambda: service.budgets.are_set)
        stack.push_async_callback(gpt.aclose)
        registry = make_registry(settings, gpt)  # before the store: what is refused here has migrated nothing
        engine, clock = await stack.enter_async_context(open_engine(settings))
        stack.callback(engine.watch(hub.publish))
        worker: Worker | None = None
        health: Health | None = None
        if settings.worker:
            opening = open_worker(
                settings,
                engine,
                registry,
                clock,
                metrics=metrics,
                history=history,
                check_budget=lambda claim: service.budgets.hold(claim),
                start_children=lambda *request: service.children.start(*request),
            )
            worker, health = await stack.enter_async_context(opening)
        service = make_service(settings, engine, registry, clock, hub=hub, history=history, health=health)
        await service.keys.refresh()
        await service.types.refresh()
        stack.push_async_callback(_record_uses, service.keys)
        asgi = (
            _make_faces(service, settings, metrics, clock) if api else build_probes(service, settings, metrics, clock)
        )
        app = App(settings=settings, registry=registry, engine=engine, service=service, worker=worker, asgi=asgi)
        stack.push_async_callback(app.drain)
        dispatcher = await stack.enter_async_context(
            open_dispatcher(settings, engine, clock, metrics=metrics, has_owners=lambda: service.keys.are_used)
        )
        running = run_all(engine, service, clock, random, api=api, dispatch=dispatcher.keep_dispatching)
        stack.push_async_callback(_cancel, asyncio.create_task(running))
        if worker is not None:
            await service.types.publish()
            await worker.start()
        yield app


def _make_faces(service: Service, settings: Settings, metrics: Metrics, clock: Clock) -> ASGIApp:
    """Return the API and the pages over it."""
    gate = make_gate(service, settings, clock)
    api = build_app(service, settings, metrics, clock, gate=gate)
    return mount(api, build_web(service, settings, metrics, clock, gate))


async def serve(
    settings: Settings,
    bound: socket.socket,
    *,
    started: Callable[[App], Awaitable[None]],
    hands_over: bool = False,
) -> int:
    """Serve HTTP until SIGTERM, SIGINT or SIGHUP, then drain; a second SIGTERM or SIGINT cuts the drain short.

    HTTP goes on during the drain: tasks can be read and submitted, and submitted ones are kept for the next start.
    bound: a socket bound to the settings' address; it is closed at the end. started: called once the service answers.
    hands_over: another process is to serve on the same socket: requests wait for it from the first signal on, which is
    SIGTERM; other signals are the terminal's. Returns the exit code.
    Raises ConfigError (PortTaken: another process has begun to listen there), RegistrationError.
    """
    return await _run(settings, started, api=True, bound=bound, hands_over=hands_over)


async def work(settings: Settings, probes: socket.socket | None, *, started: Callable[[App], Awaitable[None]]) -> int:
    """Run tasks until SIGTERM, SIGINT or SIGHUP, then drain; a second SIGTERM or SIGINT cuts the drain short.

    probes: a bound socket for /livez, /readyz and /metrics; None: they are not served. Raises what `serve` raises.
    """
    return await _run(settings, started, api=False, bound=probes)


async def _run(
    settings: Settings,
    started: Callable[[App], Awaitable[None]],
    *,
    api: bool,
    bound: socket.socket | None,
    hands_over: bool = False,
) -> int:
    shutdown = Shutdown(settings.drain, (signal.SIGTERM,) if hands_over else STOP_SIGNALS)
    shutdown.listen()
    raise_file_limit()
    async with open_app(settings, api=api) as app:
        async with listening(app.asgi, bound):
            settle_memory()
            await started(app)
            await shutdown.stopping.wait()
            app.service.stop(hands_over=hands_over)  # waits return
            if not hands_over:
                return 0 if await app.drain(shutdown.force) else FORCED
        return 0 if await app.drain(shutdown.force) else FORCED


async def _record_uses(keys: Keys) -> None:
    with contextlib.suppress(Unavailable):  # the uses of the last minute, if they can still be stored
        await keys.record_uses()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
