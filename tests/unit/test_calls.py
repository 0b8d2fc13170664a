"""Steps and sleeps, request by request: what they ask of the service, and make of its answers. No I/O."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from tests.executor.stepper import Store, later
from tests.unit.calls import MAX_VALUE, Attempt, Receipt, charge

from tasker import Fail, Retry, Snooze, StepChanged
from tasker.errors import ResultError
from tasker.model import RetryPolicy
from tasker.model.steps import Wait
from tasker.tasktypes.operations import LONGEST_PATIENCE, PATIENCE
from tasker.tasktypes.signature import ABSENT
from tasker.tasktypes.steps import (
    Await,
    Parking,
    Refused,
    Sleep,
    StoreStep,
)
from tasker.testing import START


@pytest.fixture
def store() -> Store:
    return Store()


def test_a_step_is_stored_before_it_returns_and_never_runs_again(store: Store) -> None:
    first = Attempt(store)
    assert first.step("charge", charge, "a", total=3) == Receipt("a", 3)
    (stored,) = first.stepper.asked(StoreStep)
    assert (stored.key, stored.name, stored.value) == ("charge", "charge", b'{"order":"a","total":3}')
    assert first.reports.events == [("step_started", {"name": "charge", "key": "charge", "kind": "step"})]
    again = Attempt(store, 2)
    assert again.step("charge", charge, "b") == Receipt("a", 3)
    assert again.kinds == []
    assert again.reports.events == []


def test_the_second_use_of_a_name_is_another_step(store: Store) -> None:
    first = Attempt(store)
    assert [first.step("charge", charge, order).order for order in "ab"] == ["a", "b"]
    again = Attempt(store)
    assert [again.step("charge", charge, order).order for order in "xyz"] == ["a", "b", "z"]


@pytest.mark.parametrize("value", [(1, "a"), {1: 2}, Receipt("a", 1)])
def test_the_first_result_is_the_same_as_that_of_a_rerun(store: Store, value: Any) -> None:
    results = [Attempt(store).step("step", lambda: value) for _ in range(2)]
    assert results[0] == results[1] == msgspec.json.decode(msgspec.json.encode(value))
    assert type(results[0]) is type(results[1])


def test_returns_says_the_type_of_a_lambda(store: Store) -> None:
    for _ in range(2):
        assert Attempt(store).step("step", lambda: {"order": "a", "total": 1}, returns=Receipt) == Receipt("a", 1)


def test_a_function_in_a_thread_says_its_own_type(store: Store) -> None:
    operation = Attempt(store).calls.step(
        "a", asyncio.to_thread, (charge, "a"), {}, key=None, retry=None, returns=ABSENT
    )
    operation.send(None)
    with pytest.raises(ResultError):
        operation.send("no receipt")


def test_a_value_that_another_attempt_has_stored_wins(store: Store) -> None:
    attempt = Attempt(store)
    store.put("charge", 1, name="charge", kind="step", value=b'{"order":"other","total":1}', finished_at=START)
    assert attempt.step("charge", charge, "a") == Receipt("other", 1)


def test_a_secret_value_comes_back_as_it_was(store: Store) -> None:
    store.put("s", 1, name="s", kind="step", value=b'"***"', secret_value=b'"key"', finished_at=START)
    assert Attempt(store).step("s", lambda: "other") == "key"


def test_a_stored_result_that_does_not_fit_the_code_any_more(store: Store) -> None:
    Attempt(store).step("charge", charge, "a")

    def charge_in_cents(order: str) -> int:
        raise AssertionError("it is stored")

    with pytest.raises(StepChanged, match=r"step 'charge': its stored value does not fit the code.*forget.*charge"):
        Attempt(store).step("charge", charge_in_cents, "a")


def test_a_step_of_another_kind(store: Store) -> None:
    Attempt(store).step("nap", charge, "a")
    with pytest.raises(StepChanged, match="expected a sleep, but a step is stored"):
        Attempt(store).sleep(hours=1)


def test_a_result_that_is_too_large_is_not_stored(store: Store) -> None:
    with pytest.raises(ResultError, match="takes 1,001 bytes as JSON; TASKER_MAX_RESULT allows 1,000") as refusal:
        Attempt(store).step("big", lambda: "x" * (MAX_VALUE - 1))
    assert refusal.value.name == "result-too-large"
    assert Attempt(store).step("big", lambda: "x" * (MAX_VALUE - 2))
    assert list(store.steps) == ["big"]


def test_a_result_of_another_type_is_not_stored(store: Store) -> None:
    with pytest.raises(ResultError, match="expected str"):
        Attempt(store).step("charge", lambda: {"order": 1, "total": 1}, returns=Receipt)
    assert store.steps == {}


@pytest.mark.parametrize("function", [None, "charge", 5])
def test_a_step_needs_a_function(store: Store, function: Any) -> None:
    with pytest.raises(TypeError, match="expected a function"):
        Attempt(store).step("charge", function)


class Flaky:
    """Fails that many times, with these errors one after the other."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.calls


