"""The one place that names concrete parts: Settings -> engine, service, worker, ASGI app, server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from random import SystemRandom
from secrets import token_hex
from typing import Any

import structlog
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.net import SocketHolder  # type: ignore[attr-defined]
from granian.server.embed import Server
from starlette.types import ASGIApp

from tasker.api.app import build_app, build_probes
from tasker.api.replies import encode_task
from tasker.builtin import builtin_registry
from tasker.builtin.gpt.task import Gpt
from tasker.chores.loop import audit_chores, chores, key_chores, run_chores, type_chores
from tasker.clock import Clock, SystemClock
from tasker.config.settings import SECRET_VARIABLES, Settings
from tasker.engines.protocol import ArchiveStore, Engine
from tasker.engines.sqlite import open_sqlite
from tasker.errors import ConfigError, PortTaken, Unavailable
from tasker.executor import Executor
from tasker.executor.loop_watch import LoopWatch
from tasker.metrics import Metrics
from tasker.model import PartitionStats
from tasker.model.history import History
from tasker.model.journal import JournalLimits
from tasker.release import release
from tasker.service import Service
from tasker.service.audit import Audit
from tasker.service.cursors import Cursors
from tasker.service.hub import Hub
from tasker.service.keys import Keys
from tasker.tasktypes.registry import Registry, load, load_entry_points
from tasker.webhooks.dispatcher import Dispatcher
from tasker.webhooks.sender import Sender
from tasker.wiring.shutdown import FORCED, Shutdown
from tasker.worker.worker import Hold, Worker

_log = structlog.get_logger("tasker.tasks")

_MAX_CONNECTIONS = 20_000
"""Held connections before new ones queue: Granian's default queues clients past about 1,000 open waits."""
_MAX_FILES = 65_536
_BACKLOG = 4096
"""Connections that may wait to be taken."""
_CONNECTION_BUFFER = 256 * 1024
"""Bytes that the server may hold of one connection, each way: its own default is more than half as much again."""
_HEADERS_WITHIN = 10_000
"""Milliseconds that a client has for the headers of a request."""
_UNREAD_MILLIS = 120_000
"""How long a client may leave unread, or unacknowledged, what it is sent, before its connection is ended."""


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

        Return whether all that ran is stored.
        """
        self.service.stop()
        return self.worker is None or await self.worker.drain(self.settings.drain, force or asyncio.Event())


def make_registry(settings: Settings, gpt: Gpt) -> Registry:
    """Return every task type of this service: built in, the user's own, and installed.

    What cannot be loaded is left out, and logged. Raises NoSuchTarget for a target of the settings that is not there.
    """
    registry = builtin_registry(None, default_timeout=settings.timeout, default_retention=settings.retention)
    registry.add(gpt.function)
    load(registry, settings.tasks)
    load_entry_points(registry)  # last, as in child processes: the user's own types come first
    for fault in registry.faults:
        _log.error("tasks.not_loaded", target=fault.target, reason=fault.detail, types=list(fault.types))
    registry.url_rules = settings.url_rules
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
    opened = _import_postgres().open_postgres(
        settings.database_url.get_secret_value(), pool_size=settings.pool_size, lease=settings.lease, journal=limits
    )
    async with opened as engine:
        yield engine, engine.clock


async def migrate(settings: Settings) -> list[str]:
    """Bring the store up to date; return the names of what was done. Raises ConfigError."""
    if settings.database_url is not None:
        return list(await _import_postgres().migrate(settings.database_url.get_secret_value()))
    async with open_sqlite(settings.database_file, SystemClock()) as engine:
        return engine.migrated


@contextlib.asynccontextmanager
async def open_archive(settings: Settings) -> AsyncIterator[ArchiveStore]:
    """Open all that is stored, to export or import. Raises ConfigError, also where a service has the file."""
    async with open_engine(settings) as (engine, _):
        yield engine.archive


@contextlib.asynccontextmanager
async def open_keys(settings: Settings) -> AsyncIterator[tuple[Keys, Audit]]:
    """Open the keys of the store, and its record. Raises ConfigError, and StoreInUse where a service has the file."""
    async with open_engine(settings) as (engine, clock):
        yield Keys(engine.keys, clock, is_shared=engine.is_shared), Audit(engine.audit, Cursors(engine.keys))


def _import_postgres() -> Any:
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
        engine, clock = await stack.enter_async_context(open_engine(settings))
        gpt = Gpt(settings.gpt, clock, has_budgets=lambda: service.budgets.are_set)
        stack.push_async_callback(gpt.aclose)
        registry = make_registry(settings, gpt)
        stack.callback(engine.watch(hub.publish))
        worker: Worker | None = None
        health: Health | None = None
        if settings.worker:
            worker, health = await _open_worker(
                stack, settings, engine, registry, clock, metrics, history,
                hold=lambda claim: service.budgets.hold(claim),
            )  # fmt: skip
        service = Service(
            engine,
            registry,
            hub,
            clock,
            health=health,
            daily_budget=settings.daily_budget,
            history=history,
            max_pending=settings.max_pending,
            public_load=settings.public_load,
            max_queues=settings.max_queues,
            max_schedules=settings.max_schedules,
            min_interval=settings.min_interval,
        )
        await service.keys.refresh()
        await service.types.refresh()
        stack.push_async_callback(_note_uses, service.keys)
        asgi = (build_app if api else build_probes)(service, settings, metrics, clock)
        app = App(settings=settings, registry=registry, engine=engine, service=service, worker=worker, asgi=asgi)
        stack.push_async_callback(app.drain)
        own_chores = [
            *chores(engine, clock, random),
            *key_chores(service.keys, is_shared=engine.is_shared),
            *type_chores(service.types, is_shared=engine.is_shared and api),
            *audit_chores(service.audit),
        ]
        chore_loop = asyncio.create_task(run_chores(own_chores))
        stack.push_async_callback(_cancelled, chore_loop)
        firing = asyncio.create_task(service.schedules.run())
        stack.push_async_callback(_cancelled, firing)
        await _open_courier(stack, settings, engine, clock, metrics, has_owners=lambda: service.keys.are_used)
        if worker is not None:
            await service.types.publish()
            await worker.start()
        yield app


async def _open_courier(
    stack: contextlib.AsyncExitStack, settings: Settings, engine: Engine, clock: Clock, metrics: Metrics, *,
    has_owners: Callable[[], bool],
) -> None:  # fmt: skip
    """Start what tells the receivers of webhooks."""
    sender = Sender(settings.url_rules, clock, agent=f"Tasker/{release()}")
    stack.push_async_callback(sender.aclose)
    dispatcher = Dispatcher(
        engine, clock, SystemRandom(), post=sender.post, render=lambda task: encode_task(task, tracebacks=False),
        name=token_hex(8), count=metrics.webhook_attempted, has_owners=has_owners,
    )  # fmt: skip
    stack.callback(engine.watch(dispatcher.heard))
    stack.push_async_callback(dispatcher.close)
    dispatcher.start()


Health = Callable[[list[PartitionStats]], dict[str, str]]


async def _open_worker(
    stack: contextlib.AsyncExitStack, settings: Settings, engine: Engine, registry: Registry, clock: Clock,
    metrics: Metrics, history: History, *, hold: Hold,
) -> tuple[Worker, Health]:  # fmt: skip
    """Make what runs tasks, not started yet; return it and what it says of its health."""
    executor = Executor(
        registry, targets=settings.tasks, processes=settings.processes, cancel_grace=settings.cancel_grace,
        child_max_tasks=settings.child_max_tasks,
        child_max_memory=None if settings.child_max_memory is None else int(settings.child_max_memory),
        max_result=int(settings.max_result), gpt=settings.gpt, secrets=SECRET_VARIABLES,
    )  # fmt: skip
    await executor.open()
    stack.push_async_callback(executor.close)
    loop_watch = LoopWatch()
    loop_watch.start()
    stack.callback(loop_watch.stop)
    worker = Worker(
        engine, registry, executor, clock, metrics, slots=settings.slots, processes=settings.processes,
        lease_for=settings.lease, heartbeat_every=settings.heartbeat, random=SystemRandom(), queues=settings.queues,
        history=history, hold=hold, max_output=int(settings.max_output),
    )  # fmt: skip

    def health(lines: list[PartitionStats]) -> dict[str, str]:
        return worker.health(lines) | {"children": executor.health(), "loop": loop_watch.health()}

    return worker, health


async def serve(settings: Settings, bound: socket.socket, *, started: Callable[[App], Awaitable[None]]) -> int:
    """Serve HTTP until SIGTERM, SIGINT or SIGHUP, then drain; a second of the first two cuts the drain short.

    While it drains, HTTP goes on: tasks can be read and submitted, and those submitted are kept for the next start.
    bound: a socket bound to the settings' address; it is closed at the end. started: called once the service answers.
    Returns the exit code. Raises ConfigError (PortTaken: somebody else has begun to listen there), RegistrationError.
    """
    return await _run(settings, started, api=True, bound=bound)


async def work(settings: Settings, probes: socket.socket | None, *, started: Callable[[App], Awaitable[None]]) -> int:
    """Run tasks until SIGTERM, SIGINT or SIGHUP, then drain; a second of the first two cuts the drain short.

    probes: bound to where /livez, /readyz and /metrics are answered; None: nowhere. Raises what `serve` raises.
    """
    return await _run(settings, started, api=False, bound=probes)


async def _run(
    settings: Settings, started: Callable[[App], Awaitable[None]], *, api: bool, bound: socket.socket | None
) -> int:
    shutdown = Shutdown(settings.drain)
    shutdown.listen()
    _raise_file_limit()
    async with open_app(settings, api=api) as app, _listening(app, bound):
        _settle_memory()
        await started(app)
        await shutdown.stopping.wait()
        return 0 if await app.drain(shutdown.force) else FORCED


def _raise_file_limit() -> None:
    """Allow as many open files as we may: each connection is one, and the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _settle_memory() -> None:
    """Keep the garbage collector away from what lives as long as the service, and have it look less often.

    A task makes hundreds of short-lived objects; at Python's defaults the collector took 8 % of a submission's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@contextlib.asynccontextmanager
async def _listening(app: App, bound: socket.socket | None) -> AsyncIterator[None]:
    """Serve the app on a socket that is bound already; None: nowhere. Raises PortTaken."""
    if bound is None:
        yield
        return
    _listen(bound)
    host, port = bound.getsockname()[:2]
    server = _Server(bound, app.asgi)
    serving = asyncio.create_task(server.serve())
    try:
        await _answering(host, port, serving)
        yield
    finally:
        server.stop()  # type: ignore[no-untyped-call]
        await serving


class _Server(Server):
    """Granian's server on a socket of ours: with its own (SO_REUSEPORT), two services listen on one port in silence."""

    def __init__(self, listening: socket.socket, app: ASGIApp) -> None:
        super().__init__(
            app, interface=Interfaces.ASGINL, websockets=False, http=HTTPModes.http1, backpressure=_MAX_CONNECTIONS,
            log_enabled=False,
            http1_settings=HTTP1Settings(header_read_timeout=_HEADERS_WITHIN, max_buffer_size=_CONNECTION_BUFFER),
        )  # fmt: skip
        self._listening = listening

    def _init_shared_socket(self) -> None:
        descriptor = self._listening.detach()  # Granian closes it
        self._ssp, self._shd = None, SocketHolder(descriptor, False, _BACKLOG)  # type: ignore[assignment, call-arg]


def _listen(bound: socket.socket) -> None:
    """Have the socket take connections, and be the only one that does. Raises PortTaken."""
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit both
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MILLIS)  # the server has no such limit
    try:
        bound.listen(_BACKLOG)
    except OSError as error:
        host, port = bound.getsockname()[:2]
        raise PortTaken(f"TASKER_PORT: cannot listen on {host} at port {port}: {error.strerror}") from error


async def _answering(host: str, port: int, serving: asyncio.Task[None]) -> None:
    """Return once the server has taken a request; raise what ended the server instead."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  no address, but every address
    reader, writer = await asyncio.open_connection(reachable, port)
    try:
        writer.write(b"?\r\n\r\n")  # no HTTP: the server answers by itself, and the app never hears of it
        answered = asyncio.create_task(reader.read(1))
        await asyncio.wait([serving, answered], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
            raise RuntimeError("the HTTP server has ended before it answered")
    finally:
        writer.close()


async def _note_uses(keys: Keys) -> None:
    with contextlib.suppress(Unavailable):  # so that the last minute's uses of keys are told, if they can be
        await keys.record_uses()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
