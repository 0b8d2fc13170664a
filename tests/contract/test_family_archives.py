"""Archives of tasks with steps, children and questions: the same on the other side, and going on there."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import msgspec
import pytest
from msgspec import structs
from tests.contract.conftest import MakeEngine
from tests.contract.steps import claim_children, new_question, new_sleep, new_step, one_step, park, put, start
from tests.contract.test_archive import exported, imported, source

from tasker.archive.vetting import Vetting
from tasker.engines.protocol import Engine
from tasker.model import Claim, RetryPolicy, Status, TaskFilter
from tasker.model.archive import StoredTask
from tasker.rules.lifecycle import Failed, Succeeded, problem
from tasker.testing import Driver, ManualClock, make_draft

__all__ = ["source"]
DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
DECADE = timedelta(days=3650)
"""Archives are read with the system's clock."""
ODD = '{"name":"approve","message":"?","schema":{"type":"cat"}}'
BROKEN = Failed(problem("task-failed", "broken"))
BUSY = Failed(problem("task-failed", "busy", retryable=True))
DONE = Succeeded(b"1")


async def claim_parent(driver: Driver, type_: str, **options: object) -> Claim:
    driver.clock.advance(SECOND)
    await driver.submit(make_draft(driver.clock.now(), type=type_, **options))  # type: ignore[arg-type]
    return await driver.claim_one(types=(type_,))


async def end_children(driver: Driver, *outcomes: object) -> None:
    for outcome in outcomes:
        [claim] = await claim_children(driver, 1)
        await driver.finish(claim, outcome)  # type: ignore[arg-type]


async def fill(engine: Engine, clock: ManualClock) -> dict[str, UUID]:
    """Store families in all their states; return the ids of the parents."""
    driver, ids = Driver(engine, clock), {}

    async def parent(name: str, **options: object) -> Claim:
        claim = await claim_parent(driver, name, **options)
        ids[name] = claim.task_id
        return claim

    claim = await parent("sleeping")
    secret = new_step(clock.now(), "token", b'"***"', secret_value=b'"abc"')
    await put(engine, claim, new_step(clock.now()), secret, new_sleep(clock.now(), DAY))
    await park(driver, claim, until=clock.now() + DAY)

    claim = await parent("asking")
    await put(engine, claim, new_question(clock.now()), new_question(clock.now(), "size", DAY))
    await engine.steps.answer(claim.task_id, "size", b"true", "ada")
    await park(driver, claim, inputs=("approve",))

    claim = await parent("spawning", retention=DECADE)
    await start(driver, claim, 1, key="spawn", is_detached=True, options={"type": "late"})
    await driver.finish(claim, DONE)

    claim = await parent("failing")
    await start(driver, claim, 2)
    await driver.finish(claim, BROKEN)

    claim = await parent("again", retry=RetryPolicy(max_attempts=2, initial=HOUR, jitter=False))
    await start(driver, claim, 2)
    await end_children(driver, BROKEN, DONE)
    await driver.finish(claim, BUSY)

    claim = await parent("resting", retention=DECADE)
    await start(driver, claim, 1, options={"retention": DECADE})
    await end_children(driver, DONE)
    await park(driver, claim, until=clock.now() + 2 * DAY)

    claim = await parent("mapping")
    await put(engine, claim, new_step(clock.now()))
    await start(driver, claim, 5, max_in_flight=2)
    await park(driver, claim, children=("map",))
    await end_children(driver, DONE)
    [middle] = await claim_children(driver, 1)
    ids["middle"] = middle.task_id
    await start(driver, middle, 1, level=2, options={"type": "grandchild"})
    return ids


async def test_families_are_the_same_on_the_other_side(source: Engine, engine: Engine, clock: ManualClock) -> None:
    """From each engine to each: a text that is the same makes the way back the same, too."""
    ids = await fill(source, clock)
    text = await exported(source)
    count = len((await source.find_many(TaskFilter(), limit=100)).items)
    assert (await imported(engine, text)).stored == count == 19
    assert await exported(engine) == text
    for name, task_id in ids.items():
        one, other = await source.find(task_id), await engine.find(task_id)
        assert msgspec.json.encode(one) == msgspec.json.encode(other), name
        found = [structs.replace(step, secret_value=None) for step in await source.steps.find(task_id)]
        assert await engine.steps.find(task_id) == found, name
        assert await engine.steps.find_family(task_id) == await source.steps.find_family(task_id)
        for step in found:
            children = [await side.steps.find_children(task_id, step.key) for side in (source, engine)]
            assert children[0] == children[1], name
    assert await engine.steps.find_questions(limit=9) == await source.steps.find_questions(limit=9)
    assert (await imported(engine, text)).known == count
    assert b'"abc"' not in text, "archives have no secrets"


