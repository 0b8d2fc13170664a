"""A real PgBouncer in transaction mode between the pools of processes and the database."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from random import Random
from typing import Any

import asyncpg
import pytest
from tests.pooler import Pooler, run_pooler
from tests.postgres import Cluster, database_of

from tasker.engines.postgres import PostgresEngine, migrate, open_postgres
from tasker.engines.postgres.connections import session_settings
from tasker.engines.postgres.sql import queries
from tasker.engines.protocol import ClaimRequest
from tasker.errors import ConfigError, Unavailable
from tasker.model import Claim, Status
from tasker.rules.lifecycle import Succeeded, decide
from tasker.testing import make_draft

HOUR = timedelta(hours=1)
Open = Callable[[], Awaitable[PostgresEngine]]


@pytest.fixture(scope="module")
def pooler(cluster: Cluster) -> Iterator[Pooler]:
    with run_pooler(cluster) as pooler:
        yield pooler


@pytest.fixture
def url(cluster: Cluster) -> str:
    """The database itself."""
    return cluster.fresh_database()


@pytest.fixture
def pooled(pooler: Pooler, url: str) -> str:
    """The same database, through the pooler."""
    return pooler.url_of(database_of(url))


@pytest.fixture
async def another(url: str, pooled: str) -> AsyncIterator[Open]:
    """Opens one more engine that goes through the pooler."""
    async with AsyncExitStack() as stack:

        async def open_another() -> PostgresEngine:
            return await stack.enter_async_context(open_postgres(pooled, listen_url=url, pool_size=4))

        yield open_another


async def claim(engine: PostgresEngine, worker: str, limit: int = 10, wait_for: timedelta = HOUR) -> list[Claim]:
    return await engine.claim(ClaimRequest(worker, ["sum"], limit, HOUR), wait_for=wait_for)


async def finish(engine: PostgresEngine, claims: list[Claim]) -> None:
    ends = [decide(Succeeded(b"6"), one, engine.clock.now(), Random()) for one in claims]
    assert all(await asyncio.gather(*(engine.complete(one.lease, end) for one, end in zip(claims, ends, strict=True))))


async def test_tasks_run_and_wake_others_through_a_pooler(another: Open) -> None:
    """More at a time than the pooler has sessions: statements of one process run in all of them."""
    api, worker = await another(), await another()
    waiting = asyncio.create_task(claim(worker, "there"))
    await asyncio.sleep(0)
    heard = asyncio.Event()
    api.watch(lambda changes: heard.set() if any(one.status.is_terminal for one in changes) else None)
    drafts = [make_draft(api.clock.now(), is_awaited=True) for _ in range(40)]
    async with asyncio.timeout(20):
        await asyncio.gather(*(api.submit([draft]) for draft in drafts), *(api.stats.open_counts() for _ in range(40)))
        left = len(drafts)
        claims = await waiting
        while claims:
            await finish(worker, claims)
            left -= len(claims)
            claims = await claim(worker, "there", wait_for=timedelta(0)) if left else []
        await heard.wait()
    found = await asyncio.gather(*(api.find(draft.task_id) for draft in drafts))
    assert {task and task.status for task in found} == {Status.COMPLETED}


async def test_the_lock_on_the_name_of_a_worker_is_seen_by_others(another: Open) -> None:
    one, other = await another(), await another()
    assert await one._listener.hold("here", "channel")
    query = "SELECT count(*) FROM pg_locks WHERE objid::bigint = hashtext('here')::bigint & 4294967295 AND granted"
    assert await other._connections.look(lambda connection: connection.fetchval(query)) == 1


def test_no_statement_needs_a_session() -> None:
    """But those of the listening connection and of migrations, which are not among the named ones."""
    needs = re.compile(r"pg_(try_)?advisory_(un)?lock|\bTEMP(ORARY)?\b|\bWITH HOLD\b|\bLISTEN\b|(\A|;\s*)SET (?!LOCAL)")
    assert needs.search("SELECT pg_advisory_lock(1)")
    assert not needs.search("SELECT pg_advisory_xact_lock(1)")
    assert [name for name, text in queries("tasker").items() if needs.search(text)] == []


async def test_each_transaction_and_read_has_the_settings_of_a_session(another: Open) -> None:
    """And leaves none behind in the pooler's sessions, which belong to others next."""
    engine = await another()
    expected = {name: value for name, value in session_settings({}).items() if not name.startswith("tcp_")}

    async def shown(connection: Any) -> dict[str, str]:
        return {name: await connection.fetchval(f"SELECT current_setting('{name}')") for name in expected}

    assert await engine._connections.look(shown) == expected
    assert await engine._connections.transact(lambda tx: shown(tx.connection)) == expected
    async with engine._connections.snapshot() as connection:
        assert await shown(connection) == expected | {"idle_in_transaction_session_timeout": "0"}
    async with engine._connections.taken() as connection:
        assert await connection.fetchval("SELECT current_setting('statement_timeout')") == "0"


