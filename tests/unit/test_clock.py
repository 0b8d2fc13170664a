"""Clocks: exact microseconds, and a manual one that only moves forward."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.clock import EPOCH, SystemClock, from_micros, to_micros
from tasker.testing import START, ManualClock

moments = st.datetimes(EPOCH.replace(tzinfo=None), timezones=st.just(UTC))


@given(moments)
def test_micros_keep_every_moment_exactly(moment: datetime) -> None:
    assert from_micros(to_micros(moment)) == moment
    assert from_micros(to_micros(moment)).tzinfo is UTC


@given(moments, moments)
def test_micros_keep_the_order(one: datetime, other: datetime) -> None:
    assert (one < other) == (to_micros(one) < to_micros(other))


def test_micros_of_known_moments() -> None:
    assert to_micros(EPOCH) == 0
    assert to_micros(EPOCH - timedelta(microseconds=1)) == -1
    assert to_micros(datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == 1_767_225_600_000_000


def test_the_system_clock_tells_aware_utc_and_a_time_that_does_not_go_back() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert clock.monotonic() <= clock.monotonic()


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
