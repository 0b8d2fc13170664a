"""Steps, children and questions for those who look at them, and answers."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.asking import done, park, question, sleep, start_children, store

from tasker.engines.sqlite import SqliteEngine
from tasker.errors import Conflict, Expired, Fault, Invalid, Malformed, NotFound
from tasker.model import Claim, Status
from tasker.model.keys import ANYBODY, Caller, Scope
from tasker.model.steps import Forget, NewStep
from tasker.rules.lifecycle import Failed, Succeeded, problem
from tasker.service import Service, steps
from tasker.testing import Driver, ManualClock

HOUR = timedelta(hours=1)
SUM = b'{"type":"add","params":[1]}'
APPROVAL = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "by": {"type": "string", "minLength": 1}},
    "required": ["ok", "by"],
    "additionalProperties": False,
}
ALICE = Caller(owner="alice", key_id="a", scopes=frozenset[Scope](("submit", "read", "control")))


async def started(service: Service, driver: Driver, caller: Caller = ANYBODY) -> Claim:
    await service.submissions.submit(caller, SUM)
    return await driver.claim_one(types=["add"])


async def asking(service: Service, driver: Driver, *steps: NewStep, caller: Caller = ANYBODY) -> UUID:
    """Return the id of a task that is parked with these steps, by default with one question."""
    claim = await started(service, driver, caller)
    await park(driver, claim, *(steps or (question(driver.clock.now()),)))
    return claim.task_id


async def test_steps_come_in_order_without_the_secret_values(service: Service, driver: Driver) -> None:
    claim, now = await started(service, driver), driver.clock.now()
    await store(driver.engine, claim, done(now, "charge", {"token": "***"}, secret=b'{"token":"s3cret"}'))
    await park(driver, claim, sleep(now, "cool off", now + HOUR), question(now))
    steps = await service.steps.find(ANYBODY, claim.task_id)
    assert [(step.number, step.key, step.kind) for step in steps] == [
        (1, "charge", "step"),
        (2, "cool off", "sleep"),
        (3, "approve", "input"),
    ]
    assert (steps[0].value, steps[0].secret_value) == (b'{"token":"***"}', None)
    with pytest.raises(NotFound):
        await service.steps.find(ANYBODY, uuid4())


async def test_children_are_the_newest_few(service: Service, driver: Driver) -> None:
    claim = await started(service, driver)
    ids = await start_children(driver.engine, claim, driver.clock.now(), 5, types=["add"])
    shown = await service.steps.children(ANYBODY, claim.task_id, limit=2)
    assert len(shown) == 2
    assert {child.task_id for child in shown} < set(ids)
    assert {child.parent_id for child in shown} == {claim.task_id}
    assert len(await service.steps.children(ANYBODY, claim.task_id)) == 5
    assert await service.steps.children(ANYBODY, uuid4()) == []


async def test_an_answer_wakes_the_task(service: Service, driver: Driver) -> None:
    task_id = await asking(service, driver)
    task = await service.tasks.get(ANYBODY, task_id)
    assert (task.reason, task.input is not None and task.input.name) == ("input_required", "approve")
    [waiting] = await service.steps.questions(ANYBODY, limit=9)
    assert (waiting.task_id, waiting.key, waiting.asked.message) == (task_id, "approve", "Ship 17?")
    answered = await service.steps.answer(ANYBODY, task_id, "approve", b'"yes"')
    assert (answered.status, answered.reason, answered.input) == (Status.PENDING, "queued", None)
    assert await service.steps.questions(ANYBODY, limit=9) == []
    [step] = await service.steps.find(ANYBODY, task_id)
    assert (step.value, step.answered_by) == (b'"yes"', "")
    assert (await driver.claim_one(types=["add"])).task_id == task_id


async def test_a_running_task_can_be_answered_too(service: Service, driver: Driver) -> None:
    claim = await started(service, driver)
    await store(driver.engine, claim, question(driver.clock.now()))
    assert (await service.steps.answer(ANYBODY, claim.task_id, "approve", b'"no"')).status is Status.RUNNING


async def test_the_oldest_open_question_of_a_name_is_answered(
    service: Service, driver: Driver, clock: ManualClock
) -> None:
    claim, first = await started(service, driver), clock.now()
    second = clock.advance(timedelta(seconds=1))
    asked = question(first), question(second, key="approve#2"), question(second, "other")
    await park(driver, claim, *asked)
    await service.steps.answer(ANYBODY, claim.task_id, "approve", b'"yes"')
    await service.steps.answer(ANYBODY, claim.task_id, "approve", b'"no"')
    values = {step.key: step.value for step in await service.steps.find(ANYBODY, claim.task_id)}
    assert values == {"approve": b'"yes"', "approve#2": b'"no"', "other": None}


async def test_the_first_of_many_open_questions_can_be_answered(
    service: Service, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_LAST_QUESTIONS", 2)
    now = driver.clock.now()
    task_id = await asking(service, driver, *(question(now, name) for name in ("a", "b", "c", "d")))
    for name in ("a", "b", "c", "d"):
        asked = (await service.tasks.get(ANYBODY, task_id)).input
        assert asked is not None
        assert asked.name == name
        await service.steps.answer(ANYBODY, task_id, name, b'"yes"')


async def test_a_late_answer_is_not_taken_for_the_next_question(
    service: Service, driver: Driver, clock: ManualClock
) -> None:
    claim, first = await started(service, driver), clock.now()
    second = clock.advance(timedelta(seconds=1))
    await park(driver, claim, question(first), question(second, key="approve#2"))
    for _ in range(2):  # the second time as after a lost reply
        await service.steps.answer(ANYBODY, claim.task_id, "approve", b'"yes"', asked_at=first)
    values = [step.value for step in await service.steps.find(ANYBODY, claim.task_id)]
    assert values == [b'"yes"', None]
    with pytest.raises(Conflict, match="answered already"):
        await service.steps.answer(ANYBODY, claim.task_id, "approve", b'"no"', asked_at=first)
    with pytest.raises(Conflict, match="does not ask 'approve'"):
        await service.steps.answer(ANYBODY, claim.task_id, "approve", b'"no"', asked_at=second + HOUR)


async def test_the_same_answer_again_changes_nothing(service: Service, driver: Driver) -> None:
    task_id = await asking(service, driver, question(driver.clock.now(), schema=APPROVAL), caller=ALICE)
    await service.steps.answer(ALICE, task_id, "approve", b'{"ok":true,"by":"ann"}')
    again = await service.steps.answer(ALICE, task_id, "approve", b' { "by": "ann", "ok": true } ')
    assert again.task_id == task_id
    other = b'{"ok":false,"by":"ann"}', b'{"ok":1,"by":"ann"}'
    for caller, value in ((ALICE, other[0]), (ALICE, other[1]), (ANYBODY, b'{"ok":true,"by":"ann"}')):
        with pytest.raises(Conflict, match="answered already"):
            await service.steps.answer(caller, task_id, "approve", value)
    await driver.finish(await driver.claim_one(types=["add"]), Succeeded(b"1"))
    assert (await service.steps.answer(ALICE, task_id, "approve", b'{"ok":true,"by":"ann"}')).status == "completed"
    with pytest.raises(Conflict, match="has ended"):
        await service.steps.answer(ALICE, task_id, "approve", b'{"ok":false,"by":"ann"}')


async def test_of_two_answers_at_once_one_counts(service: Service, driver: Driver) -> None:
    task_id = await asking(service, driver)
    told = await asyncio.gather(
        service.steps.answer(ANYBODY, task_id, "approve", b'"yes"'),
        service.steps.answer(ANYBODY, task_id, "approve", b'"no"'),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in told) == ["Conflict", "Task"]
    [step] = await service.steps.find(ANYBODY, task_id)
    assert step.value == (b'"yes"' if isinstance(told[1], Conflict) else b'"no"')


@pytest.mark.parametrize(
    ("schema", "value", "faults"),
    [
        (None, "maybe", [Fault("/value", 'expected one of "yes", "no"')]),
        (None, None, [Fault("/value", 'expected one of "yes", "no"')]),
        (
            APPROVAL,
            {"ok": "yes", "b/y": "ann"},
            [
                Fault("/value/b~1y", "unknown field; did you mean `by`?"),
                Fault("/value/by", "`by` is missing"),
                Fault("/value/ok", "expected boolean, got string"),
            ],
        ),
        ({"type": "array", "items": {"type": "integer"}}, [1, "2", 3.5], [
            Fault("/value/1", "expected integer, got string"), Fault("/value/2", "expected integer, got number"),
        ]),
        ({"type": "string"}, "x" * 100, [Fault("/value", "expected at most 50 bytes of JSON, got 102")]),
    ],
)  # fmt: skip
async def test_every_fault_of_an_answer_is_told(
    service: Service, driver: Driver, schema: Any, value: Any, faults: list[Fault]
) -> None:
    service.steps._max_answer = 50
    task_id = await asking(service, driver, question(driver.clock.now(), schema=schema))
    with pytest.raises(Invalid) as caught:
        await service.steps.answer(ANYBODY, task_id, "approve", json.dumps(value).encode())
    assert sorted(caught.value.faults, key=str) == sorted(faults, key=str)
    assert (await service.tasks.get(ANYBODY, task_id)).reason == "input_required"


async def test_a_text_that_is_not_json_is_no_answer(service: Service, driver: Driver) -> None:
    task_id = await asking(service, driver)
    with pytest.raises(Malformed):
        await service.steps.answer(ANYBODY, task_id, "approve", b"yes")


async def test_what_is_not_asked_cannot_be_answered(service: Service, driver: Driver, clock: ManualClock) -> None:
    claim, now = await started(service, driver), clock.now()
    await store(driver.engine, claim, done(now, "charge", 1))
    for name in ("approve", "charge"):
        with pytest.raises(Conflict, match=f"does not ask {name!r}"):
            await service.steps.answer(ANYBODY, claim.task_id, name, b'"yes"')
    with pytest.raises(Conflict, match="does not ask anything"):
        await service.steps.question(ANYBODY, claim.task_id)
    await park(driver, claim, question(now, until=now + HOUR))
    with pytest.raises(Conflict, match=r"does not ask 'aprove'; it asks 'approve'$"):
        await service.steps.answer(ANYBODY, claim.task_id, "aprove", b'"yes"')
    assert (await service.steps.question(ANYBODY, claim.task_id)).name == "approve"
    clock.advance(HOUR)
    with pytest.raises(Conflict, match="the time to answer 'approve' is over"):
        await service.steps.question(ANYBODY, claim.task_id)
    with pytest.raises(Conflict, match="the time to answer 'approve' is over"):
        await service.steps.answer(ANYBODY, claim.task_id, "approve", b'"yes"')
    await service.tasks.cancel(ANYBODY, claim.task_id)
    with pytest.raises(Conflict, match=r"has ended \(cancelled\)"):
        await service.steps.answer(ANYBODY, claim.task_id, "approve", b'"yes"')


async def test_a_task_that_is_gone_cannot_be_answered(
    service: Service, driver: Driver, clock: ManualClock, engine: SqliteEngine
) -> None:
    with pytest.raises(NotFound, match="there is no task"):
        await service.steps.answer(ANYBODY, uuid4(), "approve", b"1")
    submitted = await service.submissions.submit(ANYBODY, b'{"type":"add","params":[1],"retention":1}')
    await driver.finish(await driver.claim_one(types=["add"]), Succeeded(b"1"))
    clock.advance(timedelta(seconds=2))
    await engine.prune(limit=9)
    with pytest.raises(Expired):
        await service.steps.answer(ANYBODY, submitted.task.task_id, "approve", b"1")


async def failed(service: Service, driver: Driver) -> UUID:
    claim, now = await started(service, driver), driver.clock.now()
    steps = done(now, "reserve"), done(now, "charge"), done(now, "charge#2", name="charge"), done(now, "ship")
    await store(driver.engine, claim, *steps)
    await driver.finish(claim, Failed(problem("task-failed", "no")))
    return claim.task_id


@pytest.mark.parametrize(
    ("forget", "kept"),
    [
        (None, ["reserve", "charge", "charge#2", "ship"]),
        (Forget(since="charge#2"), ["reserve", "charge"]),
        (Forget(names=("charge",)), ["reserve", "ship"]),
        (Forget(names=("charge#2", "reserve")), ["charge", "ship"]),
    ],
)
async def test_a_retry_forgets_what_it_is_told_to(
    service: Service, driver: Driver, forget: Forget | None, kept: list[str]
) -> None:
    task_id = await failed(service, driver)
    assert (await service.tasks.retry(ANYBODY, task_id, forget)).status == "pending"
    assert [step.key for step in await service.steps.find(ANYBODY, task_id)] == kept


async def test_a_retry_cannot_forget_what_was_never_stored(service: Service, driver: Driver) -> None:
    task_id = await failed(service, driver)
    with pytest.raises(Invalid) as caught:
        await service.tasks.retry(ANYBODY, task_id, Forget(names=("charge", "chrage", "ship", "x")))
    assert caught.value.faults == (
        Fault("/forget/1", "the task has no such step"),
        Fault("/forget/3", "the task has no such step"),
    )
    with pytest.raises(Invalid) as caught:
        await service.tasks.retry(ANYBODY, task_id, Forget(since="x"))
    assert caught.value.faults == (Fault("/from", "the task has no such step"),)
    assert (await service.tasks.get(ANYBODY, task_id)).status == "failed"


async def test_a_replay_keeps_steps_if_it_is_told_to(service: Service, driver: Driver) -> None:
    task_id = await failed(service, driver)
    plain = await service.submissions.replay(ANYBODY, task_id, b"")
    keeping = await service.submissions.replay(ANYBODY, task_id, b'{"keep_steps":true}')
    assert await service.steps.find(ANYBODY, plain.task.task_id) == []
    copied = await service.steps.find(ANYBODY, keeping.task.task_id)
    assert [step.key for step in copied] == ["reserve", "charge", "charge#2", "ship"]
    with pytest.raises(Invalid) as caught:
        await service.submissions.replay(ANYBODY, task_id, b'{"keep_steps":1,"params":["x"],"priority":"y"}')
    pointers = {fault.pointer for fault in caught.value.faults}
    assert pointers == {"/keep_steps", "/params/0", "/priority"}