def test_a_step_that_raises_is_not_stored(store: Store) -> None:
    attempt = Attempt(store)
    with pytest.raises(OSError, match="no"):
        attempt.step("charge", Flaky(OSError("no")))
    assert store.steps == {}
    assert [event for event, _ in attempt.reports.events] == ["step_started", "step_failed"]
    data = attempt.reports.events[1][1]
    assert (data["name"], data["key"], data["try"]) == ("charge", "charge", 1)
    assert data["error"]["detail"] == "OSError: no"
    assert not data["error"]["retryable"]
    assert not attempt.durable.is_busy


FIXED = RetryPolicy(max_attempts=4, initial=timedelta(seconds=2), factor=3, max=timedelta(seconds=10), jitter=False)


def test_a_step_is_tried_again_within_the_attempt(store: Store) -> None:
    attempt = Attempt(store)
    flaky = Flaky(OSError("1"), OSError("2"), OSError("3"))
    assert attempt.step("charge", flaky, retry=FIXED) == 4
    assert attempt.pauses == [2, 6, 10]
    failed = [data for event, data in attempt.reports.events if event == "step_failed"]
    assert [(data["try"], data["error"]["detail"], data["error"]["retryable"]) for data in failed] == [
        (1, "OSError: 1", True), (2, "OSError: 2", True), (3, "OSError: 3", True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (OSError("no"), 3),
        (Fail("no", retry=True), 3),
        (Retry("no"), 3),
        (Fail("no"), 1),
        (Snooze(5), 1),
        (KeyboardInterrupt(), 1),
    ],
)
def test_some_errors_end_the_tries(store: Store, error: BaseException, tries: int) -> None:
    flaky = Flaky(*[error] * 5)
    with pytest.raises(type(error)):
        Attempt(store).step("charge", flaky, retry=3)
    assert flaky.calls == tries


def test_the_error_says_when_to_try_again(store: Store) -> None:
    attempt = Attempt(store)
    assert attempt.step("charge", Flaky(Retry("no", after=600)), retry=3) == 2
    assert attempt.pauses == [600]


@pytest.mark.parametrize("retry", [0, -1, "x", 101, True])
def test_an_unsuitable_retry_is_refused(store: Store, retry: Any) -> None:
    with pytest.raises(ValueError, match="retry must"):
        Attempt(store).step("charge", charge, "a", retry=retry)


def test_a_superseded_attempt_unwinds_its_function(store: Store) -> None:
    attempt = Attempt(store)
    attempt.stepper.is_superseded = True
    with pytest.raises(Parking) as parking:
        attempt.step("charge", charge, "a")
    assert parking.value.wait is None
    with pytest.raises(Parking):
        attempt.step("other", charge, "a")


