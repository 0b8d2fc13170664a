"""Submissions in transactions of other programs: each becomes exactly one task, checked like every other submission."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import pytest
from tests.postgres import cluster

from tasker import secret, task
from tasker.chores import drain
from tasker.chores.drain import drain_inbox
from tasker.engines.postgres import PostgresEngine, open_postgres
from tasker.errors import NotFound, Unavailable
from tasker.model import Task
from tasker.model.keys import ANYBODY, Caller
from tasker.service import Service, inbox
from tasker.service.hub import Hub
from tasker.service.inbox import LATE, PATIENCE
from tasker.service.reading import Reading
from tasker.tasktypes.registry import Registry


@task(queue="mail", priority=3, retry=4)
async def email(to: str, copies: int = 1) -> int:
    return copies


@task
async def log_in(user: str, password: Annotated[str, secret]) -> None: ...


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    made = cluster().fresh_database()
    yield made
    cluster().drop_database(made)


class House:
    """Processes on one database, and connections of other programs."""

    def __init__(self, stack: AsyncExitStack, url: str) -> None:
        self.stack = stack
        self.url = url
        self.service: Service
        self.engine: PostgresEngine
        self.program: asyncpg.Connection

    async def process(self, *types: Any, schema: str = "tasker", **options: Any) -> Service:
        """Return the use cases of one more process, which knows these task types."""
        engine = await self.stack.enter_async_context(open_postgres(self.url, schema=schema))
        registry = Registry()
        for one in types:
            registry.add(one)
        service = Service(engine, registry, Hub(), engine.clock, health=None, **options)
        self.engine = engine
        return service

    async def connect(self, **options: Any) -> asyncpg.Connection:
        connection = await asyncpg.connect(self.url, **options)
        self.stack.push_async_callback(connection.close)
        return connection

    async def submit(self, arguments: str, connection: Any = None) -> UUID:
        found: UUID = await (connection or self.program).fetchval(f"SELECT tasker.submit({arguments})")
        return found

    async def get(self, task_id: UUID) -> Task:
        """Return a task as it is stored, without taking anything in."""
        found = await self.engine.find(task_id)
        assert found is not None, "it was not taken in"
        return found

    async def drained(self, arguments: str) -> Task:
        task_id = await self.submit(arguments)
        assert await self.service.inbox.run_once() == 1
        return await self.get(task_id)

    async def drained_beside(self) -> None:
        """Have a submission of another program taken in."""
        other = await self.connect()
        await self.submit("'email', '[\"a\"]'", other)
        assert await self.service.inbox.run_once() == 1

    async def stored(self, ids: list[UUID]) -> None:
        """Return once somebody has taken these in."""
        async with asyncio.timeout(20):
            while not all([await self.engine.find(one) for one in ids]):
                await asyncio.sleep(0.005)

    async def until_told_again(self) -> None:
        """Return once nobody looks without being told any more."""
        over = "SELECT awake_until < clock_timestamp() FROM tasker.inbox_watch"
        async with asyncio.timeout(20):
            while not await self.program.fetchval(over):
                await asyncio.sleep(0.02)

    async def waiting(self) -> int:
        count: int = await self.program.fetchval("SELECT count(*) FROM tasker.inbox")
        return count


@pytest.fixture
async def house(url: str) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        house = House(stack, url)
        house.service = await house.process(email, log_in)
        house.program = await house.connect()
        yield house
        await house.program.execute("RESET ROLE; TRUNCATE tasker.inbox, tasker.task CASCADE")


async def test_a_submission_becomes_a_task_like_any_other(house: House) -> None:
    options = '{"unique_key": "a", "tags": ["x"], "metadata": {"row": 7}, "delay": 60}'
    found = await house.drained(f"""'email', '{{"to": "ada"}}', '{options}', 'shop'""")
    assert (found.type, found.status, found.reason, found.owner) == ("email", "pending", "scheduled", "shop")
    assert (found.queue, found.priority, found.tries_left, found.unique_key) == ("mail", 3, 4, "a")
    assert (bytes(found.params), found.tags, bytes(found.metadata)) == (b'{"to": "ada"}', ["x"], b'{"row": 7}')
    assert found.run_at is not None
    assert found.run_at - found.created_at == timedelta(seconds=60)
    assert found.task_id.version == 7
    assert abs((found.task_id.int >> 80) / 1000 - found.created_at.timestamp()) < 30
    assert await house.waiting() == 0


@pytest.mark.parametrize("arguments", [
    "'email', '[\"a\"]'",
    "'email', '[\"a\"]', '{}'",
    "'email', jsonb_build_array('a')",
    "'email', json_build_array('a')",
    "'email', jsonb_build_array('a'), '{\"tags\": []}'",
    "'email', to_jsonb(ARRAY['a']), jsonb_build_object('priority', 5)",
    "'email', json_build_array('a'), json_build_object('priority', 5), 'ada'",
    "'email', '[\"a\"]'::varchar, '{}'::varchar",
    "type => 'email', params => '[\"a\"]', owner => 'ada'",
    "'email', '[\"a\"]', NULL, NULL",
])  # fmt: skip
async def test_json_of_every_type_is_taken(house: House, arguments: str) -> None:
    found = await house.drained(arguments)
    assert (found.status, bytes(found.params)) == ("pending", b'["a"]')


@pytest.mark.parametrize(("arguments", "problem", "faults"), [
    ("'email'", "invalid-params", ["/params/0: `to` is missing"]),
    ("'email', '{\"too\": 1, \"copies\": \"x\"}', '{\"delay\": -1, \"colour\": 2}'", "invalid-request",
     ["/params/to", "/params/copies", "/params/too", "/delay", "/colour"]),
    ("'email', '[\"a\"]', '{\"type\": \"other\"}'", "duplicate-key", ["type"]),
    ("'email', '[\"a\"]', '[]'", "invalid-request", ["expected an object of options"]),
    ("'email', '{\"to\": \"a\", \"to\": \"b\"}'", "duplicate-key", ["to"]),
    ("'email', '5'", "invalid-params", ["/params"]),
    ("'email', '[\"a\"]', '{\"depends_on\": [\"00000000-0000-7000-8000-000000000000\"]}'", "invalid-request",
     ["/depends_on/0"]),
    ("'email', json_build_array(repeat('a', 1048577))", "payload-too-large", ["1,048,576 bytes"]),
])  # fmt: skip
async def test_an_invalid_one_becomes_a_failed_task_with_every_fault(
    house: House, arguments: str, problem: str, faults: list[str]
) -> None:
    found = await house.drained(arguments)
    assert (found.status, found.type, found.attempt) == ("failed", "email", 0)
    assert found.error is not None
    assert found.error.type == f"/problems/{problem}"
    assert [fault for fault in faults if fault not in found.error.detail] == []
    assert await house.waiting() == 0


@pytest.mark.parametrize(("arguments", "said"), [
    ("'e mail'", "expected the name of a task type, got 'e mail'"),
    ("NULL", "expected the name of a task type, got NULL"),
    ("'email', '{'", "invalid input syntax for type json"),
    ("'email', '[]', '{}', E'a\\tb'", "expected an owner"),
])  # fmt: skip
async def test_what_no_task_could_show_is_refused_in_the_transaction(house: House, arguments: str, said: str) -> None:
    with pytest.raises(asyncpg.PostgresError, match=said):
        await house.submit(arguments)


async def test_the_end_of_the_transaction_decides(house: House) -> None:
    rolled_back = house.program.transaction()
    await rolled_back.start()
    lost = await house.submit("'email', '[\"lost\"]'")
    await rolled_back.rollback()
    async with house.program.transaction():
        kept = await house.submit("'email', '[\"kept\"]'")
        savepoint = house.program.transaction()
        await savepoint.start()
        undone = await house.submit("'email', '[\"undone\"]'")
        await savepoint.rollback()
        last = await house.submit("'email', '[\"last\"]'")
        assert await house.service.inbox.run_once() == 0, "nothing has been committed"
        with pytest.raises(NotFound):
            await house.service.tasks.get(ANYBODY, kept)
    assert await house.service.inbox.run_once() == 2
    found = [await house.engine.find(one) for one in (lost, kept, undone, last)]
    assert [None if one is None else bytes(one.params) for one in found] == [None, b'["kept"]', None, b'["last"]']


async def test_secret_params_are_hidden_also_in_a_failed_task(house: House) -> None:
    found = await house.drained("""'log_in', '{"user": "ada", "password": "hunter22"}'""")
    assert bytes(found.params) == b'{"user":"ada","password":"***"}'
    wrong = await house.drained("""'log_in', '{"user": "ada", "passwort": "hunter22"}'""")
    assert (wrong.status, bytes(wrong.params)) == ("failed", b"[]")


async def test_a_unique_key_is_checked_when_it_is_taken_in(house: House) -> None:
    key = '"unique_key": "k"'
    first = await house.drained(f"'email', '[\"a\"]', '{{{key}}}'")
    same = await house.drained(f"'email', '[\"b\"]', '{{{key}}}'")
    other = await house.drained(f"'email', '[\"c\"]', '{{{key}, \"on_conflict\": \"reject\"}}'")
    assert (first.status, same.status, other.status) == ("pending", "cancelled", "failed")
    for one in (same, other):
        assert one.error is not None
        assert one.error.type == "/problems/not-unique"
        assert str(first.task_id) in one.error.detail
    instead = await house.drained(f"'email', '[\"d\"]', '{{{key}, \"on_conflict\": \"replace\"}}'")
    assert (instead.status, (await house.get(first.task_id)).status) == ("pending", "cancelled")


async def test_tasks_of_one_transaction_depend_on_each_other(house: House) -> None:
    async with house.program.transaction():
        first = await house.submit("'email', '[\"a\"]', '{\"group\": \"g\"}'")
        second = await house.submit(f"'email', '[\"b\"]', '{{\"depends_on\": [\"{first}\"]}}'")
        third = await house.submit('\'email\', \'["b"]\', \'{"depends_on": {"group": "g"}}\'')
    assert await house.service.inbox.run_once() == 3
    assert [(await house.get(one)).reason for one in (second, third)] == ["dependencies", "dependencies"]


async def test_a_group_counts_the_one_that_fails(house: House) -> None:
    owner = "'group'"
    good = await house.drained(f'\'email\', \'["a"]\', \'{{"group": "h", "unique_key": "u"}}\', {owner}')
    options = '{"group": "h", "unique_key": "u", "on_conflict": "reject"}'
    bad = await house.drained(f"'email', '[\"a\"]', '{options}', {owner}")
    group = await house.service.groups.get(Caller("group"), "h")
    assert (good.status, bad.status) == ("pending", "failed")
    assert (group.tasks.pending, group.tasks.failed) == (1, 1)


async def test_it_is_found_from_the_commit_on(house: House) -> None:
    task_id = await house.submit("'email', '[\"a\"]', '{}', 'ada'")
    with pytest.raises(NotFound):
        await house.service.tasks.get(Caller("eve", scopes=frozenset({"read"})), task_id)
    assert (await house.service.tasks.get(Caller("ada", scopes=frozenset({"read"})), task_id)).status == "pending"
    assert await house.waiting() == 0
    other = await house.submit("'email', '[\"a\"]'")
    assert (await house.service.tasks.cancel(ANYBODY, other)).status == "cancelled"


async def test_a_type_may_come_later(house: House) -> None:
    @task
    async def brand_new(number: int) -> None: ...

    task_id = await house.submit("'brand_new', '[1]'")
    known = await house.submit("'email', '[\"a\"]'")
    assert await house.service.inbox.run_once() == 1, "it keeps nobody waiting"
    assert (await house.get(known)).status == "pending"
    shown = await house.service.tasks.get(ANYBODY, task_id)
    assert (shown.status, shown.type, bytes(shown.params)) == ("pending", "brand_new", b"[1]")
    assert await house.engine.find(task_id) is None
    newer = await house.process(brand_new)
    assert await newer.inbox.run_once() == 1
    assert (await house.get(task_id)).status == "pending"


async def test_a_type_that_does_not_come_fails_in_the_end(house: House) -> None:
    task_id, cancelled = [await house.submit("'emial', '[1]'") for _ in range(2)]
    assert (await house.service.tasks.cancel(ANYBODY, cancelled)).status == "cancelled"
    await house.program.execute("UPDATE tasker.inbox SET submitted_at = submitted_at - $1::interval", PATIENCE)
    assert await house.service.inbox.run_once() == 1
    found = await house.get(task_id)
    assert found.error is not None
    assert (found.status, found.error.type, bytes(found.params)) == ("failed", "/problems/unknown-type", b"[1]")
    assert "did you mean 'email'?" in found.error.detail


async def test_two_processes_take_each_in_once(house: House) -> None:
    other = await house.process(email)
    await house.program.execute(
        "SELECT tasker.submit('email', jsonb_build_array(n::text)) FROM generate_series(1, 1200) AS n"
    )

    async def drain_all(service: Service) -> int:
        counts = []
        while count := await service.inbox.run_once():
            counts.append(count)
        return sum(counts)

    counts = await asyncio.gather(drain_all(house.service), drain_all(other))
    assert sum(counts) == 1200
    assert await house.program.fetchval("SELECT count(*) FROM tasker.task WHERE status = 'pending'") == 1200


@pytest.mark.long
async def test_ten_thousand_of_one_transaction_keep_their_order(house: House) -> None:
    await house.program.execute(
        "SELECT tasker.submit('email', jsonb_build_array(n::text)) FROM generate_series(1, 10000) AS n"
    )
    while await house.service.inbox.run_once():
        pass
    wrong = (
        "SELECT count(*) FROM (SELECT seq, row_number() OVER (ORDER BY seq) AS place, params FROM tasker.task) AS one"
    )
    wrong += " WHERE convert_from(params, 'UTF8') <> '[\"' || place || '\"]'"
    assert await house.program.fetchval(wrong) == 0
    assert await house.program.fetchval("SELECT count(*) FROM tasker.task") == 10_000
    assert await house.waiting() == 0


async def test_others_take_in_what_the_leader_leaves(house: House) -> None:
    await house.submit("'email', '[\"a\"]'")
    assert await house.service.inbox.run_once(late=LATE) == 0
    await house.program.execute("UPDATE tasker.inbox SET submitted_at = submitted_at - $1::interval", LATE)
    assert await house.service.inbox.run_once(late=LATE) == 1


async def test_they_wait_while_too_many_tasks_are_pending(house: House) -> None:
    """In a schema of another name besides."""
    small = await house.process(email, schema="jobs", max_pending=3)
    await house.program.execute("SELECT jobs.submit('email', '[\"a\"]') FROM generate_series(1, 5)")
    assert [await small.inbox.run_once() for _ in range(2)] == [2, 1]
    with pytest.raises(Unavailable, match="TASKER_MAX_PENDING"):
        await small.inbox.run_once()
    assert await house.program.fetchval("SELECT count(*) FROM jobs.inbox") == 2


async def test_one_that_cannot_be_stored_keeps_nobody_waiting(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug, or a value that the database refuses: the others are stored, and this one says so."""
    ids = [await house.submit(f"'email', '[\"{number}\"]'") for number in range(3)]
    assert house.engine.inbox is not None
    take_in = house.engine.inbox.take_in

    async def faulty(arrivals: Any, **options: Any) -> int:
        if any(one.error is None and b"1" in one.draft.params for one in arrivals):
            raise ValueError("a bug")
        return await take_in(arrivals, **options)

    monkeypatch.setattr(house.engine.inbox, "take_in", faulty)
    assert await house.service.inbox.run_once() == 3
    found = [await house.get(one) for one in ids]
    assert [one.status for one in found] == ["pending", "failed", "pending"]
    assert found[1].error is not None
    assert found[1].error.type == "/problems/internal"


