"""Engine.bulk: actions on many tasks go on after the end of a process, and no step is done twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from msgspec import structs
from tests.contract.bulk import finish, make_bulk
from tests.contract.conftest import MakeEngine, open_after_the_end

from tasker.engines.protocol import Engine
from tasker.errors import Invalid
from tasker.model import Extra, Status, TaskFilter
from tasker.model.bulk import HOLD, BulkAction, Step, read_filter, write_filter
from tasker.rules.lifecycle import Failed, problem
from tasker.testing import Driver, ManualClock, make_draft

SECOND = timedelta(seconds=1)
NO = Failed(problem("task-failed", "no"))


async def submit(engine: Engine, clock: ManualClock, number: int) -> list[UUID]:
    drafts = [make_draft(clock.now()) for _ in range(number)]
    await engine.submit(drafts)
    return [draft.task_id for draft in drafts]


async def created(engine: Engine, bulk: BulkAction) -> BulkAction:
    await engine.bulk.create(bulk)
    return bulk


async def step(engine: Engine, bulk: BulkAction, number: int = 1) -> BulkAction:
    """Act on the first tasks that are left."""
    after = await engine.bulk.step(bulk, Step(task_ids=bulk.rest[:number], place=bulk.place, rest=bulk.rest[number:]))
    assert after is not None
    return after


async def ids_of(engine: Engine, where: TaskFilter) -> list[UUID]:
    return [task.task_id for task in (await engine.find_many(where, limit=100)).items]


async def test_an_action_is_found_as_it_was_created(engine: Engine, clock: ManualClock) -> None:
    where = TaskFilter(
        status=(Status.FAILED,), types=("t",), tag="a", created_after=clock.now(), owner="me", bulk=uuid4()
    )
    full = make_bulk(
        "retry", [uuid4(), uuid4()], owner="me", key_id="k", tasks_of="me", selects=write_filter(where), given=2,
        place="p", at_most=1 << 40, matched=1 << 40, done=1, skips={"gone": 2}, undo_of=uuid4(), started_at=clock.now(),
    )  # fmt: skip
    for bulk in (full, make_bulk("delete")):
        await engine.bulk.create(bulk)
        assert await engine.bulk.find(bulk.bulk_id) == bulk
    assert read_filter(full.selects) == where
    assert await engine.bulk.find(uuid4()) is None


def test_a_stored_filter_for_tasks_without_an_owner_selects_no_others() -> None:
    where = TaskFilter(owner="")
    assert read_filter(write_filter(where)) == where


async def test_actions_are_listed_newest_first(engine: Engine) -> None:
    mine = [await created(engine, make_bulk("cancel", owner="me", tasks_of="me")) for _ in range(3)]
    on_all = await created(engine, make_bulk("cancel", owner="me"))
    theirs = await created(engine, make_bulk("cancel", owner="them", tasks_of="them"))
    first = await engine.bulk.find_many(limit=2)
    second = await engine.bulk.find_many(limit=9, cursor=first.next_cursor)
    assert [*first.items, *second.items] == [theirs, on_all, *reversed(mine)]
    assert second.next_cursor is None
    own = await engine.bulk.find_many(owner="me", limit=2)
    assert own.items == mine[:0:-1], "not the one on all owners' tasks"
    assert (await engine.bulk.find_many(owner="me", limit=2, cursor=own.next_cursor)).items == mine[:1]
    with pytest.raises(Invalid):
        await engine.bulk.find_many(limit=2, cursor="x")


async def test_each_step_stores_how_far_the_action_is(driver: Driver, clock: ManualClock) -> None:
    engine = driver.engine
    ids = await submit(engine, clock, 4)
    await engine.cancel(ids[1])
    bulk = await created(engine, make_bulk("cancel", [*ids, uuid4()], matched=4))
    first = await step(engine, bulk, 2)
    assert (first.done, first.skips, first.rest, first.state) == (1, {"status": 1}, (*ids[2:], bulk.rest[4]), "running")
    assert (first.to_go, first.version) == (2, 2)
    assert await engine.bulk.find(bulk.bulk_id) == first
    clock.advance(SECOND)
    last = await step(engine, first, 9)
    assert (last.done, last.skips, last.state, last.to_go) == (3, {"status": 1, "gone": 1}, "done", 0)
    assert last.ended_at is not None
    assert await engine.bulk.find(bulk.bulk_id) == last
    assert sorted(await ids_of(engine, TaskFilter(bulk=bulk.bulk_id))) == sorted([ids[0], *ids[2:]])


async def test_a_step_is_done_once(engine: Engine, clock: ManualClock) -> None:
    """Two processes that want to do the same one do it once, and so does one after a restart."""
    bulk = await created(engine, make_bulk("cancel", await submit(engine, clock, 2)))
    one = Step(task_ids=bulk.rest[:1], place=None, rest=bulk.rest[1:])
    first, second = await asyncio.gather(engine.bulk.step(bulk, one), engine.bulk.step(bulk, one))
    assert [after.done for after in (first, second) if after is not None] == [1]
    assert await engine.bulk.step(bulk, one) is None
    assert (await engine.bulk.find(bulk.bulk_id)) == (first or second)


async def test_a_stopped_action_does_nothing_more(driver: Driver, clock: ManualClock) -> None:
    engine = driver.engine
    ids = await submit(engine, clock, 2)
    bulk = await step(engine, await created(engine, make_bulk("cancel", ids, matched=2)))
    stopped = await engine.bulk.stop(bulk.bulk_id)
    assert stopped is not None
    assert (stopped.state, stopped.done, stopped.to_go) == ("stopped", 1, 1)
    assert await engine.bulk.step(bulk, Step(task_ids=bulk.rest, place=None)) is None
    assert await engine.bulk.stop(bulk.bulk_id) == stopped, "again"
    assert (await driver.get(ids[1])).status is Status.PENDING
    assert await engine.bulk.find_free(limit=9) == []
    done = await finish(engine, await created(engine, make_bulk("cancel", ids)))
    assert await engine.bulk.stop(done.bulk_id) == done
    assert await engine.bulk.stop(uuid4()) is None


async def test_an_action_is_held_while_somebody_works_at_it(engine: Engine, clock: ManualClock) -> None:
    bulk = await created(engine, make_bulk("cancel", await submit(engine, clock, 3)))
    clock.advance(HOLD - SECOND)
    assert await engine.bulk.find_free(limit=9) == []
    bulk = await step(engine, bulk)
    clock.advance(HOLD - SECOND)
    assert await engine.bulk.find_free(limit=9) == []
    clock.advance(2 * SECOND)
    assert await engine.bulk.find_free(limit=9) == [bulk]
    bulk = await step(engine, bulk)
    assert await engine.bulk.find_free(limit=9) == []
    await engine.bulk.hold(bulk, timedelta())
    assert await engine.bulk.find_free(limit=9) == [bulk]
    await engine.bulk.hold(structs.replace(bulk, version=bulk.version - 1), HOLD)
    assert await engine.bulk.find_free(limit=9) == [bulk], "another version is not held"
    await engine.bulk.hold(bulk, 2 * HOLD)
    clock.advance(2 * HOLD - SECOND)
    assert await engine.bulk.find_free(limit=9) == []
    clock.advance(SECOND)
    assert await engine.bulk.find_free(limit=9) == [bulk]
    await step(engine, bulk)
    clock.advance(2 * HOLD)
    assert await engine.bulk.find_free(limit=9) == [], "it is over"


async def test_an_action_goes_on_after_the_end_of_the_process(make_engine: MakeEngine, clock: ManualClock) -> None:
    engine = await make_engine()
    ids = await submit(engine, clock, 5)
    bulk = await step(engine, await created(engine, make_bulk("cancel", ids)), 2)
    await engine.close()
    clock.advance(HOLD)
    later = await open_after_the_end(make_engine, clock)
    [found] = await later.bulk.find_free(limit=9)
    assert found == bulk
    assert (await finish(later, found, at_once=2)).done == 5


async def test_no_more_tasks_are_changed_than_allowed(engine: Engine, clock: ManualClock) -> None:
    bulk = await created(engine, make_bulk("cancel", await submit(engine, clock, 3), at_most=2))
    assert (await step(engine, bulk, 2)).state == "done"


async def test_the_reason_of_each_skip_is_counted(driver: Driver, clock: ManualClock) -> None:
    engine = driver.engine
    first = await driver.submit(make_draft(clock.now(), unique_key="u"))
    needed = await driver.submit()
    needy = await driver.submit(make_draft(clock.now(), extra=Extra(depends_on=(needed,))))
    for task_id in (first, needed):
        await engine.cancel(task_id)
    await driver.submit(make_draft(clock.now(), unique_key="u"))
    pending = await driver.submit()
    bulk = await created(engine, make_bulk("retry", [needy, first, pending, uuid4()]))
    after = await finish(engine, bulk)
    assert (after.done, after.skips) == (0, {"gone": 1, "dependency": 1, "not_unique": 1, "status": 1})


async def test_an_undo_leaves_tasks_that_have_started(driver: Driver, clock: ManualClock) -> None:
    """Also those that wait for another try by now."""
    engine = driver.engine
    ids = []
    for _ in range(3):
        ids.append(await driver.submit(make_draft(clock.now())))
        await driver.finish(await driver.claim_one(), NO)
    retry = await finish(engine, await created(engine, make_bulk("retry", ids)))
    assert retry.done == 3
    running = await driver.claim_one()
    again = await driver.claim_one()
    await driver.finish(again, NO)
    await engine.retry(again.task_id)
    undo = await finish(engine, await created(engine, make_bulk("cancel", ids, undo_of=retry.bulk_id)))
    [left] = {*ids} - {running.task_id, again.task_id}
    assert (undo.done, undo.skips) == (1, {"started": 2})
    assert (await driver.get(left)).status is Status.CANCELLED
    assert (await driver.get(running.task_id)).cancel_requested_at is None
    assert (await driver.get(again.task_id)).status is Status.PENDING


async def test_the_tasks_of_an_action_are_listed_and_counted(driver: Driver, clock: ManualClock) -> None:
    engine = driver.engine
    await submit(engine, clock, 2)
    ids = await submit(engine, clock, 4)
    bulk = await finish(engine, await created(engine, make_bulk("cancel", ids)), at_once=2)
    where = TaskFilter(bulk=bulk.bulk_id)
    assert await ids_of(engine, where) == ids[3::-1]
    assert await ids_of(engine, structs.replace(where, status=(Status.PENDING,))) == []
    assert (await engine.control.count(where)).count == 4
    await engine.delete(ids[3])
    await submit(engine, clock, 1)
    assert await ids_of(engine, where) == ids[2::-1], "a new task in the place of an erased one is not of them"
    assert await ids_of(engine, TaskFilter(bulk=uuid4())) == []


async def test_actions_are_erased_with_what_they_know_of_tasks(engine: Engine, clock: ManualClock) -> None:
    day = timedelta(days=1)
    ids = await submit(engine, clock, 5)
    done = await finish(engine, await created(engine, make_bulk("cancel", ids[:4])))
    running = await created(engine, make_bulk("cancel", ids[4:]))
    clock.advance(30 * day)
    later = await finish(engine, await created(engine, make_bulk("retry", ids[:2])))
    assert await engine.bulk.prune(keep=31 * day, limit=3) == 0
    clock.advance(day + SECOND)
    erased = [await engine.bulk.prune(keep=31 * day, limit=3) for _ in range(3)]
    assert erased == [3, 2, 0], "four tasks and the action itself"
    assert await engine.bulk.find(done.bulk_id) is None
    assert await ids_of(engine, TaskFilter(bulk=done.bulk_id)) == []
    assert [one.bulk_id for one in (await engine.bulk.find_many(limit=9)).items] == [later.bulk_id, running.bulk_id]


async def test_tasks_are_found_by_their_ids(driver: Driver, clock: ManualClock) -> None:
    draft = structs.replace(make_draft(clock.now(), queue="q"), owner="me", retention=SECOND)
    task_id = await driver.submit(draft)
    [found] = await driver.engine.bulk.find_tasks([task_id, uuid4()])
    assert found == (task_id, "me", "q", Status.PENDING)
    await driver.finish(await driver.claim_one(), NO)
    assert [one.status for one in await driver.engine.bulk.find_tasks([task_id])] == [Status.FAILED]
    clock.advance(2 * SECOND)
    assert await driver.engine.bulk.find_tasks([task_id]) == []
