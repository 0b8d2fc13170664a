"""The parts of a service that need an open engine: worker with executor, webhook dispatcher, use cases."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from random import SystemRandom
from secrets import token_hex

from tasker.api.replies import encode_task
from tasker.clock import Clock
from tasker.config.settings import SECRET_VARIABLES, Settings
from tasker.engines.protocol import Engine
from tasker.executor.executor import Executor
from tasker.executor.loop_watch import LoopWatch
from tasker.metrics import Metrics
from tasker.model import PartitionStats
from tasker.model.history import History
from tasker.release import release
from tasker.service import Service
from tasker.service.children import ChildLimits
from tasker.service.hub import Hub
from tasker.service.readiness import Health
from tasker.tasktypes.registry import Registry
from tasker.tasktypes.sources import find_recorded
from tasker.webhooks.dispatcher import Dispatcher
from tasker.webhooks.sender import Sender
from tasker.worker.attempts import AttemptRunner, BudgetCheck
from tasker.worker.steps import ChildStarter
from tasker.worker.worker import Worker


def make_service(
    settings: Settings,
    engine: Engine,
    registry: Registry,
    clock: Clock,
    *,
    hub: Hub,
    history: History,
    health: Health | None,
) -> Service:
    """Return the use cases. health: what the worker reports of itself, None without a worker."""
    return Service(
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
        child_limits=ChildLimits(settings.max_children, int(settings.max_body)),
        min_interval=settings.min_interval,
        url_rules=settings.url_rules,
        max_answer=int(settings.max_result),
        max_body=int(settings.max_body),
    )


def make_worker(settings: Settings, engine: Engine, registry: Registry, runner: AttemptRunner, clock: Clock) -> Worker:
    """Return a worker that is not started yet."""
    return Worker(
        engine,
        registry,
        runner,
        clock,
        slots=settings.slots,
        processes=settings.processes,
        lease_for=settings.lease,
        heartbeat_every=settings.heartbeat,
        queues=settings.queues,
    )


@contextlib.asynccontextmanager
async def open_worker(
    settings: Settings,
    engine: Engine,
    registry: Registry,
    clock: Clock,
    *,
    metrics: Metrics,
    history: History,
    check_budget: BudgetCheck,
    start_children: ChildStarter,
) -> AsyncIterator[tuple[Worker, Health]]:
    """Yield a worker that is not started yet, and its health check; close its executor at the end."""
    executor = _make_executor(settings, registry)
    await executor.open()
    loop_watch = LoopWatch()
    loop_watch.start()
    runner = AttemptRunner(
        engine,
        registry,
        executor,
        clock,
        metrics,
        random=SystemRandom(),
        history=history,
        check_budget=check_budget,
        start_children=start_children,
        max_output=int(settings.max_output),
    )
    worker = make_worker(settings, engine, registry, runner, clock)

    def health(partitions: list[PartitionStats]) -> dict[str, str]:
        return worker.health(partitions) | {"children": executor.health(), "loop": loop_watch.health()}

    try:
        yield worker, health
    finally:
        loop_watch.stop()
        await executor.close()


def _make_executor(settings: Settings, registry: Registry) -> Executor:
    return Executor(
        registry,
        targets=settings.tasks,
        processes=settings.processes,
        cancel_grace=settings.cancel_grace,
        child_max_tasks=settings.child_max_tasks,
        child_max_memory=None if settings.child_max_memory is None else int(settings.child_max_memory),
        max_result=int(settings.max_result),
        gpt=settings.gpt,
        secrets=SECRET_VARIABLES,
        in_process=settings.in_process,
        recorded=find_recorded(),
    )


@contextlib.asynccontextmanager
async def open_dispatcher(
    settings: Settings, engine: Engine, clock: Clock, *, metrics: Metrics, has_owners: Callable[[], bool]
) -> AsyncIterator[Dispatcher]:
    """Yield what notifies the receivers of webhooks, while it delivers. has_owners: whether keys distinguish owners."""
    sender = Sender(settings.url_rules, clock, agent=f"Tasker/{release()}")
    dispatcher = Dispatcher(
        engine,
        clock,
        SystemRandom(),
        post=sender.post,
        render=lambda task: encode_task(task, tracebacks=False),
        name=token_hex(8),
        count=metrics.webhook_attempted,
        has_owners=has_owners,
    )
    unwatch = engine.watch(dispatcher.on_changes)
    dispatcher.start()
    try:
        yield dispatcher
    finally:
        await dispatcher.close()
        unwatch()
        await sender.aclose()
