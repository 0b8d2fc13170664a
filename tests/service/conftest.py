"""A service over the real embedded engine, with a manual clock and without a worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.stores import open_store

from tasker import task
from tasker.engines.sqlite import SqliteEngine
from tasker.service import Service
from tasker.service.hub import Hub
from tasker.tasktypes.registry import Registry
from tasker.testing import Driver, ManualClock


@task(queue="numbers", priority=3, retry=4, timeout=7)
async def add(a: int, b: int = 1) -> int:
    return a + b


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def engine(tmp_path: Path, clock: ManualClock) -> AsyncIterator[SqliteEngine]:
    async with open_store(tmp_path / "tasker.db", clock) as engine:
        yield engine


@pytest.fixture
def hub(engine: SqliteEngine) -> Hub:
    hub = Hub()
    engine.watch(hub.publish)
    return hub


@pytest.fixture
def service(engine: SqliteEngine, clock: ManualClock, hub: Hub) -> Service:
    registry = Registry()
    registry.add(add)
    return Service(engine, registry, hub, clock, health=lambda _: {"worker": "ok"})


@pytest.fixture
def driver(engine: SqliteEngine, clock: ManualClock) -> Driver:
    return Driver(engine, clock)
