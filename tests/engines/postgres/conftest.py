"""Several engines on one schema, as processes have them, and direct access to its tables."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.contract.engines import free_schemas, own_schema, postgres_engine, schema_of
from tests.postgres import cluster

from tasker.engines.postgres import PostgresEngine
from tasker.testing import Driver, ManualClock

MakeEngine = Callable[[], Awaitable[PostgresEngine]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


_CHANGED = ("levels", "own_queues", "failures", "family_plans", "lists", "many_partitions", "archive", "oracles")
"""Modules that alter their schema, or depend on its statistics."""


@pytest.fixture
def schema(tmp_path: Path, clock: ManualClock, request: pytest.FixtureRequest) -> Iterator[str]:
    """The schema of the test's engines; most tests get one that another test has had."""
    if request.module.__name__.rpartition(".test_")[2] in _CHANGED:
        yield own_schema(tmp_path)
    else:
        yield schema_of(tmp_path, clock)
        free_schemas()


@pytest.fixture
async def another(tmp_path: Path, clock: ManualClock, schema: str) -> AsyncIterator[MakeEngine]:
    """Opens one more engine on the test's schema."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_another() -> PostgresEngine:
            engine = await stack.enter_async_context(postgres_engine(tmp_path, clock, schema=schema))
            assert isinstance(engine, PostgresEngine)
            return engine

        yield open_another


@pytest.fixture
async def engine(another: MakeEngine) -> PostgresEngine:
    return await another()


@pytest.fixture
def driver(engine: PostgresEngine, clock: ManualClock) -> Driver:
    return Driver(engine, clock)


@pytest.fixture
async def sql(schema: str, engine: PostgresEngine) -> AsyncIterator[Callable[..., Awaitable[list[Any]]]]:
    """Runs SQL in the test's schema, as a person at psql would."""
    settings = {"search_path": f"{schema}, pg_catalog", "tasker.now": "2026-01-02"}
    connection = await asyncpg.connect(cluster().url, server_settings=settings)

    async def run(statement: str, *values: Any) -> list[Any]:
        return [tuple(row) for row in await connection.fetch(statement, *values)]

    yield run
    await connection.close()
