"""The list of workers, and what each runs."""

from __future__ import annotations

from datetime import timedelta

from msgspec import structs

from tasker.engines.protocol import Engine
from tasker.model import Policy, RunningAttempt, WorkerInfo
from tasker.model.keeping import KEEP_TYPES_FOR, KEEP_WORKERS_FOR
from tasker.model.types import KnownType, PublishedType
from tasker.rules.lifecycle import Succeeded
from tasker.testing import Driver, ManualClock

SECOND = timedelta(seconds=1)


def info(name: str, clock: ManualClock) -> WorkerInfo:
    return WorkerInfo(
        worker_id=name, host="here", pid=7, version="1.2", started_at=clock.now(), queues=("a", "b"), types=("sum",),
        slots=3, processes=2,
    )  # fmt: skip


async def test_no_worker_is_listed_before_it_announces_itself(engine: Engine) -> None:
    assert await engine.workers.find_all() == []


async def test_a_worker_is_shown_as_it_described_itself(engine: Engine, clock: ManualClock) -> None:
    mine = info("worker-1", clock)
    await engine.workers.announce(mine)
    [state] = await engine.workers.find_all()
    assert (state.info, state.heartbeat_at, state.running) == (mine, clock.now(), ())


async def test_a_worker_that_speaks_again_is_heard_now_and_as_it_is_now(engine: Engine, clock: ManualClock) -> None:
    mine = info("worker-1", clock)
    await engine.workers.announce(mine)
    clock.advance(10 * SECOND)
    await engine.workers.announce(structs.replace(mine, draining=True))
    [state] = await engine.workers.find_all()
    assert state.info.draining
    assert state.heartbeat_at == clock.now()


def published(name: str, **more: object) -> PublishedType:
    given: dict[str, object] = {
        "name": name, "description": "", "input_schema": {"type": "object"}, "output_schema": {}, "positional": ("a",),
        "rest": None, "example": None, "queue": "default", "priority": 0, "policy": Policy(), "is_async": False,
        "memory_limit": None, "retention": None, "costs": False, "secrets": (),
    }  # fmt: skip
    return PublishedType(**(given | more))  # type: ignore[arg-type]


async def test_types_are_known_as_the_newest_word_has_them(engine: Engine, clock: ManualClock) -> None:
    assert await engine.workers.find_types() == []
    old, other, new = published("a", priority=1), published("b", retention=SECOND), published("a", priority=2)
    await engine.workers.publish([old, other])
    first = clock.now()
    clock.advance(SECOND)
    await engine.workers.publish([new])
    assert await engine.workers.find_types() == [
        KnownType(type=new, seen_at=clock.now()), KnownType(type=other, seen_at=first),
    ]  # fmt: skip


async def test_a_type_is_seen_while_a_worker_has_it_and_known_for_long_after(
    engine: Engine, clock: ManualClock
) -> None:
    await engine.workers.publish([published("sum"), published("gone")])
    start = clock.now()
    mine = info("worker-1", clock)
    for _ in range(12):
        clock.advance(10 * SECOND)
        await engine.workers.announce(mine)
    seen = {known.type.name: known.seen_at for known in await engine.workers.find_types()}
    assert seen["gone"] == start
    assert clock.now() - seen["sum"] <= timedelta(minutes=1)
    await engine.workers.withdraw("worker-1")
    clock.advance(KEEP_TYPES_FOR - timedelta(minutes=1))
    assert [known.type.name for known in await engine.workers.find_types()] == ["sum"]
    clock.advance(timedelta(minutes=2))
    assert await engine.workers.find_types() == []


async def test_workers_come_in_order_of_their_start(engine: Engine, clock: ManualClock) -> None:
    for name in ("z", "m", "a"):
        await engine.workers.announce(info(name, clock))
        clock.advance(SECOND)
    assert [state.info.worker_id for state in await engine.workers.find_all()] == ["z", "m", "a"]


async def test_what_a_worker_runs_is_shown_oldest_first(engine: Engine, clock: ManualClock) -> None:
    await engine.workers.announce(info("worker-1", clock))
    await engine.workers.announce(info("worker-2", clock))
    driver = Driver(engine, clock)
    claims = []
    for _ in range(2):
        await driver.submit()
        claims.append(await driver.claim_one())
        clock.advance(SECOND)
    running = {state.info.worker_id: state.running for state in await engine.workers.find_all()}
    assert running["worker-2"] == ()
    assert running["worker-1"] == tuple(
        RunningAttempt(task_id=one.task_id, attempt=1, type="sum", queue="default", started_at=one.started_at)
        for one in claims
    )
    await driver.finish(claims[0], Succeeded(b"6"))
    running = {state.info.worker_id: state.running for state in await engine.workers.find_all()}
    assert [one.task_id for one in running["worker-1"]] == [claims[1].task_id]


async def test_a_worker_that_withdraws_is_gone_at_once(engine: Engine, clock: ManualClock) -> None:
    await engine.workers.announce(info("worker-1", clock))
    await engine.workers.withdraw("worker-1")
    await engine.workers.withdraw("worker-1")
    assert await engine.workers.find_all() == []


async def test_a_worker_that_says_nothing_more_is_shown_for_a_while(engine: Engine, clock: ManualClock) -> None:
    await engine.workers.announce(info("worker-1", clock))
    clock.advance(KEEP_WORKERS_FOR - SECOND)
    assert len(await engine.workers.find_all()) == 1
    clock.advance(2 * SECOND)
    assert await engine.workers.find_all() == []
    await engine.prune(limit=10)
    assert await engine.workers.find_all() == []
