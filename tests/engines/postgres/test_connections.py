"""The pool of a process: it knows the types of our statements, and it is open before the first burst."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from random import Random
from typing import Any

import asyncpg
import pytest
from tests.postgres import cluster

from tasker.engines.postgres import PostgresEngine, connections, open_postgres
from tasker.engines.postgres.sql import queries
from tasker.engines.postgres.tables import numbered
from tasker.engines.protocol import ClaimRequest
from tasker.rules.lifecycle import Succeeded, decide
from tasker.testing import make_draft

AT_ONCE = timedelta(0)


@pytest.fixture
def url() -> str:
    return cluster().fresh_database()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The questions about types that connections have put to the server: the numbers of the types of each."""
    asked: list[list[int]] = []
    ask = asyncpg.connection.Connection._introspect_types

    async def noted(self: Any, typeoids: Any, timeout: Any) -> Any:
        asked.append(list(typeoids))
        return await ask(self, typeoids, timeout)

    monkeypatch.setattr(asyncpg.connection.Connection, "_introspect_types", noted)
    return asked


async def run_tasks(engine: PostgresEngine, count: int) -> None:
    """Submit tasks in two transactions, run them to their end, and read beside it, on all connections of the pool."""
    now = engine.clock.now()
    drafts = [make_draft(now) for _ in range(count)]
    await asyncio.gather(*(engine.submit([one]) for one in drafts), *(engine.stats.open_counts() for _ in range(8)))
    request = ClaimRequest("here", [drafts[0].type], count, timedelta(minutes=1))
    claims = await engine.claim(request, wait_for=AT_ONCE)
    assert len(claims) == count
    ends = [decide(Succeeded(b"6"), claim, now, Random()) for claim in claims]
    await asyncio.gather(*(engine.complete(claim.lease, end) for claim, end in zip(claims, ends, strict=True)))


async def test_a_new_process_asks_for_one_type_alone(url: str, asked: list[list[int]]) -> None:
    """PgQueuer's own, whose number differs from database to database; it asks once, whatever the size of the pool."""
    async with open_postgres(url):  # migrates
        pass
    asked.clear()
    async with open_postgres(url) as engine:
        await run_tasks(engine, 5)
        await asyncio.gather(*(engine.find_events(make_draft(engine.clock.now()).task_id) for _ in range(8)))
    assert len(asked) == 1


async def test_the_types_of_every_statement_are_known(url: str, asked: list[list[int]]) -> None:
    async with open_postgres(url) as engine:
        connection = await engine._connections.connect()
        asked.clear()
        for text in queries("tasker").values():
            await connection.prepare(numbered(text)[0])
        await connection.close()
    assert asked == []


async def test_a_type_that_is_not_ours_is_asked_for_once(url: str, asked: list[list[int]]) -> None:
    cluster().sql("CREATE TYPE mood AS ENUM ('sad', 'happy')", url.rsplit("/", 1)[1])
    async with open_postgres(url) as engine:
        asked.clear()
        for _ in range(2):
            connection = await engine._connections.connect()
            assert await connection.fetchval("SELECT ARRAY['sad', 'happy']::mood[]") == ["sad", "happy"]
            assert await connection.fetchval("SELECT 'sad'::mood") == "sad"
            await connection.close()
    assert len(asked) == 1


async def test_the_whole_pool_is_open_before_it_is_needed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_FILL_AFTER", 0)
    async with open_postgres(url, pool_size=5) as engine:
        assert engine._connections._filling is not None
        await engine._connections._filling
        assert engine._connections._pool.get_size() == 5
        await run_tasks(engine, 5)
        assert engine._connections._pool.get_size() == 5