async def test_families_go_on_there(
    source: Engine, engine: Engine, make_engine: MakeEngine, clock: ManualClock
) -> None:
    ids = await fill(source, clock)
    await imported(engine, await exported(source))
    await engine.close()
    later = await make_engine()
    driver = Driver(later, clock)
    assert {claim.task_id for claim in await driver.reap()} == {ids["middle"]}
    await later.steps.answer(ids["asking"], "approve", b"true", "ada")
    assert (await driver.claim_one(types=("asking",))).has_steps
    assert await driver.claim(9, types=("mapping", "sleeping", "again")) == []
    [grandchild] = await driver.claim(9, types=("grandchild",))
    await driver.finish(grandchild, DONE)
    for left in (2, 2, 2, 1):
        claims = await claim_children(driver)
        assert len(claims) <= left, "no more than two at a time"
        assert claims
        await driver.finish(claims[0], DONE)
        for claim in claims[1:]:
            await driver.finish(claim, Succeeded(b"2"))
        if (await one_step(later, ids["mapping"], "map")).completed == 5:
            break
    mapping = await driver.claim_one(types=("mapping",))
    assert (mapping.attempt, mapping.tries) == (2, 0)
    step = await one_step(later, ids["mapping"], "map")
    assert (step.completed, step.open_children) == (5, 0)
    clock.advance(HOUR)
    again = await driver.claim_one(types=("again",))
    step = await later.steps.run_children_again(again.lease, "map")
    assert step is not None
    assert (step.open_children, step.completed) == (1, 1)
    await end_children(driver, DONE)
    clock.advance(DAY)
    assert (await driver.claim_one(types=("sleeping",))).attempt == 2
    [late] = await driver.claim(9, types=("late",))
    await driver.finish(late, DONE)
    assert (await one_step(later, ids["spawning"], "spawn")).completed == 1


async def family(source: Engine, clock: ManualClock) -> tuple[StoredTask, list[StoredTask]]:
    """Return a parked parent and its three children, of which one has ended, as an archive has them."""
    driver = Driver(source, clock)
    claim = await claim_parent(driver, "parent")
    await start(driver, claim, 3, max_in_flight=2)
    await park(driver, claim, children=("map",))
    await end_children(driver, DONE)
    tasks = [
        task async for page in source.archive.read(at_once=9, size=1 << 20) for task in page
        if isinstance(task, StoredTask)
    ]  # fmt: skip
    return tasks[0], tasks[1:]


async def test_children_may_come_before_their_parent(source: Engine, engine: Engine, clock: ManualClock) -> None:
    """Two are there and end before it comes; the third is in a later page."""
    parent, children = await family(source, clock)
    driver = Driver(engine, clock)
    for child in children[:2]:
        assert await engine.archive.put([child]) == 1
    await end_children(driver, BROKEN)
    assert await engine.archive.put([parent]) == 1
    assert await driver.claim(9, types=("parent",)) == [], "another child is still to come"
    assert await engine.archive.put(children[2:]) == 1
    step = await one_step(engine, parent.task_id, "map")
    assert (step.completed, step.failed, step.open_children) == (1, 1, 1)
    await end_children(driver, DONE)
    assert (await driver.claim_one(types=("parent",))).attempt == 2


async def test_a_parent_wakes_when_all_ended_before_it_came(source: Engine, engine: Engine, clock: ManualClock) -> None:
    parent, children = await family(source, clock)
    driver = Driver(engine, clock)
    await engine.archive.put(children)
    await end_children(driver, DONE, DONE)
    assert await engine.archive.put([parent]) == 1
    task = await driver.get(parent.task_id)
    assert (task.status, task.reason) == (Status.PENDING, "queued")
    assert (await driver.claim_one(types=("parent",))).attempt == 2


