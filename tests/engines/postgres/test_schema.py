"""Migrations: by many processes at once, while others work, and with clear errors where they are impossible."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import msgspec
import pytest
from tests.postgres import cluster

from tasker.engines.postgres import migrate, open_postgres
from tasker.engines.postgres.sql import migrations
from tasker.errors import ConfigError
from tasker.model import TaskFilter

MAKERS: list[tuple[str, list[list[str]], tuple[str, ...]]] = [
    ("", [], ("submit",)),
    ("weak", [["submit"], ["admin"]], ("submit",)),
    ("reads", [["submit", "read"], ["admin"], ["control"]], ("submit", "read")),
    ("strong", [["submit", "control"], ["admin"], ["read"]], ("submit", "control")),
    ("all", [["admin"]], ("submit", "read", "control")),
]
"""Owners of schedules, the scopes of their keys, and what their schedules may do."""


@pytest.fixture
def url() -> str:
    return cluster().fresh_database()


async def test_one_of_many_that_start_at_once_migrates(url: str) -> None:
    done = await asyncio.gather(*(migrate(url) for _ in range(5)))
    first = [names for names in done if names]
    assert len(first) == 1
    assert first[0][0].startswith("pgqueuer-")
    assert first[0][1:] == [step.name for step in migrations("tasker")]


async def test_a_database_that_is_up_to_date_is_left_alone(url: str) -> None:
    await migrate(url)
    assert await migrate(url) == []


async def test_a_newer_schema_is_no_obstacle(url: str) -> None:
    """During a rolling upgrade processes of the previous version go on, and start, together with new ones."""
    await migrate(url)
    connection = await asyncpg.connect(url)
    await connection.execute("ALTER TABLE tasker.task ADD COLUMN colour text; ALTER TABLE tasker.pgqueuer ADD x int")
    await connection.execute("INSERT INTO tasker.migration (name) VALUES ('9999_from_the_future')")
    await connection.close()
    assert await migrate(url) == []
    async with open_postgres(url) as engine:
        await engine.check()


async def test_a_webhook_that_an_older_version_stores_has_the_standard_format(url: str) -> None:
    await migrate(url)
    webhook_id = UUID(int=7)
    connection = await asyncpg.connect(url)
    await connection.execute(
        "INSERT INTO tasker.webhook (webhook_id, url, events, created_at, owner, status, secrets)"
        " VALUES ($1, 'https://example.com/', '[\"failed\"]', now(), '', 'active', '[]')", webhook_id,
    )  # fmt: skip
    await connection.close()
    async with open_postgres(url) as engine:
        found = await engine.webhooks.find(webhook_id)
    assert found is not None
    assert (found.format, found.events) == ("standard", ("failed",))


async def test_a_schedule_of_an_older_version_may_do_what_all_may_that_can_have_made_it(url: str) -> None:
    await migrate(url)
    [step] = [step for step in migrations("tasker") if step.version == 17]
    connection = await asyncpg.connect(url)
    await connection.execute("ALTER TABLE tasker.schedule DROP COLUMN scopes")
    await connection.execute("DELETE FROM tasker.migration WHERE name = $1", step.name)
    for number, (owner, scopes, _) in enumerate(MAKERS):
        await connection.execute(
            "INSERT INTO tasker.schedule (schedule_id, owner, name, type, time_zone, missed, overlap, paused, anchor,"
            " created_at, updated_at, version, recent, task)"
            " VALUES ($1, $2, 's', 'sum', 'UTC', 'once', 'allow', false, now(), now(), now(), 1, '[]', '{}')",
            UUID(int=number), owner,
        )  # fmt: skip
        for place, one in enumerate(scopes):
            await connection.execute(
                "INSERT INTO tasker.api_key (key_id, name, owner, scopes, digest, created_at)"
                " VALUES ($1, '', $2, $3, '', now())", f"{number} {place}", owner, msgspec.json.encode(one),
            )  # fmt: skip
    await connection.close()
    assert await migrate(url) == [step.name]
    async with open_postgres(url) as engine:
        found = [await engine.schedules.find(UUID(int=number)) for number in range(len(MAKERS))]
    assert [None if one is None else one.scopes for one in found] == [expected for *_, expected in MAKERS]


async def test_the_error_of_a_role_that_may_not_create_says_what_to_do(url: str) -> None:
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
        await open_postgres(wrong).__aenter__()
    assert "TASKER_DATABASE_URL" in str(told.value)
    assert "hunter22" not in str(told.value)


UNLISTED = """
DROP TRIGGER new_tasks ON tasker.task;
DROP TRIGGER tagged_task_erased ON tasker.task;
DROP FUNCTION tasker.note_new_tasks, tasker.forget_tags;
DROP TABLE tasker.task_span, tasker.task_tag;
DROP INDEX tasker.task_queue;
CREATE INDEX task_tags ON tasker.task USING gin (tags) WHERE tags <> '{}'
"""
"""Undoes the migrations of lists."""


async def test_tasks_of_an_older_version_are_found_by_time_tag_and_queue(url: str) -> None:
    await migrate(url)
    steps = [step.name for step in migrations("tasker") if 23 <= step.version <= 26]
    connection = await asyncpg.connect(url)
    await connection.execute(UNLISTED)
    await connection.execute("DELETE FROM tasker.migration WHERE name = ANY($1)", steps)
    ids = [UUID(int=number) for number in range(1500)]
    await connection.execute(
        "INSERT INTO tasker.task (task_id, type, queue, status, priority, created_at, due_at, lined, max_attempts,"
        " policy, params, tags)"
        " SELECT id, 'sum', 'q', 'completed', 0, timestamptz '2026-01-01 00:00Z' - place * interval '1 s', now(),"
        " false, 1, '{}', '[]', ARRAY['t'] FROM unnest($1::uuid[]) WITH ORDINALITY AS given (id, place)", ids,
    )  # fmt: skip
    await connection.close()
    assert await migrate(url) == steps
    async with open_postgres(url) as engine:
        last = [ids[-1]]
        for where in (
            {"tag": "t"},
            {"queues": ("q",)},
            {"created_before": datetime(2025, 12, 31, 23, 35, 1, tzinfo=UTC)},
        ):
            page = await engine.find_many(TaskFilter(**where), limit=1)
            assert [task.task_id for task in page.items] == last, where


async def test_an_older_process_without_rights_on_new_tables_goes_on_storing_tasks(url: str) -> None:
    await migrate(url)
    role = f"{url.rsplit('/', 1)[1]}_older"
    connection = await asyncpg.connect(url)
    await connection.execute(
        f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA tasker TO {role};"
        f" GRANT SELECT, INSERT, DELETE ON tasker.task TO {role}; SET ROLE {role}"
    )
    stored = "'{}', 'sum', 'q', 'completed', 0, now(), now(), false, 1, '{{}}', '[]', ARRAY['t']"
    names = "task_id, type, queue, status, priority, created_at, due_at, lined, max_attempts, policy, params, tags"
    for number in (1, 2):
        await connection.execute(f"INSERT INTO tasker.task ({names}) VALUES ({stored.format(UUID(int=number))})")
    await connection.execute("DELETE FROM tasker.task WHERE task_id = $1", UUID(int=1))
    await connection.execute("RESET ROLE")
    tagged = await connection.fetchval(
        "SELECT array_agg(task.task_id) FROM tasker.task_tag JOIN tasker.task USING (seq)"
    )
    assert tagged == [UUID(int=2)]
    assert await connection.fetchval("SELECT count(*) FROM tasker.task_tag") == 1
    assert await connection.fetchval("SELECT count(*) FROM tasker.task_span") == 1
    await connection.close()


async def test_a_worker_may_end_an_attempt_while_lists_are_migrated(url: str) -> None:
    await migrate(url)
    steps = [step.name for step in migrations("tasker") if 23 <= step.version <= 26]
    worker, connection = await asyncpg.connect(url), await asyncpg.connect(url)
    await connection.execute(UNLISTED)
    await connection.execute("DELETE FROM tasker.migration WHERE name = ANY($1)", steps)
    await worker.execute("BEGIN; SELECT seq FROM tasker.task FOR NO KEY UPDATE")
    migrating = asyncio.create_task(migrate(url))
    await has_to_wait(connection)
    await worker.execute("UPDATE tasker.task SET status = 'completed'; COMMIT")
    assert await migrating == steps
    await worker.close()
    await connection.close()


async def test_no_tags_remain_of_a_task_that_is_erased_while_lists_are_migrated(url: str) -> None:
    await migrate(url)
    steps = [step.name for step in migrations("tasker") if 24 <= step.version <= 26]
    eraser, connection = await asyncpg.connect(url), await asyncpg.connect(url)
    await store_at(connection, 1)
    await store_at(connection, 2)
    await connection.execute("UPDATE tasker.task SET tags = ARRAY['t']; TRUNCATE tasker.task_span")
    await connection.execute(UNLISTED[UNLISTED.index("DROP INDEX") :])
    await connection.execute("DELETE FROM tasker.migration WHERE name = ANY($1)", steps)
    await eraser.execute("BEGIN; DELETE FROM tasker.task WHERE seq = 1")
    migrating = asyncio.create_task(migrate(url))
    await has_to_wait(connection)
    await eraser.execute("COMMIT")
    assert await migrating == steps
    assert [tuple(row) for row in await connection.fetch("SELECT tag, seq FROM tasker.task_tag")] == [("t", 2)]
    await eraser.close()
    await connection.close()


async def has_to_wait(connection: asyncpg.Connection) -> None:
    """Return once somebody waits for a lock of the tasks."""
    async with asyncio.timeout(20):
        while not await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'tasker.task'::regclass AND NOT granted)"
        ):
            await asyncio.sleep(0.01)


async def store_at(connection: asyncpg.Connection, seq: int) -> None:
    """Insert the task that has this seq."""
    await connection.execute(f"SELECT setval(pg_get_serial_sequence('tasker.task', 'seq'), {seq}, false)")
    await connection.execute(
        "INSERT INTO tasker.task (task_id, type, queue, status, priority, created_at, due_at, lined, max_attempts,"
        " policy, params) VALUES ($1, 'sum', 'q', 'completed', 0, now(), now(), false, 1, '{}', '[]')", UUID(int=seq)
    )  # fmt: skip


async def test_spans_of_erased_tasks_are_forgotten_once_no_transaction_can_count_on_them(url: str) -> None:
    await migrate(url)
    slow, connection = await asyncpg.connect(url), await asyncpg.connect(url)
    await store_at(slow, 1)
    await slow.execute("DELETE FROM tasker.task")
    await slow.execute("BEGIN")
    await store_at(slow, 2)
    await store_at(connection, 600)
    await slow.execute("COMMIT")
    lost = await connection.fetch(
        "SELECT seq FROM tasker.task WHERE NOT EXISTS"
        " (SELECT FROM tasker.task_span WHERE block = seq >> 9 AND created_at BETWEEN first AND last)"
    )
    assert lost == []
    await connection.execute("DELETE FROM tasker.task")
    await store_at(connection, 1100 * 512)
    assert [row["block"] for row in await connection.fetch("SELECT block FROM tasker.task_span")] == [1100]
    await slow.close()
    await connection.close()