@pytest.mark.parametrize(("problem", "retry"), [("internal", True), ("unavailable", True), ("invalid-request", False)])
def test_a_refused_step_fails_with_the_reason(store: Store, problem: str, retry: bool) -> None:
    attempt = Attempt(store)
    attempt.stepper.refusal = Refused(problem, "because")
    with pytest.raises(Fail, match="because") as failure:
        attempt.step("charge", charge, "a")
    assert (failure.value.problem, failure.value.retry) == (problem, retry)


# sleeps


@pytest.mark.parametrize(
    ("given", "delay"),
    [
        ({"seconds": 5}, timedelta(seconds=5)),
        ({"hours": 2, "minutes": 0.5}, timedelta(hours=2, seconds=30)),
        ({"days": 400}, timedelta(days=400)),
        ({"seconds": 0}, timedelta(0)),
    ],
)
def test_a_sleep_parks_until_its_end(store: Store, given: dict[str, float], delay: timedelta) -> None:
    attempt = Attempt(store)
    if delay:
        with pytest.raises(Parking) as parking:
            attempt.sleep(**given)
        assert parking.value.wait == Wait(until=START + delay)
    assert attempt.stepper.asked(Sleep) in ([], [Sleep("nap", "nap", delay, None)])
    store.now = START + delay
    Attempt(store, 2).sleep(**given)


def test_a_sleep_until_a_time(store: Store) -> None:
    until = datetime(2027, 1, 1, tzinfo=UTC)
    with pytest.raises(Parking) as parking:
        Attempt(store).sleep(until=until)
    assert parking.value.wait == Wait(until=until)


def test_a_sleep_that_is_over_asks_for_nothing(store: Store) -> None:
    store.put("nap", 1, name="nap", kind="sleep", until=START, finished_at=START)
    attempt = Attempt(store, 2)
    attempt.sleep(hours=1)
    assert attempt.kinds == []


def test_a_rerun_sleeps_to_the_same_end(store: Store) -> None:
    with pytest.raises(Parking):
        Attempt(store).sleep(hours=1)
    later(store, minutes=30)
    again = Attempt(store, 2)
    with pytest.raises(Parking) as parking:
        again.sleep(hours=1)
    assert parking.value.wait == Wait(until=START + timedelta(hours=1))
    assert again.kinds == ["Await"]


@pytest.mark.parametrize(
    "given",
    [
        {}, {"seconds": 1, "until": datetime(2027, 1, 1, tzinfo=UTC)}, {"until": datetime(2027, 1, 1)},  # noqa: DTZ001
        {"seconds": -1}, {"days": 1e9}, {"days": 1e12},
    ],
)  # fmt: skip
def test_unsuitable_sleeps_are_refused(store: Store, given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"sleep|until"):
        Attempt(store).sleep(**given)
    assert store.steps == {}


def test_patience_grows_while_a_step_of_another_branch_runs(store: Store) -> None:
    attempt = Attempt(store)
    operation = attempt.calls.sleep("nap", {"hours": 1}, key=None, until=None)
    request = operation.send(None)
    assert isinstance(request, Sleep)
    attempt.durable.begin()
    waits = [operation.send(attempt.stepper.reply(request))]
    waits += [operation.send(attempt.stepper.reply(waits[0])) for _ in range(4)]
    patience = [PATIENCE, 2, 4, LONGEST_PATIENCE, LONGEST_PATIENCE]
    assert [wait.patience for wait in waits if isinstance(wait, Await)] == patience
    attempt.durable.end()
    last = operation.send(attempt.stepper.reply(waits[0]))
    assert isinstance(last, Await)
    assert last.patience == PATIENCE
    with pytest.raises(Parking):
        operation.send(attempt.stepper.reply(last))


@pytest.mark.parametrize("name", [5, timedelta(hours=1)])
def test_a_sleep_without_a_name_says_how_to_write_it(store: Store, name: Any) -> None:
    with pytest.raises(TypeError, match=r'write sleep\("cool off", seconds=\.\.\.\)'):
        Attempt(store).sleep(name, hours=1)
