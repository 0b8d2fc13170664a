"""`tasker.postgres.submit` with every kind of connection: the task belongs to the transaction of its caller."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import psycopg
import pytest
from psycopg.rows import class_row, dict_row
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from tasker import task
from tasker.client.options import SubmitOptions
from tasker.engines.postgres import migrate
from tasker.postgres import TaskOptions, submit
from tasker.requests.submissions import SubmissionBody
from tests.postgres import cluster, database_of


@task(name="send-mail")
def send(to: str) -> None: ...


@task
def plain(to: str) -> None: ...


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    made = cluster().fresh_database()
    asyncio.run(migrate(made))
    yield made
    cluster().drop_database(made)


@pytest.fixture
def inbox(url: str) -> Iterator[Callable[[], dict[str, list[Any]]]]:
    """Returns what has been committed to the inbox: type, params, options and owner by id."""

    def read() -> dict[str, list[Any]]:
        rows = cluster().sql("SELECT task_id, type, params, options, owner FROM tasker.inbox", database_of(url))
        return {row[0]: [row[1], json.loads(row[2]), json.loads(row[3]), row[4]] for row in rows}

    yield read
    cluster().sql("TRUNCATE tasker.inbox", database_of(url))


Opened = AbstractAsyncContextManager[tuple[Any, Callable[[], Any], Callable[[], Any]]]
"""A connection, and what commits and rolls back its transaction."""


@asynccontextmanager
async def psycopg_sync(url: str) -> AsyncIterator[Any]:
    with psycopg.connect(url) as connection:
        yield connection, connection.commit, connection.rollback


@asynccontextmanager
async def psycopg_dicts(url: str) -> AsyncIterator[Any]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        yield connection, connection.commit, connection.rollback


@asynccontextmanager
async def psycopg_async(url: str) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(url, row_factory=class_row(dict)) as connection:
        yield connection, connection.commit, connection.rollback


@asynccontextmanager
async def of_asyncpg(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    transaction = connection.transaction()
    await transaction.start()
    yield connection, transaction.commit, transaction.rollback
    await connection.close()


@asynccontextmanager
async def pooled_asyncpg(url: str) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool, pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        yield connection, transaction.commit, transaction.rollback


@asynccontextmanager
async def sqlalchemy_core(url: str) -> AsyncIterator[Any]:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        yield connection, connection.commit, connection.rollback
    engine.dispose()


@asynccontextmanager
async def sqlalchemy_orm(url: str) -> AsyncIterator[Any]:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with Session(engine) as session:
        yield session, session.commit, session.rollback
    engine.dispose()


@asynccontextmanager
async def sqlalchemy_async_core(url: str) -> AsyncIterator[Any]:
    engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
    async with engine.connect() as connection:
        yield connection, connection.commit, connection.rollback
    await engine.dispose()


@asynccontextmanager
async def sqlalchemy_async_orm(url: str) -> AsyncIterator[Any]:
    engine = create_async_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    async with AsyncSession(engine) as session:
        yield session, session.commit, session.rollback
    await engine.dispose()


class Plain:
    """A connection of some other driver of the DB-API."""

    def __init__(self, inner: psycopg.Connection[Any]) -> None:
        self.cursor = inner.cursor


@asynccontextmanager
async def db_api(url: str) -> AsyncIterator[Any]:
    with psycopg.connect(url) as connection:
        yield Plain(connection), connection.commit, connection.rollback


KINDS: list[Callable[[str], Opened]] = [
    psycopg_sync, psycopg_dicts, psycopg_async, of_asyncpg, pooled_asyncpg, sqlalchemy_core, sqlalchemy_orm,
    sqlalchemy_async_core, sqlalchemy_async_orm, db_api,
]  # fmt: skip


async def settled(value: Any) -> Any:
    return await value if isinstance(value, Awaitable) else value


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_it_commits_or_rolls_back_with_its_transaction(
    kind: Callable[[str], Opened], url: str, inbox: Callable[[], dict[str, list[Any]]]
) -> None:
    async with kind(url) as (connection, commit, rollback):
        kept = await settled(submit(connection, "email", {"to": "ada"}, owner="shop", unique_key="k"))
        assert type(kept) is UUID
        assert inbox() == {}
        await settled(commit())
    async with kind(url) as (connection, commit, rollback):
        await settled(submit(connection, "email", {"to": "eve"}))
        await settled(rollback())
    assert inbox() == {str(kept): ["email", {"to": "ada"}, {"unique_key": "k"}, "shop"]}


async def test_options_are_those_of_the_api(url: str, inbox: Callable[[], dict[str, list[Any]]]) -> None:
    assert TaskOptions.__optional_keys__ == set(SubmissionBody.__struct_fields__) - {"type", "params"}
    assert TaskOptions.__optional_keys__ == {*SubmitOptions.__dataclass_fields__} - {"idempotency_key"}
    at = datetime(2030, 1, 1, tzinfo=UTC)
    with psycopg.connect(url) as connection:
        first = submit(connection, send, ["a"], delay=timedelta(minutes=1), run_at=at, tags=("x",), queue=None)
        second = submit(connection, plain, depends_on=[first])
    assert inbox() == {
        str(first): ["send-mail", ["a"], {"delay": 60.0, "run_at": "2030-01-01T00:00:00Z", "tags": ["x"]}, ""],
        str(second): ["plain", [], {"depends_on": [str(first)]}, ""],
    }


@pytest.mark.parametrize(("arguments", "options", "error", "said"), [
    (("email", {"to": [1, float("nan")]}), {}, ValueError, "params/to/1: it holds NaN"),
    (("email", {"to": object()}), {}, ValueError, "params/to: it cannot be written as JSON"),
    (("email", [datetime(2030, 1, 1)]), {}, ValueError, "params/0: it holds a datetime without a time zone"),  # noqa: DTZ001
    (("email",), {"metadata": {"a": "\ud800"}}, ValueError, "options/metadata/a: it cannot"),
    (("email", "ada"), {}, TypeError, "expected params as a dict or a list, got str"),
    (("email",), {"colour": 1, "idempotency_key": "k"}, TypeError, "unknown options: colour, idempotency_key"),
    ((5,), {}, TypeError, "expected the name of a task type"),
])  # fmt: skip
def test_what_json_cannot_hold_is_refused(
    url: str, arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with psycopg.connect(url) as connection, pytest.raises(error, match=said):
        submit(connection, *arguments, **options)


@pytest.mark.parametrize("other", [None, "postgresql://", object()])
def test_other_objects_are_no_connections(other: Any) -> None:
    with pytest.raises(TypeError, match="expected a connection of psycopg, asyncpg or SQLAlchemy"):
        submit(other, "email")


CLIENT = """
import os, psycopg, signal, sys
from tasker.postgres import submit
with psycopg.connect(sys.argv[1]) as connection:
    print(submit(connection, "email", {"to": "ada"}), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_program_that_is_killed_before_its_commit_has_submitted_nothing(
    url: str, inbox: Callable[[], dict[str, list[Any]]]
) -> None:
    done = subprocess.run([sys.executable, "-c", CLIENT, url], capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stdout)) == (-signal.SIGKILL, 37), done.stderr
    assert inbox() == {}
