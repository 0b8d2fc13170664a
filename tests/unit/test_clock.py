"""Clocks: exact microseconds, and a manual one that only moves forward."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.clock import (
    EPOCH,
    LASTS_FOR,
    MOST_AHEAD,
    Lagging,
    Steps,
    SystemClock,
    elapsed_micros,
    from_micros,
    to_micros,
)
from tasker.testing import START, ManualClock

moments = st.datetimes(EPOCH.replace(tzinfo=None), timezones=st.just(UTC))


@given(moments)
def test_micros_are_exact(moment: datetime) -> None:
    assert from_micros(to_micros(moment)) == moment
    assert from_micros(to_micros(moment)).tzinfo is UTC


@given(moments, moments)
def test_micros_keep_the_order(one: datetime, other: datetime) -> None:
    assert (one < other) == (to_micros(one) < to_micros(other))


def test_micros_of_known_times() -> None:
    assert to_micros(EPOCH) == 0
    assert to_micros(EPOCH - timedelta(microseconds=1)) == -1
    assert to_micros(datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == 1_767_225_600_000_000


def test_the_system_clock_has_aware_utc_and_a_monotonic_time() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert clock.monotonic() <= clock.monotonic()
    assert clock.elapsed() <= clock.elapsed()


def test_a_manual_clock_stands_still() -> None:
    clock = ManualClock()
    assert (clock.now(), clock.now(), clock.monotonic()) == (START, START, 0.0)


def test_a_manual_clock_moves_both_its_times() -> None:
    clock = ManualClock(datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))))
    assert clock.now().tzinfo is UTC
    told = clock.advance(timedelta(seconds=1.5))
    assert told == clock.now() == datetime(2026, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    assert clock.monotonic() == 1.5


def test_a_manual_clock_goes_neither_back_nor_naive() -> None:
    with pytest.raises(ValueError, match="backwards"):
        ManualClock().advance(timedelta(microseconds=-1))
    with pytest.raises(ValueError, match="aware"):
        ManualClock(datetime(2026, 1, 1))  # noqa: DTZ001


SECOND = timedelta(seconds=1)
MICROS = 1_000_000


def test_a_clock_that_goes_on_has_made_no_step() -> None:
    clock = ManualClock()
    steps = Steps(clock)
    clock.advance(timedelta(days=400))
    assert steps.pending() == 0


@given(st.integers(-(10**15), 10**15))
def test_a_step_is_pending_until_it_is_followed(step: int) -> None:
    clock = ManualClock()
    steps = Steps(clock)
    clock.set(clock.now() + timedelta(microseconds=step))
    clock.advance(SECOND)
    told = steps.pending()
    assert told == steps.pending() == (step if abs(step) > 500_000 else 0)
    steps.follow(told)
    assert steps.pending() == 0


def test_small_changes_add_up_to_a_step() -> None:
    clock = ManualClock()
    steps = Steps(clock)
    for _ in range(3):
        clock.set(clock.now() + SECOND / 4)
    assert steps.pending() == 750_000


def test_a_clock_behind_what_it_has_shown_before_was_set_back() -> None:
    clock = ManualClock()
    shown = to_micros(clock.now())
    assert Steps(clock, shown + 60 * MICROS).pending() == -60 * MICROS
    assert Steps(clock, shown - 60 * MICROS).pending() == 0, "no process ran for a minute"


def told(lagging: Lagging, clock: ManualClock) -> datetime:
    return from_micros(lagging.tell(to_micros(clock.now()), elapsed_micros(clock)))


def lagging_from(clock: ManualClock) -> Lagging:
    lagging = Lagging(elapsed_micros(clock))
    assert told(lagging, clock) == clock.now()
    return lagging


def test_expiry_follows_a_clock_that_runs_is_set_back_or_a_little_ahead() -> None:
    clock = ManualClock()
    lagging = lagging_from(clock)
    clock.advance(timedelta(days=40))
    assert told(lagging, clock) == clock.now()
    for step in (MOST_AHEAD, -MOST_AHEAD, timedelta(days=-3653)):
        clock.set(clock.now() + step)
        assert told(lagging, clock) == clock.now()


def test_a_jump_ahead_counts_once_it_has_lasted() -> None:
    clock = ManualClock()
    lagging, before = lagging_from(clock), clock.now()
    clock.set(before + timedelta(days=3653))
    assert told(lagging, clock) == before
    clock.advance(LASTS_FOR - SECOND)
    assert told(lagging, clock) == before + LASTS_FOR - SECOND, "time goes on as before"
    clock.advance(SECOND)
    assert told(lagging, clock) == clock.now()


def test_a_jump_ahead_that_is_corrected_never_counts() -> None:
    clock = ManualClock()
    lagging = lagging_from(clock)
    for _ in range(5):
        clock.set(clock.now() + timedelta(days=3653))
        told(lagging, clock)
        clock.advance(LASTS_FOR / 2)
        assert told(lagging, clock) < clock.now() - timedelta(days=3652)
        clock.set(clock.now() - timedelta(days=3653))
        assert told(lagging, clock) == clock.now()


def test_a_new_process_goes_on_from_the_last_time() -> None:
    clock = ManualClock()
    known = to_micros(clock.now())
    clock.advance(timedelta(days=3))
    lagging = Lagging(elapsed_micros(clock), known)
    assert told(lagging, clock) == from_micros(known)
    clock.advance(LASTS_FOR)
    assert told(lagging, clock) == clock.now()
