"""The rules of a task's life, by table and by property."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tasker.errors import PROBLEMS
from tasker.model import Claim, Policy, RetryPolicy, Status, Transition
from tasker.rules.lifecycle import (
    MAX_CRASHES,
    MAX_DELAY,
    Cancelled,
    Crashed,
    Failed,
    Interrupted,
    Outcome,
    Released,
    Snoozed,
    Succeeded,
    TimedOut,
    backoff,
    decide,
    problem,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
STEADY = RetryPolicy(max_attempts=3, initial=2 * SECOND, jitter=False)

FOR_GOOD = Failed(problem("task-failed", "no"))
FOR_NOW = Failed(problem("task-raised", "not yet", retryable=True))


def claim(
    *, retry: RetryPolicy = STEADY, attempt: int = 7, tries: int = 0, crashes: int = 0, interruptions: int = 0,
    on_crash: Any = "retry",
) -> Claim:  # fmt: skip
    return Claim(
        task_id=UUID(int=1), attempt=attempt, type="t", params=b"[]", queue="default", priority=0,
        policy=Policy(retry=retry, on_crash=on_crash), tries=tries, crashes=crashes, interruptions=interruptions,
        started_at=NOW, worker="w",
    )  # fmt: skip


def after(outcome: Outcome, **claimed: Any) -> Transition:
    return decide(outcome, claim(**claimed), NOW, Random(1))


def shape(change: Transition) -> tuple[Any, ...]:
    return change.status.value, change.ending, change.reason, change.tries, change.crashes, change.interruptions


@pytest.mark.parametrize(
    ("outcome", "claimed", "expected"),
    [
        # status, ending, reason, tries, crashes, interruptions
        (Succeeded(b"6"), {}, ("completed", "succeeded", None, 1, 0, 0)),
        (Succeeded(b"6"), {"tries": 2, "crashes": 1, "interruptions": 5}, ("completed", "succeeded", None, 3, 1, 0)),
        (FOR_GOOD, {}, ("failed", "failed", None, 1, 0, 0)),
        (FOR_GOOD, {"tries": 1, "crashes": 2, "interruptions": 5}, ("failed", "failed", None, 2, 2, 0)),
        (FOR_NOW, {}, ("pending", "failed", "retrying", 1, 0, 0)),
        (FOR_NOW, {"tries": 1, "crashes": 2, "interruptions": 5}, ("pending", "failed", "retrying", 2, 2, 0)),
        (FOR_NOW, {"tries": 2}, ("failed", "failed", None, 3, 0, 0)),
        (FOR_NOW, {"tries": 9}, ("failed", "failed", None, 10, 0, 0)),
        (FOR_NOW, {"retry": RetryPolicy()}, ("failed", "failed", None, 1, 0, 0)),
        (TimedOut(SECOND), {}, ("pending", "timed_out", "retrying", 1, 0, 0)),
        (TimedOut(SECOND), {"tries": 2}, ("failed", "timed_out", None, 3, 0, 0)),
        (TimedOut(SECOND), {"retry": RetryPolicy()}, ("failed", "timed_out", None, 1, 0, 0)),
        (Crashed("signal 9"), {}, ("pending", "crashed", "retrying", 0, 1, 0)),
        (Crashed("signal 9"), {"retry": RetryPolicy()}, ("pending", "crashed", "retrying", 0, 1, 0)),
        (Crashed("signal 9"), {"tries": 2, "crashes": 1}, ("pending", "crashed", "retrying", 2, 2, 0)),
        (Crashed("signal 9"), {"interruptions": 5}, ("pending", "crashed", "retrying", 0, 1, 5)),
        (Crashed("signal 9"), {"tries": 2, "crashes": 2}, ("failed", "crashed", None, 2, 3, 0)),
        (Crashed("signal 9"), {"on_crash": "fail"}, ("failed", "crashed", None, 0, 1, 0)),
        (Snoozed(SECOND), {"tries": 2, "crashes": 1}, ("pending", "snoozed", "snoozed", 2, 1, 0)),
        (Cancelled(), {"tries": 2, "crashes": 1}, ("cancelled", "cancelled", None, 2, 1, 0)),
        (Interrupted(), {"tries": 2, "crashes": 1}, ("pending", "interrupted", "queued", 2, 1, 1)),
        (Interrupted(), {"interruptions": 5}, ("pending", "interrupted", "queued", 0, 0, 6)),
        (Released(), {"tries": 2, "crashes": 1}, ("pending", "released", "queued", 2, 1, 0)),
        (Released(), {"interruptions": 5}, ("pending", "released", "queued", 0, 0, 5)),
    ],
)
def test_what_a_task_becomes(outcome: Outcome, claimed: dict[str, Any], expected: tuple[Any, ...]) -> None:
    assert shape(after(outcome, **claimed)) == expected


@pytest.mark.parametrize(
    ("outcome", "claimed", "delay"),
    [
        (FOR_NOW, {}, 2),
        (FOR_NOW, {"tries": 1}, 4),
        (structs.replace(FOR_NOW, after=timedelta(seconds=60)), {}, 60),
        (structs.replace(FOR_NOW, after=timedelta(seconds=1)), {}, 2),
        (structs.replace(FOR_NOW, after=timedelta.max), {}, MAX_DELAY.total_seconds()),
        (TimedOut(SECOND), {}, 2),
        (Snoozed(timedelta(minutes=5)), {}, 300),
        (Snoozed(timedelta(0)), {}, 0),
        (Snoozed(timedelta.max), {}, MAX_DELAY.total_seconds()),
        (Interrupted(), {}, 0),
        (Released(), {}, 0),
    ],
)
def test_when_it_runs_again(outcome: Outcome, claimed: dict[str, Any], delay: float) -> None:
    change = after(outcome, **claimed)
    assert change.run_at == NOW + timedelta(seconds=delay)
    assert change.at == NOW


@pytest.mark.parametrize("tries", [0, 2])
@pytest.mark.parametrize(
    ("outcome", "name", "retryable"),
    [
        (FOR_GOOD, "task-failed", False),
        (FOR_NOW, "task-raised", True),
        (TimedOut(timedelta(seconds=1.5)), "timed-out", True),
        (Crashed("signal 9"), "worker-crashed", True),
        (Crashed("1.2 GB", "memory-limit"), "memory-limit", True),
    ],
)
def test_a_failed_attempt_says_why(outcome: Outcome, name: str, retryable: bool, tries: int) -> None:
    error = after(outcome, tries=tries).error
    assert error is not None
    assert (error.type, error.title, error.attempt) == (f"/problems/{name}", PROBLEMS[name].title, 7)
    assert error.retryable is retryable


def test_the_last_crash_is_not_retryable() -> None:
    error = after(Crashed("signal 9"), crashes=MAX_CRASHES - 1).error
    assert error is not None
    assert not error.retryable


def test_a_timeout_names_its_length() -> None:
    error = after(TimedOut(timedelta(seconds=1.5))).error
    assert error is not None
    assert error.detail == "the attempt ran longer than 1.5 s"


@pytest.mark.parametrize("outcome", [Succeeded(b"6"), Snoozed(SECOND), Cancelled(), Interrupted(), Released()])
def test_other_outcomes_have_no_error(outcome: Outcome) -> None:
    change = after(outcome)
    assert change.error is None
    assert change.result == (b"6" if isinstance(outcome, Succeeded) else None)


def test_a_failure_within_the_executor_may_have_its_own_ending() -> None:
    assert after(Failed(problem("timed-out", "x"), ending="timed_out")).ending == "timed_out"


_outcomes = st.one_of(
    st.builds(Succeeded, st.just(b"1")),
    st.builds(
        Failed,
        st.builds(problem, st.just("task-failed"), st.just("x"), retryable=st.booleans()),
        st.none() | st.timedeltas(min_value=timedelta(0)),
    ),
    st.builds(Snoozed, st.timedeltas(min_value=timedelta(0))),
    st.just(Cancelled()),
    st.just(TimedOut(SECOND)),
    st.just(Crashed("x")),
    st.just(Interrupted()),
    st.just(Released()),
)
_policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 100),
    initial=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=7)),
    factor=st.floats(1, 100),
    max=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=7)),
    jitter=st.booleans(),
)
_claims = st.builds(
    claim,
    retry=_policies,
    attempt=st.integers(1, 10_000),
    tries=st.integers(0, 200),
    crashes=st.integers(0, 5),
    interruptions=st.integers(0, 10),
    on_crash=st.sampled_from(["retry", "fail"]),
)


@given(_outcomes, _claims, st.integers())
def test_a_transition_is_terminal_or_due(outcome: Outcome, claimed: Claim, seed: int) -> None:
    change = decide(outcome, claimed, NOW, Random(seed))
    assert change.status is not Status.RUNNING
    if change.status.is_terminal:
        assert change.run_at is None
        assert change.reason is None
    else:
        assert change.run_at is not None
        assert NOW <= change.run_at <= NOW + MAX_DELAY
        assert change.reason is not None
    assert (change.result is not None) == (change.status is Status.COMPLETED)
    assert (change.error is not None) == (change.ending in ("failed", "timed_out", "crashed"))
    assert change.tries - claimed.tries == (change.ending in ("succeeded", "failed", "timed_out"))
    assert change.crashes - claimed.crashes == (change.ending == "crashed")


@given(_outcomes, _claims, st.integers())
def test_the_same_dice_give_the_same_transition(outcome: Outcome, claimed: Claim, seed: int) -> None:
    assert decide(outcome, claimed, NOW, Random(seed)) == decide(outcome, claimed, NOW, Random(seed))


@given(_policies, st.integers(1, 20))
def test_failures_end_after_max_attempts(policy: RetryPolicy, seed: int) -> None:
    current, random = claim(retry=policy), Random(seed)
    for tried in range(1, policy.max_attempts + 1):
        change = decide(FOR_NOW, current, NOW, random)
        assert change.tries == tried
        assert change.status.is_terminal == (tried == policy.max_attempts)
        current = structs.replace(current, tries=change.tries, attempt=current.attempt + 1)


def test_crashes_end_after_their_own_limit() -> None:
    crashes, status = 0, Status.PENDING
    for _ in range(MAX_CRASHES):
        assert status is Status.PENDING
        change = after(Crashed("x"), crashes=crashes)
        crashes, status = change.crashes, change.status
    assert status is Status.FAILED


# Backoff


def test_backoff_grows_to_its_cap() -> None:
    policy = RetryPolicy(initial=SECOND, factor=3.0, max=timedelta(seconds=50), jitter=False)
    delays = [backoff(policy, tries, Random(1)).total_seconds() for tries in range(1, 7)]
    assert delays == [1, 3, 9, 27, 50, 50]


@pytest.mark.parametrize("tries", [100, 5_000, 10**6])
def test_backoff_survives_large_powers(tries: int) -> None:
    policy = RetryPolicy(factor=100.0, jitter=False)
    assert backoff(policy, tries, Random(1)) == policy.max


@given(_policies, st.integers(1, 10_000), st.integers())
def test_backoff_is_within_its_bounds(policy: RetryPolicy, tries: int, seed: int) -> None:
    ceiling = backoff(structs.replace(policy, jitter=False), tries, Random(seed))
    assert timedelta(0) <= backoff(policy, tries, Random(seed)) <= ceiling <= policy.max


def test_jitter_is_full() -> None:
    """Delays are spread over all of [0, ceiling], so that tasks that failed together do not come back together."""
    policy = RetryPolicy(initial=timedelta(seconds=100))
    random = Random(1)
    tenths = {int(backoff(policy, 1, random) / timedelta(seconds=10)) for _ in range(200)}
    assert tenths == set(range(10))
