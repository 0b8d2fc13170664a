"""Bringing a database up to date: by many at once, beside others, and with clear words where it cannot be."""

from __future__ import annotations

import asyncio
from uuid import UUID

import asyncpg
import pytest
from tests.postgres import cluster

from tasker.engines.postgres import PostgresEngine, migrate
from tasker.engines.postgres.sql import migrations
from tasker.errors import ConfigError


@pytest.fixture
def url() -> str:
    return cluster().fresh_database()


async def test_of_many_that_start_at_once_one_migrates(url: str) -> None:
    done = await asyncio.gather(*(migrate(url) for _ in range(5)))
    first = [names for names in done if names]
    assert len(first) == 1
    assert first[0][0].startswith("pgqueuer-")
    assert first[0][1:] == [step.name for step in migrations("tasker")]


async def test_a_database_that_is_up_to_date_is_left_alone(url: str) -> None:
    await migrate(url)
    assert await migrate(url) == []


async def test_a_newer_schema_is_no_obstacle(url: str) -> None:
    """During a rolling upgrade processes of the version before go on, and start, beside the new ones."""
    await migrate(url)
    connection = await asyncpg.connect(url)
    await connection.execute("ALTER TABLE tasker.task ADD COLUMN colour text; ALTER TABLE tasker.pgqueuer ADD x int")
    await connection.execute("INSERT INTO tasker.migration (name) VALUES ('9999_from_the_future')")
    await connection.close()
    assert await migrate(url) == []
    engine = PostgresEngine(url)
    await engine.open()
    await engine.check()
    await engine.close()


async def test_a_webhook_that_an_older_version_stores_has_the_standard_format(url: str) -> None:
    await migrate(url)
    webhook_id = UUID(int=7)
    connection = await asyncpg.connect(url)
    await connection.execute(
        "INSERT INTO tasker.webhook (webhook_id, url, events, created_at, owner, status, secrets)"
        " VALUES ($1, 'https://example.com/', '[\"failed\"]', now(), '', 'active', '[]')", webhook_id,
    )  # fmt: skip
    await connection.close()
    engine = PostgresEngine(url)
    await engine.open()
    found = await engine.webhooks.find(webhook_id)
    await engine.close()
    assert found is not None
    assert (found.format, found.events) == ("standard", ("failed",))


async def test_a_role_that_may_not_create_is_told_what_to_do(url: str) -> None:
    name = url.rsplit("/", 1)[1]
    server = cluster()
    server.sql(f"CREATE ROLE {name}_guest LOGIN")
    with pytest.raises(ConfigError, match="tasker migrate"):
        await migrate(url.replace("postgres@", f"{name}_guest@"))


@pytest.mark.parametrize("wrong", [
    "postgresql://someone:hunter22@127.0.0.1:1/nowhere", "postgresql:///?port=x", "postgresql://u:hunter22/b@127.0.0.1/x",
    "postgresql://u:hunter22#b@127.0.0.1/x", "postgresql://u:hunter22?b@127.0.0.1/x",
])  # fmt: skip
async def test_a_database_that_does_not_answer_is_named_without_its_password(wrong: str) -> None:
    with pytest.raises(ConfigError) as told:
        await PostgresEngine(wrong).open()
    assert "TASKER_DATABASE_URL" in str(told.value)
    assert "hunter22" not in str(told.value)
