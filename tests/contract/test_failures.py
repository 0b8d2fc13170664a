"""Failures are counted by group and hour, in the transaction that ends the task, whichever way it fails."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from random import Random
from uuid import UUID

import pytest
from msgspec import structs
from tests.contract.conftest import MakeEngine

from tasker.engines.protocol import Engine
from tasker.engines.shared.stores.failures import hour_of
from tasker.errors import Invalid
from tasker.model import ExceptionInfo, Extra, Status, TaskFilter
from tasker.model.failures import KEEP_FAILURES_FOR, NEW_GROUPS_AN_HOUR, OTHER, FailureFilter, FailureGroup
from tasker.rules.failures import fingerprint
from tasker.rules.lifecycle import MAX_CRASHES, Crashed, Failed, Outcome, Succeeded, TimedOut, problem
from tasker.testing import Driver, ManualClock, make_draft

SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)


def raised(message: str, class_: str = "ValueError") -> Failed:
    info = ExceptionInfo(class_=class_, message=message)
    return Failed(structs.replace(problem("task-failed", f"{class_}: {message}"), exception=info))


async def fail(driver: Driver, clock: ManualClock, outcome: Outcome, **options: object) -> UUID:
    """Submit a task and let it fail, a second later."""
    draft = make_draft(clock.now(), **options)  # type: ignore[arg-type]
    task_id = await driver.submit(draft)
    [claim] = await driver.claim(queues=[draft.queue], types=[draft.type])
    clock.advance(SECOND)
    assert await driver.finish(claim, outcome)
    return task_id


async def groups(engine: Engine, clock: ManualClock, since: timedelta = DAY, **more: object) -> list[FailureGroup]:
    where = FailureFilter(since=clock.now() - since, **more)  # type: ignore[arg-type]
    return (await engine.failures.find_many(where, limit=500)).items


async def listed(engine: Engine, failure_id: str, **more: object) -> list[UUID]:
    page = await engine.find_many(TaskFilter(error=failure_id, **more), limit=100)  # type: ignore[arg-type]
    assert page.next_cursor is None
    return [task.task_id for task in page.items]


async def test_failures_that_are_alike_are_one_group(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    start = clock.now()
    first = await fail(driver, clock, raised("no key 'a' in 3 rows"))
    other = await fail(driver, clock, raised("no key 'a' in 3 rows"), type="gpt")
    last = await fail(driver, clock, raised("no key 'b' in 77 rows"))
    await fail(driver, clock, Succeeded(b"6"))
    found = await groups(engine, clock)
    assert [(group.type, group.count) for group in found] == [("sum", 2), ("gpt", 1)]
    group = found[0]
    assert (group.problem, group.exception) == ("/problems/task-failed", "ValueError")
    assert (group.message, group.owner) == ("no key … in # rows", "")
    assert (group.first_at, group.last_at) == (start + SECOND, start + 3 * SECOND)
    assert group.sample is not None
    assert (group.sample.task_id, group.sample.detail) == (last, "ValueError: no key 'b' in 77 rows")
    assert await listed(engine, group.failure_id) == [last, first]
    assert await listed(engine, found[1].failure_id) == [other]
    assert await listed(engine, "0123456789abcdef") == []


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Failed(problem("task-failed", "no")), "task-failed"),
        (Failed(problem("result-too-large", "too large")), "result-too-large"),
        (TimedOut(SECOND), "timed-out"),
        (Crashed("killed by signal 9"), "worker-crashed"),
    ],
    ids=lambda given: given if isinstance(given, str) else type(given).__name__,
)
async def test_an_attempt_that_ends_the_task_counts(
    driver: Driver, engine: Engine, clock: ManualClock, outcome: Outcome, kind: str
) -> None:
    await fail(driver, clock, outcome, on_crash="fail")
    assert [(group.problem, group.count) for group in await groups(engine, clock)] == [(f"/problems/{kind}", 1)]


async def test_only_the_attempt_that_ends_the_task_counts(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await driver.submit()
    for number in range(MAX_CRASHES):
        assert await groups(engine, clock) == []
        await driver.finish(await driver.claim_one(), Crashed(f"signal {number}"))
        clock.advance(HOUR / 12)
    assert [group.count for group in await groups(engine, clock)] == [1]


async def test_a_task_that_fails_without_an_attempt_counts(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await driver.submit(make_draft(clock.now(), deadline=clock.now() + SECOND, type="late"))
    needed = await driver.submit(make_draft(clock.now(), type="needed"))
    waits = await driver.submit(make_draft(clock.now(), extra=Extra(depends_on=(needed,))))
    await driver.finish(await driver.claim_one(types=["needed"]), raised("no"))
    at_once = await driver.submit(make_draft(clock.now(), extra=Extra(depends_on=(needed,))))
    clock.advance(2 * SECOND)
    assert await engine.fail_overdue(limit=10) == 1
    found = {group.type: group for group in await groups(engine, clock)}
    assert {name: group.count for name, group in found.items()} == {"late": 1, "needed": 1, "sum": 2}
    assert found["late"].problem == "/problems/deadline-passed"
    assert found["sum"].message == "task #, on which this one depends, failed: ValueError: no"
    assert await listed(engine, found["sum"].failure_id) == [at_once, waits]


async def test_a_lost_lease_counts_nothing(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    assert await driver.finish(claim, raised("one"))
    assert not await driver.finish(claim, raised("two"))
    assert [(group.message, group.count) for group in await groups(engine, clock)] == [("one", 1)]


async def test_a_retried_task_leaves_its_group_and_its_failure_stays_counted(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    task_id = await fail(driver, clock, raised("one"))
    [group] = await groups(engine, clock)
    await engine.retry(task_id)
    assert await listed(engine, group.failure_id) == []
    assert await groups(engine, clock) == [structs.replace(group, message=None, sample=None)]
    clock.advance(SECOND)
    await driver.finish(await driver.claim_one(), raised("two"))
    two, one = await groups(engine, clock)
    assert ((one.message, one.count, one.sample), (two.message, two.count)) == ((None, 1, None), ("two", 1))
    assert (await listed(engine, one.failure_id), await listed(engine, two.failure_id)) == ([], [task_id])
    await engine.retry(task_id)
    clock.advance(SECOND)
    await driver.finish(await driver.claim_one(), raised("one"))
    assert [(one.message, one.count) for one in await groups(engine, clock)] == [("one", 2), (None, 1)]
    assert await listed(engine, one.failure_id) == [task_id]


async def test_an_erased_task_leaves_no_detail_behind(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    task_id = await fail(driver, clock, raised("no row for 'ada@example.com'"))
    [group] = await groups(engine, clock)
    await engine.delete(task_id)
    assert await listed(engine, group.failure_id) == []
    assert await groups(engine, clock) == [structs.replace(group, message=None, sample=None)]


async def test_failures_are_selected_by_type_queue_group_and_window(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    for options in ({"queue": "a"}, {"queue": "b"}, {"queue": "b", "type": "gpt"}):
        await fail(driver, clock, raised("one"), **options)
    clock.advance(3 * HOUR)
    await fail(driver, clock, raised("one"), queue="b")

    async def counts(since: timedelta = DAY, **more: object) -> list[tuple[str, int]]:
        return [(group.type, group.count) for group in await groups(engine, clock, since, **more)]

    assert await counts() == [("sum", 3), ("gpt", 1)]
    assert await counts(types=("gpt",)) == [("gpt", 1)]
    assert await counts(types=("gpt", "sum", "no")) == [("sum", 3), ("gpt", 1)]
    assert await counts(queues=("a",)) == [("sum", 1)]
    assert await counts(queues=("b",), types=("sum",)) == [("sum", 2)]
    assert await counts(failure_id=fingerprint("", "gpt", raised("one").problem).failure_id) == [("gpt", 1)]
    assert await counts(HOUR) == [("sum", 1)]


async def test_each_owner_has_its_own_groups(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    for owner in ("ada", "eve", "eve"):
        await fail(driver, clock, raised("one"), owner=owner)
    assert [(group.owner, group.count) for group in await groups(engine, clock)] == [("eve", 2), ("ada", 1)]
    assert [(group.owner, group.count) for group in await groups(engine, clock, owner="ada")] == [("ada", 1)]
    assert await groups(engine, clock, owner="") == []


async def test_pages_join_to_the_whole(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    for name in "abcdefg":
        await fail(driver, clock, raised(name))
    where, cursor, found = FailureFilter(since=clock.now() - DAY), None, list[str]()
    for size in (3, 3, 1):
        page = await engine.failures.find_many(where, limit=3, cursor=cursor)
        assert len(page.items) == size
        assert page.counted_from == hour_of(where.since)
        found, cursor = found + [group.message for group in page.items], page.next_cursor
    assert (found, cursor) == (list("gfedcba"), None)
    with pytest.raises(Invalid):
        await engine.failures.find_many(where, limit=3, cursor="x")


async def test_a_page_reads_so_many_counts_and_says_from_when_on(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    for _ in range(4):
        await fail(driver, clock, raised("one"))
        clock.advance(HOUR)
    engine.failures._most = 2  # type: ignore[attr-defined]
    one = fingerprint("", "sum", raised("one").problem).failure_id
    for more in ({}, {"owner": ""}, {"failure_id": one}, {"failure_id": one, "owner": ""}):
        page = await engine.failures.find_many(FailureFilter(since=clock.now() - DAY, **more), limit=3)  # type: ignore[arg-type]
        assert [group.count for group in page.items] == [3]
        assert page.counted_from == hour_of(clock.now()) - 3 * HOUR


async def test_one_group_is_counted_whatever_else_fails(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    for name in ("one", "a", "b", "c"):
        await fail(driver, clock, raised(name))
        clock.advance(HOUR)
    engine.failures._most = 2  # type: ignore[attr-defined]
    one = fingerprint("", "sum", raised("one").problem).failure_id
    for more in ({}, {"owner": ""}):
        page = await engine.failures.find_many(
            FailureFilter(since=clock.now() - DAY, failure_id=one, **more),  # type: ignore[arg-type]
            limit=3,
        )
        assert [(group.message, group.count) for group in page.items] == [("one", 1)]
        assert page.counted_from == hour_of(clock.now() - DAY)


async def test_an_owner_gets_so_many_new_groups_an_hour(
    driver: Driver, engine: Engine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sqlite", "postgres"):
        monkeypatch.setattr(f"tasker.engines.{module}.failures.NEW_GROUPS_AN_HOUR", 2)
    for name in "abcda":
        await fail(driver, clock, raised(name), owner="ada")
    await fail(driver, clock, raised("c"), owner="eve")
    for name in "xyz":
        await fail(driver, clock, raised(name), owner="bob")
    found = {(group.owner, group.message): group for group in await groups(engine, clock)}
    assert {key: group.count for key, group in found.items()} == {
        ("ada", "a"): 2, ("ada", "b"): 1, ("ada", None): 2, ("eve", "c"): 1,
        ("bob", "x"): 1, ("bob", "y"): 1, ("bob", None): 1,
    }  # fmt: skip
    other = found["ada", None]
    assert (other.failure_id, other.type, other.sample) == (OTHER, "sum", None)
    assert len(await listed(engine, OTHER, owner="ada")) == 2
    assert await groups(engine, clock, failure_id=OTHER, owner="ada") == [other]
    assert [group.owner for group in await groups(engine, clock, failure_id=OTHER)] == ["bob", "ada"]
    clock.advance(HOUR)
    await fail(driver, clock, raised("c"), owner="ada")
    assert [group.message for group in await groups(engine, clock, HOUR, owner="ada")][:1] == ["c"]


def test_the_limit_of_new_groups() -> None:
    assert NEW_GROUPS_AN_HOUR == 1000


async def test_many_failures_in_one_transaction_are_all_counted(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    needed = await driver.submit(make_draft(clock.now(), type="needed"))
    kinds = ["sum", "gpt", "sum"] * 20
    await engine.submit([make_draft(clock.now(), type=kind, extra=Extra(depends_on=(needed,))) for kind in kinds])
    await driver.finish(await driver.claim_one(types=["needed"]), raised("no"))
    found = {group.type: group.count for group in await groups(engine, clock)}
    assert found == {"needed": 1, "sum": 40, "gpt": 20}


async def test_counts_are_the_same_before_and_after_they_are_merged(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    for message in ("one", "two", "one", "one"):
        await fail(driver, clock, raised(message))
        clock.advance(HOUR / 3)
    before = await groups(engine, clock)
    assert {group.message: group.count for group in before} == {"one": 3, "two": 1}
    for _ in range(2):
        await engine.prune(limit=500)
        assert await groups(engine, clock) == before
    await fail(driver, clock, raised("one"))
    assert (await groups(engine, clock))[0].count == 4


async def test_failures_are_counted_for_so_many_days(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await fail(driver, clock, raised("one"))
    await fail(driver, clock, raised("two"))
    clock.advance(KEEP_FAILURES_FOR - DAY)
    await fail(driver, clock, raised("two"))
    await prune_all(engine)
    assert [group.count for group in await groups(engine, clock, KEEP_FAILURES_FOR)] == [2, 1]
    clock.advance(2 * DAY)
    await prune_all(engine)
    [two] = await groups(engine, clock, 2 * KEEP_FAILURES_FOR)
    assert (two.message, two.count) == ("two", 1)
    clock.advance(KEEP_FAILURES_FOR)
    await prune_all(engine)
    assert await groups(engine, clock, 10 * KEEP_FAILURES_FOR) == []
    await fail(driver, clock, raised("two"))
    [two] = await groups(engine, clock)
    assert two.first_at == clock.now(), "it begins anew"


async def prune_all(engine: Engine) -> None:
    while await engine.prune(limit=500):
        pass


async def test_counts_survive_the_end_of_the_process(
    make_engine: MakeEngine, driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    await fail(driver, clock, raised("one"))
    found = await groups(engine, clock)
    await engine.close()
    assert await groups(await make_engine(), clock) == found


def tasks_by_group(tasks: Sequence[tuple[UUID, str]]) -> dict[str, set[UUID]]:
    found: dict[str, set[UUID]] = {}
    for task_id, message in tasks:
        found.setdefault(fingerprint("", "sum", raised(message).problem).failure_id, set()).add(task_id)
    return found


async def test_lists_by_group_equal_the_failed_tasks_after_any_history(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    random, happened = Random(3), dict[str, int]()
    for _ in range(60):
        await driver.submit()
        failed = await engine.find_many(TaskFilter(status=(Status.FAILED,)), limit=500)
        if failed.items and random.random() < 0.4:
            task_id = random.choice(failed.items).task_id
            await (engine.retry(task_id) if random.random() < 0.6 else engine.delete(task_id))
        for claim in await driver.claim(random.choice((1, 2))):
            outcome = random.choice((raised("one"), raised("two"), raised("3"), Succeeded(b"1")))
            await driver.finish(claim, outcome)
            if isinstance(outcome, Failed):
                failure_id = fingerprint("", "sum", outcome.problem).failure_id
                happened[failure_id] = happened.get(failure_id, 0) + 1
        clock.advance(SECOND)
    assert {group.failure_id: group.count for group in await groups(engine, clock)} == happened
    left = await engine.find_many(TaskFilter(status=(Status.FAILED,)), limit=500)
    expected = tasks_by_group([(task.task_id, task.error.exception.message) for task in left.items])  # type: ignore[union-attr]
    for failure_id in happened:
        assert set(await listed(engine, failure_id)) == expected.get(failure_id, set())