async def test_one_that_cannot_be_read_now_keeps_none_before_it_waiting(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [await house.submit(f"'email', '[\"{number}\"]'") for number in range(3)]
    read = Reading.submission

    async def busy(self: Reading, owner: str, body: bytes, **more: Any) -> Any:
        if b"1" in body:
            raise Unavailable("other checks of params take long")
        return await read(self, owner, body, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Reading, "submission", busy)
        assert await house.service.inbox.run_once() == 1
        with pytest.raises(Unavailable):
            await house.service.inbox.run_once()
    assert await house.service.inbox.run_once() == 2
    assert [(await house.get(one)).status for one in ids] == ["pending"] * 3


async def test_those_before_a_slow_check_are_taken_in_without_those_after_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "READ_FOR", 0.0)
    for _ in range(3):
        await house.submit("'email', '[\"a\"]'")
    assert [await house.service.inbox.run_once() for _ in range(4)] == [1, 1, 1, 0]


async def test_a_bug_in_reading_one_fails_this_one_alone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [await house.submit(f"'email', '[\"{number}\"]'") for number in range(2)]
    read = Reading.submission

    async def faulty(self: Reading, owner: str, body: bytes, **more: Any) -> Any:
        if b"0" in body:
            raise ValueError("a bug")
        return await read(self, owner, body, **more)

    monkeypatch.setattr(Reading, "submission", faulty)
    assert await house.service.inbox.run_once() == 2
    assert [(await house.get(one)).status for one in ids] == ["failed", "pending"]