async def test_a_leader_that_freezes_at_any_moment_locks_nothing(
    another: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pooler would keep its transaction, and nobody could take its lead: so it is one message."""
    engine = await another()
    assert await engine.lead.hold()
    sent: list[str] = []
    execute = asyncpg.Connection.execute

    async def noted(connection: Any, statement: str, *values: Any, **options: Any) -> Any:
        sent.append(statement)
        assert not values
        return await execute(connection, statement, *values, **options)

    monkeypatch.setattr(asyncpg.Connection, "execute", noted)
    assert await engine.lead.hold()
    assert len(sent) == 1
    assert "UPDATE tasker.lead" in sent[0]
    assert "BEGIN" not in sent[0]


async def test_a_read_that_fails_gives_its_session_back(another: Open) -> None:
    engine = await another()
    for _ in range(10):
        with pytest.raises(asyncpg.UndefinedTableError):
            await engine._connections.look(lambda connection: connection.fetch("SELECT FROM no_such_table"))
    async with asyncio.timeout(5):
        await asyncio.gather(*(engine.stats.open_counts() for _ in range(10)))


async def test_statements_that_a_migration_has_changed_are_prepared_no_more(another: Open) -> None:
    """A pooler that carries prepared statements goes on using the older ones in its sessions."""
    engine = await another()
    pool = engine._connections._pool
    pool.set_connect_args(pool._connect_args[0], **engine._connections._options | {"statement_cache_size": 100})
    tried: list[object] = []

    async def once_outdated(connection: Any) -> int:
        tried.append(connection)
        if len(tried) % 2:
            raise asyncpg.InvalidCachedStatementError("cached plan must not change result type")
        return int(await connection.fetchval("SELECT 6"))

    assert await engine._connections.look(once_outdated) == 6
    assert pool._connect_kwargs["statement_cache_size"] == 0
    assert await engine._connections.transact(once_outdated) == 6
    assert len(tried) == 4


async def test_a_pooler_that_dies_and_comes_back_loses_nothing(another: Open, pooler: Pooler) -> None:
    engine = await another()
    before = make_draft(engine.clock.now())
    await engine.submit([before])
    pooler.kill()
    with pytest.raises(Unavailable):
        await engine.stats.open_counts()
    during = asyncio.create_task(engine.submit([draft := make_draft(engine.clock.now())]))
    await asyncio.sleep(0.2)  # it tries again meanwhile
    pooler.start()
    await during
    claims = await claim(engine, "here")
    assert {one.task_id for one in claims} == {before.task_id, draft.task_id}
    await finish(engine, claims)


async def test_a_pooler_alone_is_refused(url: str, cluster: Cluster) -> None:
    """Whether it takes our start-up parameters or not; without sessions nothing may be locked, or migrated."""
    ignored = ",".join(session_settings({}))
    with run_pooler(cluster, ignored=ignored) as lenient:
        for _ in range(2):  # nothing of the first try may be in the way
            with pytest.raises(ConfigError, match=r"TASKER_DATABASE_URL.*transaction mode.*TASKER_LISTEN_URL"):
                await migrate(lenient.url_of(database_of(url)))
        with pytest.raises(ConfigError, match=r"TASKER_LISTEN_URL: expected the database server itself"):
            await migrate(url, listen_url=lenient.url_of(database_of(url)))
    assert cluster.sql("SELECT to_regclass('tasker.task') IS NULL", database_of(url)) == [["t"]]


async def test_a_pooler_that_refuses_our_parameters_is_named(pooled: str) -> None:
    with pytest.raises(ConfigError, match=r"TASKER_DATABASE_URL.*unsupported startup parameter.*TASKER_LISTEN_URL"):
        await migrate(pooled)


async def test_a_pooler_in_session_mode_needs_no_other_url(url: str, cluster: Cluster) -> None:
    with run_pooler(cluster, mode="session", ignored=",".join(session_settings({}))) as pooler:
        async with open_postgres(pooler.url_of(database_of(url)), pool_size=3) as engine:
            await engine.submit([make_draft(engine.clock.now())])
            await finish(engine, await claim(engine, "here"))


async def test_the_listening_url_must_lead_to_the_same_database(cluster: Cluster, pooled: str) -> None:
    with pytest.raises(ConfigError, match=r"TASKER_LISTEN_URL: .* got another database"):
        await open_postgres(pooled, listen_url=cluster.fresh_database()).__aenter__()


async def test_a_listening_url_that_does_not_answer_is_named_without_its_password(pooled: str) -> None:
    with pytest.raises(ConfigError) as told:
        await open_postgres(pooled, listen_url="postgresql://u:hunter22@127.0.0.1:1/x").__aenter__()
    assert str(told.value).startswith("TASKER_LISTEN_URL: ")
    assert "hunter22" not in str(told.value)


async def test_a_url_without_a_pooler_keeps_its_sessions(url: str) -> None:
    """Though another is given to listen: statements stay prepared."""
    async with open_postgres(f"{url}?application_name=x", listen_url=url) as engine:
        assert engine._connections._local == ""
        async with engine._connections.taken() as connection:
            assert await connection.fetchval("SELECT current_setting('statement_timeout')") == "10s"
