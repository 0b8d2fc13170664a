"""Fixtures of the suite that runs against every engine of engines.py."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import pytest
from tests.contract.engines import ENGINES, free_schemas

from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.model import Change
from tasker.testing import Driver, ManualClock


class MakeEngine(Protocol):
    """Opens an engine, which the end of the test closes. All engines of a test share one store."""

    async def __call__(self, clock: Clock | None = None) -> Engine: ...


@pytest.fixture(autouse=True)
def _reuse_schemas() -> Iterator[None]:
    yield
    free_schemas()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=sorted(ENGINES))
async def make_engine(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[MakeEngine]:
    async with contextlib.AsyncExitStack() as stack:

        async def make(other: Clock | None = None) -> Engine:
            return await stack.enter_async_context(ENGINES[request.param](tmp_path, other or clock))

        yield make


@pytest.fixture
async def engine(make_engine: MakeEngine) -> Engine:
    return await make_engine()


@pytest.fixture
def driver(engine: Engine, clock: ManualClock) -> Driver:
    return Driver(engine, clock)


async def open_after_the_end(
    make_engine: MakeEngine, clock: ManualClock, after: timedelta = timedelta(seconds=30)
) -> Engine:
    """Open a store whose last process has ended. Let the leases of a shared store expire, which takes up to `after`."""
    engine = await make_engine()
    if engine.is_shared:
        clock.advance(after + timedelta(seconds=1))
    return engine


class Changes:
    """Changes that an engine has reported to its listener."""

    def __init__(self, engine: Engine) -> None:
        self.heard: list[Change] = []
        self.batches: list[tuple[Change, ...]] = []
        self._news = asyncio.Event()
        self.stop = engine.watch(self._listen)

    def _listen(self, changes: Sequence[Change]) -> None:
        self.batches.append(tuple(changes))
        self.heard.extend(changes)
        self._news.set()

    async def until(self, *expected: Change) -> None:
        """Wait for each of `expected`. Raises AssertionError with what was reported instead."""
        try:
            async with asyncio.timeout(30):
                while not set(expected) <= set(self.heard):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            missing = [change for change in expected if change not in self.heard]
            raise AssertionError(f"not reported: {missing}; reported: {self.heard}") from None


@pytest.fixture
def changes(engine: Engine) -> Changes:
    return Changes(engine)