async def test_a_role_needs_two_grants_and_no_more(house: House) -> None:
    role = f"{house.url.rsplit('/', 1)[1]}_app"
    await house.program.execute(f"CREATE ROLE {role}; SET ROLE {role}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="schema tasker"):
        await house.submit("'email', '[\"a\"]'")
    await house.program.execute(f"RESET ROLE; GRANT USAGE ON SCHEMA tasker TO {role}; SET ROLE {role}")
    for arguments in ("'email', '[\"a\"]'", "'email', jsonb_build_array('a')"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="function submit"):
            await house.submit(arguments)
    grant = f"GRANT EXECUTE ON FUNCTION tasker.submit(text, text, text, text) TO {role}"
    await house.program.execute(f"RESET ROLE; {grant}; SET ROLE {role}; SET search_path = pg_temp")
    for arguments in ("'email', '[\"a\"]'", "'email', jsonb_build_array('a')", "'email', json_build_array('a')"):
        await house.submit(arguments)
    for statement in ("SELECT * FROM tasker.inbox", "SELECT * FROM tasker.task", "DELETE FROM tasker.inbox"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await house.program.execute(statement)
    assert await house.service.inbox.run_once() == 3
    await house.program.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_serializable_transaction_is_not_disturbed(house: House) -> None:
    for level in ("repeatable_read", "serializable"):
        transaction = house.program.transaction(isolation=level)
        await transaction.start()
        await house.program.fetchval("SELECT 1")
        await house.drained_beside()
        await house.submit("'email', '[\"a\"]'")
        await house.drained_beside()
        await transaction.commit()
        assert await house.service.inbox.run_once() == 1


async def test_they_are_taken_in_without_being_told_while_the_drainer_is_awake(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "_LOOK_AGAIN", 3600.0)
    async with draining(house.service):
        for _ in range(3):
            async with house.program.transaction():
                ids = [await house.submit("'email', '[\"a\"]'") for _ in range(2)]
            await house.stored(ids)


async def test_it_is_told_at_the_commit(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "_LOOK_AGAIN", 3600.0)
    monkeypatch.setattr(drain, "_AWAKE_LOOKS", 3600.0)
    async with draining(house.service):
        for _ in range(2):
            await house.until_told_again()
            await house.stored([await house.submit("'email', '[\"a\"]'")])


async def test_it_is_told_after_the_listener_has_reconnected(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "_LOOK_AGAIN", 3600.0)
    monkeypatch.setattr(drain, "_AWAKE_LOOKS", 3600.0)
    async with draining(house.service):
        for _ in range(2):
            await house.until_told_again()
            await house.stored([await house.submit("'email', '[\"a\"]'")])
            await house.program.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
            )
            await house.stored([await house.submit("'email', '[\"a\"]'")])


@asynccontextmanager
async def draining(service: Service) -> AsyncIterator[None]:
    """Take in meanwhile what arrives, as the process that has the lead does."""
    chore = asyncio.create_task(drain_inbox(service.inbox))
    try:
        yield
    finally:
        chore.cancel()
        await asyncio.wait([chore])
