"""Steps, parked tasks and questions: what a task remembers, and what it waits for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from msgspec import Raw, structs
from tests.contract.conftest import Changes
from tests.contract.journal import read_all
from tests.contract.steps import SCHEMA, new_question, new_sleep, new_step, one_step, park, put
from tests.contract.test_clock_steps import set_clock

from tasker.engines.protocol import Engine
from tasker.errors import Conflict, Expired, Invalid, NotFound
from tasker.model import Change, Report, RetryPolicy, Status
from tasker.model.steps import SHOWN_BYTES, Forget, NewStep, Step
from tasker.model.tasks import Asked
from tasker.rules.lifecycle import Cancelled, Crashed, Failed, Snoozed, Succeeded, problem
from tasker.testing import Driver, ManualClock, make_draft

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
BUSY = Failed(problem("task-failed", "busy", retryable=True))
BROKEN = Failed(problem("task-failed", "broken"))


def as_new(step: Step) -> NewStep:
    return NewStep(**{name: getattr(step, name) for name in NewStep.__struct_fields__})


# stored


async def test_steps_are_stored_in_order_with_all_their_fields(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    given = [
        new_step(clock.now(), "b", b'{"x":[1,"\xc3\xa9"]}', secret_value=b'"true"'),
        new_sleep(clock.now(), HOUR),
        new_step(clock.now() + SECOND, "a#2", None, name="a", finished_at=clock.now() + 2 * SECOND),
        new_question(clock.now(), timeout=HOUR),
    ]
    assert await put(engine, claim, *given[:2])
    assert await put(engine, claim, *given[2:])
    found = await engine.steps.find(claim.task_id)
    assert [as_new(step) for step in found] == given
    assert [(step.number, step.attempt) for step in found] == [(1, 1), (2, 1), (3, 1), (4, 1)]
    assert await engine.steps.find_some(claim.task_id, ["a#2", "nap", "other"]) == [found[1], found[2]]


async def test_the_last_steps_are_shown_without_secrets_and_cut(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    short, long = b'"%b"' % (b"x" * (SHOWN_BYTES - 2)), b'"%b"' % (b"x" * SHOWN_BYTES)
    given = [
        new_step(clock.now(), "a", short, secret_value=b'"true"'),
        new_step(clock.now(), "b", long),
        new_question(clock.now(), timeout=HOUR),
        new_step(clock.now(), "c", None),
    ]
    assert await put(engine, claim, *given)
    shown = await engine.steps.find_last(claim.task_id, limit=9)
    assert [step.key for step in shown] == ["a", "b", given[2].key, "c"]
    assert [step.value for step in shown] == [short, long[: SHOWN_BYTES + 1], None, None]
    assert [step.secret_value for step in shown] == [None] * 4
    assert shown[2:] == (await engine.steps.find(claim.task_id))[2:]
    assert await engine.steps.find_last(claim.task_id, limit=2) == shown[2:]
    assert await engine.steps.find_last(claim.task_id, limit=9, kind="input") == [shown[2]]
    assert await engine.steps.find_last(claim.task_id, limit=9, kind="sleep") == []
    assert await engine.steps.find_last(uuid4(), limit=9) == []


async def test_a_step_is_stored_once(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    assert await put(engine, claim, new_step(clock.now(), value=b"1"))
    [before] = await engine.steps.find(claim.task_id)
    clock.advance(SECOND)
    assert await put(engine, claim, new_step(clock.now(), value=b"2"), new_step(clock.now(), "next"))
    first, second = await engine.steps.find(claim.task_id)
    assert (first, second.key, second.number) == (before, "next", 2)


async def test_the_end_of_a_sleep_is_stored(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    nap = new_sleep(clock.now(), SECOND)
    await put(engine, claim, nap)
    assert (await one_step(engine, claim.task_id, "nap")).is_open
    clock.advance(SECOND)
    ended = structs.replace(nap, finished_at=clock.now())
    await put(engine, claim, ended)
    assert as_new(await one_step(engine, claim.task_id, "nap")) == ended


async def test_a_lost_attempt_stores_no_step(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await driver.submit()
    old = await driver.claim_one()
    clock.advance(31 * SECOND)
    await driver.reap()
    new = await driver.claim_one()
    assert not await put(engine, old, new_step(clock.now()))
    assert await engine.steps.find(old.task_id) == []
    assert await put(engine, new, new_step(clock.now()))
    [step] = await engine.steps.find(old.task_id)
    assert step.attempt == 2


async def test_steps_come_with_the_end_of_an_attempt(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    assert await driver.finish(claim, Succeeded(b"1"), Report(steps=(new_step(clock.now()),)))
    assert len(await engine.steps.find(claim.task_id)) == 1


async def test_a_task_that_does_not_exist_has_no_steps(engine: Engine) -> None:
    assert await engine.steps.find(uuid4()) == []
    assert await engine.steps.find_family(uuid4()) is None


async def test_a_claim_tells_whether_there_may_be_steps(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    assert not claim.has_steps
    await park(driver, claim, until=clock.now())
    assert (await driver.claim_one()).has_steps


async def test_secret_values_are_erased_with_the_secrets(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await driver.submit(make_draft(clock.now(), secrets=b'{"key":"abc"}'))
    claim = await driver.claim_one()
    await put(engine, claim, new_step(clock.now(), "a", b'"***"', secret_value=b'"abc"'), new_step(clock.now(), "b"))
    assert (await one_step(engine, claim.task_id, "a")).secret_value == b'"abc"'
    await engine.secrets.erase([claim.task_id])
    assert [step.secret_value for step in await engine.steps.find(claim.task_id)] == [None, None]
    assert [step.value for step in await engine.steps.find(claim.task_id)] == [b'"***"', b"1"]


# parked


async def test_a_sleeping_task_goes_on_when_its_time_has_come(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    task_id = await driver.submit(make_draft(clock.now(), retry=RetryPolicy(max_attempts=2)))
    claim = await driver.claim_one()
    nap = new_sleep(clock.now(), HOUR)
    await put(engine, claim, nap)
    assert await park(driver, claim, until=nap.until)
    task = await driver.get(task_id)
    assert (task.status, task.reason, task.next_attempt_at) == (Status.PENDING, "sleeping", nap.until)
    assert task.tries_left == 2
    clock.advance(HOUR - SECOND)
    assert await driver.claim() == []
    clock.advance(SECOND)
    again = await driver.claim_one()
    assert (again.task_id, again.attempt, again.tries, again.has_steps) == (task_id, 2, 0, True)
    endings = [attempt.ending for attempt in await engine.find_attempts(task_id)]
    assert endings == ["parked", None]


async def test_the_log_shows_that_it_parked(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    task_id = await driver.submit()
    claim = await driver.claim_one()
    await park(driver, claim, until=clock.now() + HOUR)
    *_, event = await engine.find_events(task_id)
    assert event.type == "parked"
    data = msgspec.json.decode(event.data)
    assert data["reason"] == "sleeping"
    assert msgspec.convert(data["until"], type(clock.now())) == clock.now() + HOUR
    [entry] = [entry for entry in await read_all(engine, None, limit=10) if entry.event.type == "parked"]
    assert entry.event == event


async def test_a_wait_whose_time_has_come_does_not_wait(driver: Driver, clock: ManualClock) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    await park(driver, claim, until=clock.now())
    assert (await driver.get(claim.task_id)).reason == "queued"
    assert (await driver.claim_one()).attempt == 2


async def test_a_requested_cancel_wins(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    task_id = await driver.submit()
    claim = await driver.claim_one()
    await engine.cancel(task_id)
    await park(driver, claim, until=clock.now() + HOUR)
    assert (await driver.get(task_id)).status is Status.CANCELLED


async def test_a_parked_task_can_be_cancelled(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    task_id = await driver.submit()
    await park(driver, await driver.claim_one(), until=clock.now() + HOUR)
    assert (await engine.cancel(task_id)).status is Status.CANCELLED
    clock.advance(HOUR)
    assert await driver.claim() == []


async def test_a_parked_task_has_its_deadline(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    task_id = await driver.submit(make_draft(clock.now(), deadline=clock.now() + SECOND))
    await park(driver, await driver.claim_one(), until=clock.now() + HOUR)
    clock.advance(2 * SECOND)
    await engine.fail_overdue(limit=10)
    assert (await driver.get(task_id)).status is Status.FAILED


async def test_a_parked_task_counts_as_waiting(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    await put(engine, claim, new_question(clock.now()))
    await park(driver, claim, inputs=("approve",))
    [counts] = await engine.stats.open_counts()
    assert (counts.pending, counts.scheduled, counts.running) == (0, 1, 0)
    await engine.steps.answer(claim.task_id, "approve", b"true", "ann")
    [counts] = await engine.stats.open_counts()
    assert (counts.pending, counts.scheduled, counts.running) == (1, 0, 0)
    await driver.claim_one()
    [counts] = await engine.stats.open_counts()
    assert (counts.pending, counts.scheduled, counts.running) == (0, 0, 1)


async def test_a_parked_task_keeps_its_end_when_the_clock_is_set(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    """A sleep is a length of time; so is the time to answer."""
    await driver.submit()
    claim = await driver.claim_one()
    nap, asked = new_sleep(clock.now(), HOUR), new_question(clock.now(), timeout=2 * HOUR)
    await put(engine, claim, nap, asked)
    await park(driver, claim, until=nap.until)
    for step in (10 * HOUR, -30 * HOUR):
        await set_clock(engine, clock, step)
        clock.advance(SECOND)
        await engine.check()
    moved = -20 * HOUR
    assert nap.until is not None
    assert asked.until is not None
    assert (await driver.get(claim.task_id)).next_attempt_at == nap.until + moved
    assert [step.until for step in await engine.steps.find(claim.task_id)] == [nap.until + moved, asked.until + moved]
    clock.advance(HOUR - 2 * SECOND)
    assert (await driver.claim_one()).task_id == claim.task_id


async def test_a_suspect_that_parks_stays_one(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await driver.submit()
    for _ in range(3):
        await driver.claim_one()
        clock.advance(31 * SECOND)
        await driver.reap()
    claim = await driver.claim_one(suspects=1)
    await put(engine, claim, new_question(clock.now()))
    await park(driver, claim, inputs=("approve",))
    await engine.steps.answer(claim.task_id, "approve", b"1", "")
    assert await driver.claim() == []
    assert (await driver.claim_one(suspects=1)).interruptions == 3


# questions


async def ask(driver: Driver, clock: ManualClock, **options: Any) -> Any:
    """Return the claim of a task that asks."""
    await driver.submit(make_draft(clock.now(), **options.pop("draft", {})))
    claim = await driver.claim_one()
    await put(driver.engine, claim, new_question(clock.now(), **options))
    return claim


async def test_a_question_shows_until_it_is_answered(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await ask(driver, clock, timeout=HOUR)
    asked = Asked(
        name="approve", message="Ship it?", schema=Raw(SCHEMA), asked_at=clock.now(), expires_at=clock.now() + HOUR
    )
    assert (await driver.get(claim.task_id)).input == asked
    await park(driver, claim, inputs=("approve",), until=clock.now() + HOUR)
    task = await driver.get(claim.task_id)
    assert (task.reason, task.input) == ("input_required", asked)
    [question] = await engine.steps.find_questions(limit=10)
    assert (question.task_id, question.type, question.owner, question.key, question.asked) == (
        claim.task_id, "sum", "", "approve", asked,
    )  # fmt: skip
    clock.advance(SECOND)
    task = await engine.steps.answer(claim.task_id, "approve", b"true", "ann")
    assert (task.reason, task.input) == ("queued", None)
    assert await engine.steps.find_questions(limit=10) == []
    step = await one_step(engine, claim.task_id, "approve")
    assert (step.value, step.answered_by, step.finished_at, step.is_open) == (b"true", "ann", clock.now(), False)


async def test_the_oldest_open_question_shows(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await ask(driver, clock)
    clock.advance(SECOND)
    await put(engine, claim, new_question(clock.now(), "second"))
    task = await engine.steps.answer(claim.task_id, "approve", b"1", "")
    assert task.input is not None
    assert task.input.name == "second"


async def test_an_answer_wakes_the_task(driver: Driver, engine: Engine, clock: ManualClock, changes: Changes) -> None:
    claim = await ask(driver, clock)
    await park(driver, claim, inputs=("approve",))
    assert await driver.claim() == []
    changes.heard.clear()
    await engine.steps.answer(claim.task_id, "approve", b"true", "ann")
    await changes.until(Change(claim.task_id, Status.PENDING))
    assert (await driver.claim_one()).attempt == 2


async def test_an_answer_tells_a_running_task(
    driver: Driver, engine: Engine, clock: ManualClock, changes: Changes
) -> None:
    claim = await ask(driver, clock)
    changes.heard.clear()
    await engine.steps.answer(claim.task_id, "approve", b"true", "ann")
    await changes.until(Change(claim.task_id, Status.RUNNING, spoke=True))


async def test_an_answer_that_comes_before_the_park_is_not_missed(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    claim = await ask(driver, clock)
    await engine.steps.answer(claim.task_id, "approve", b"true", "ann")
    await park(driver, claim, inputs=("approve",))
    assert (await driver.claim_one()).attempt == 2


async def test_an_answer_wakes_no_task_that_waits_for_something_else(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    claim = await ask(driver, clock)
    await put(engine, claim, new_question(clock.now(), "other"))
    await park(driver, claim, inputs=("other",))
    await engine.steps.answer(claim.task_id, "approve", b"true", "ann")
    assert await driver.claim() == []
    await engine.steps.answer(claim.task_id, "other", b"true", "ann")
    assert (await driver.claim_one()).attempt == 2


async def test_an_answer_does_not_end_a_snooze(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await ask(driver, clock)
    await driver.finish(claim, Snoozed(HOUR))
    await engine.steps.answer(claim.task_id, "approve", b"true", "ann")
    assert await driver.claim() == []
    clock.advance(HOUR)
    await driver.claim_one()


async def test_what_an_earlier_park_waited_for_wakes_no_later_one(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    claim = await ask(driver, clock)
    await park(driver, claim, inputs=("approve",), until=clock.now() + SECOND)
    clock.advance(SECOND)
    again = await driver.claim_one()
    await park(driver, again, until=clock.now() + HOUR)
    await engine.steps.answer(claim.task_id, "approve", b"true", "ann")
    assert await driver.claim() == []


async def test_the_answer_is_in_the_log_and_the_journal(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await ask(driver, clock)
    await park(driver, claim, inputs=("approve",))
    clock.advance(SECOND)
    await engine.steps.answer(claim.task_id, "approve", b"true", "ann")
    again = await driver.claim_one()
    await put(engine, again, new_question(clock.now(), "second"))
    await engine.steps.answer(claim.task_id, "second", b"true", "bob")
    await driver.finish(again, Succeeded(b"1"))
    events = await engine.find_events(claim.task_id)
    types = ["created", "started", "parked", "input_given", "started", "input_given", "completed"]
    assert [event.type for event in events] == types
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5, 6, 7]
    assert [msgspec.json.decode(event.data) for event in events if event.type == "input_given"] == [
        {"name": "approve", "key": "approve", "by": "ann"}, {"name": "second", "key": "second", "by": "bob"},
    ]  # fmt: skip
    assert [entry.event for entry in await read_all(engine, None, limit=3)] == events


async def test_a_question_is_answered_once(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await ask(driver, clock)
    await engine.steps.answer(claim.task_id, "approve", b"true", "ann")
    with pytest.raises(Conflict, match="answered"):
        await engine.steps.answer(claim.task_id, "approve", b"false", "bob")
    assert (await one_step(engine, claim.task_id, "approve")).value == b"true"


async def test_what_is_not_asked_is_not_answered(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    with pytest.raises(NotFound):
        await engine.steps.answer(uuid4(), "approve", b"1", "")
    claim = await ask(driver, clock, draft={"retention": SECOND})
    await put(engine, claim, new_step(clock.now(), "charge"))
    for key in ("charge", "other"):
        with pytest.raises(Conflict, match="does not ask"):
            await engine.steps.answer(claim.task_id, key, b"1", "")
    await driver.finish(claim, Succeeded(b"1"))
    with pytest.raises(Conflict):
        await engine.steps.answer(claim.task_id, "approve", b"1", "")
    clock.advance(2 * SECOND)
    with pytest.raises(Expired):
        await engine.steps.answer(claim.task_id, "approve", b"1", "")


async def test_a_question_whose_time_is_over_is_not_asked(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await ask(driver, clock, timeout=SECOND)
    clock.advance(SECOND)
    assert await engine.steps.find_questions(limit=10) == []
    assert (await driver.get(claim.task_id)).input is None
    with pytest.raises(Conflict, match="over"):
        await engine.steps.answer(claim.task_id, "approve", b"1", "")
    for value in (b"7", b"8"):
        step = await engine.steps.close_question(claim.lease, "approve", value)
        assert step is not None
        assert (step.value, step.finished_at, step.answered_by) == (b"7", clock.now(), None)


async def test_an_answer_stays_when_its_time_ends(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await ask(driver, clock)
    await engine.steps.answer(claim.task_id, "approve", b"true", "ann")
    step = await engine.steps.close_question(claim.lease, "approve", None)
    assert step is not None
    assert (step.value, step.answered_by) == (b"true", "ann")


async def test_a_lost_attempt_closes_no_question(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await ask(driver, clock)
    await driver.finish(claim, Snoozed(SECOND))
    assert await engine.steps.close_question(claim.lease, "approve", b"1") is None
    assert (await one_step(engine, claim.task_id, "approve")).is_open


@pytest.mark.parametrize("outcome", [Succeeded(b"1"), BROKEN, Cancelled()])
async def test_a_task_that_has_ended_asks_no_more(
    driver: Driver, engine: Engine, clock: ManualClock, outcome: Any
) -> None:
    claim = await ask(driver, clock)
    await driver.finish(claim, outcome)
    assert await engine.steps.find_questions(limit=10) == []
    assert (await driver.get(claim.task_id)).input is None


async def test_a_retried_task_asks_again(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await ask(driver, clock)
    await driver.finish(claim, BROKEN)
    assert (await engine.retry(claim.task_id)).input is not None
    assert len(await engine.steps.find_questions(limit=10)) == 1
    await engine.steps.answer(claim.task_id, "approve", b"1", "")


async def test_questions_are_found_oldest_first_and_by_owner(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    claims = []
    for owner in ("ann", "bob", "ann"):
        claims.append(await ask(driver, clock, draft={"owner": owner}))
        clock.advance(SECOND)
    everything = await engine.steps.find_questions(limit=10)
    assert [question.task_id for question in everything] == [claim.task_id for claim in claims]
    own = await engine.steps.find_questions(owner="ann", limit=10)
    assert [question.task_id for question in own] == [claims[0].task_id, claims[2].task_id]
    assert await engine.steps.find_questions(owner="ann", limit=1) == own[:1]


# again


async def test_a_retried_task_keeps_its_steps(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    await put(engine, claim, new_step(clock.now(), "a"), new_step(clock.now(), "b"))
    await driver.finish(claim, BROKEN)
    steps = await engine.steps.find(claim.task_id)
    await engine.retry(claim.task_id)
    assert await engine.steps.find(claim.task_id) == steps
    assert (await driver.claim_one()).has_steps


@pytest.mark.parametrize(
    ("forget", "left"),
    [
        (Forget(names=("b",)), ["a", "c"]),
        (Forget(names=("b#2", "a")), ["b", "c"]),
        (Forget(since="b#2"), ["a", "b"]),
        (Forget(since="b"), ["a"]),
        (Forget(names=("a",), since="c"), ["b", "b#2"]),
    ],
)
async def test_a_retry_forgets_steps(
    driver: Driver, engine: Engine, clock: ManualClock, forget: Forget, left: list[str]
) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    names = {"a": "a", "b": "b", "b#2": "b", "c": "c"}
    await put(engine, claim, *(new_step(clock.now(), key, name=name) for key, name in names.items()))
    await driver.finish(claim, BROKEN)
    await engine.retry(claim.task_id, forget)
    assert [step.key for step in await engine.steps.find(claim.task_id)] == left
    again = await driver.claim_one()
    await put(engine, again, new_step(clock.now(), "new"))
    *_, last = await engine.steps.find(claim.task_id)
    assert (last.key, last.attempt) == ("new", 2)


@pytest.mark.parametrize("forget", [Forget(names=("a", "x")), Forget(since="x")])
async def test_what_is_not_there_cannot_be_forgotten(
    driver: Driver, engine: Engine, clock: ManualClock, forget: Forget
) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    await put(engine, claim, new_step(clock.now(), "a"))
    await driver.finish(claim, BROKEN)
    with pytest.raises(Invalid, match="'x'"):
        await engine.retry(claim.task_id, forget)
    assert (await driver.get(claim.task_id)).status is Status.FAILED
    assert len(await engine.steps.find(claim.task_id)) == 1


async def test_steps_are_copied_for_a_replay(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    kept = [new_step(clock.now(), "a", secret_value=b"2"), new_sleep(clock.now(), HOUR)]
    await put(engine, claim, *kept, new_question(clock.now(), "answered"), new_question(clock.now(), "open"))
    await engine.steps.answer(claim.task_id, "answered", b"true", "ann")
    await driver.finish(claim, Succeeded(b"1"))
    clock.advance(SECOND)
    replay = await driver.submit(make_draft(clock.now(), keep_steps_of=claim.task_id))
    copied = await engine.steps.find(replay)
    original = {step.key: step for step in await engine.steps.find(claim.task_id)}
    assert [step.key for step in copied] == ["a", "nap", "answered"]
    assert [as_new(step) for step in copied] == [as_new(original[step.key]) for step in copied]
    assert copied[2].answered_by == "ann"
    again = await driver.claim_one()
    assert (again.task_id, again.has_steps) == (replay, True)
    await put(engine, again, new_step(clock.now(), "later"))
    assert [step.key for step in await engine.steps.find(replay)] == ["a", "nap", "answered", "later"]


async def test_a_copy_has_no_masked_values(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    """The value itself is gone with the secrets, and the mask is not the value: the step runs again."""
    await driver.submit(make_draft(clock.now(), secrets=b"{}"))
    claim = await driver.claim_one()
    await put(engine, claim, new_step(clock.now(), "a", b'"***"', secret_value=b'"abc"'), new_step(clock.now(), "b"))
    await driver.finish(claim, Succeeded(b"1"))
    await engine.secrets.erase([claim.task_id])
    replay = await driver.submit(make_draft(clock.now(), keep_steps_of=claim.task_id))
    assert [step.key for step in await engine.steps.find(replay)] == ["b"]


async def test_a_crash_keeps_the_steps(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    await put(engine, claim, new_step(clock.now()))
    await driver.finish(claim, Crashed("gone"))
    clock.advance(timedelta(minutes=11))
    again = await driver.claim_one()
    assert again.has_steps
    assert len(await engine.steps.find(claim.task_id)) == 1