async def test_a_rehearsal_leaves_nothing(source: Engine, engine: Engine, clock: ManualClock) -> None:
    parent, children = await family(source, clock)
    assert await engine.archive.put([parent, *children], rehearsal=True) == 4
    assert (await engine.find_many(TaskFilter(), limit=9)).items == []
    assert await engine.archive.put([parent, *children]) == 4
    assert len(await engine.steps.find(parent.task_id)) == 1


async def test_what_went_on_here_is_no_other_content(source: Engine, engine: Engine, clock: ManualClock) -> None:
    """Children of an ended task have ended since; a parent has ended, and says how long its children are kept."""
    ids = await fill(source, clock)
    before = await exported(source)
    await imported(engine, before)
    driver = Driver(engine, clock)
    [late] = await driver.claim(9, types=("late",))
    await driver.finish(late, DONE)
    await engine.cancel(ids["resting"])
    await engine.sweep(limit=100)
    [child] = (await engine.find_many(TaskFilter(parent=ids["resting"]), limit=9)).items
    assert child.expires_at is not None
    assert (await imported(engine, before)).gone_on > 0


def _in_a_place(task: StoredTask, **fields: object) -> StoredTask:
    assert task.child is not None
    return structs.replace(task, child=structs.replace(task.child, **fields))


def _with_a_step(task: StoredTask, **fields: object) -> StoredTask:
    return structs.replace(task, steps=[structs.replace(task.steps[0], **fields)])


CHILDREN = [
    (lambda task: _in_a_place(task, place=0), "expected each place of a child once"),
    (lambda task: _in_a_place(task, number=0), "/child/number: expected a whole number from 1"),
    (lambda task: _in_a_place(task, level=17), "/child/level: expected a whole number from 1 to 16"),
    (lambda task: _in_a_place(task, is_held=True), "/child/is_held: expected false"),
    (lambda task: structs.replace(task, has_dependants=False), "/has_dependants: expected true"),
    (lambda task: structs.replace(task, extra=None), "/child: expected null in a task without a parent_id"),
]
STEPS = [
    (lambda task: _with_a_step(task, number=0), "/steps/0/number"),
    (lambda task: _with_a_step(task, number=1 << 20), "/steps/0/number"),
    (lambda task: _with_a_step(task, kind="nap"), "/steps/0/kind: expected one of step, sleep"),
    (lambda task: _with_a_step(task, attempt=2), "/steps/0/attempt: expected a whole number from 0 to 1"),
    (lambda task: _with_a_step(task, stored=4), "/steps/0/stored: expected a whole number from 3 to 3"),
    (lambda task: _with_a_step(task, completed=2), "/steps/0/stored"),
    (lambda task: _with_a_step(task, in_flight=-1), "/steps/0/in_flight"),
    (lambda task: _with_a_step(task, max_in_flight=0), "/steps/0/max_in_flight"),
    (lambda task: _with_a_step(task, kind="step"), "/steps/0/total: expected a whole number from 0 to 0"),
    (lambda task: _with_a_step(task, value="[1"), "/steps/0/value: expected JSON"),
    (lambda task: _with_a_step(task, question="{}"), "/steps/0/question: expected one in a step of kind input"),
    (lambda task: _with_a_step(task, kind="input", question="{}"), "/steps/0/question"),
    (lambda task: _with_a_step(task, kind="input", question=ODD), "/steps/0/question/schema"),
    (lambda task: structs.replace(task, steps=task.steps * 2), "/steps/1/number"),
    (lambda task: structs.replace(task, steps=[task.steps[0], structs.replace(task.steps[0], number=2)]), "each key"),
    (lambda task: structs.replace(task, has_dependants=False), "/has_dependants: expected true"),
]


@pytest.mark.parametrize("source", ["sqlite"], indirect=True)
@pytest.mark.parametrize("of_parent", [False, True])
async def test_families_that_cannot_be_are_refused(source: Engine, clock: ManualClock, of_parent: bool) -> None:
    parent, children = await family(source, clock)
    for spoil, why in STEPS if of_parent else CHILDREN:
        vetting = Vetting(clock.now())
        vetting.task(children[0] if not of_parent else children[1])
        with pytest.raises(ValueError, match=why):
            vetting.task(spoil(parent if of_parent else children[1]))
        vetting.close()
