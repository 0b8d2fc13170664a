"""When words are stored, by table."""

from __future__ import annotations

import pytest

from tasker.reports import FLUSH_AFTER, MANY, Pace


def test_all_attempts_store_at_the_same_moments() -> None:
    pace = Pace()
    assert len({pace.next(now) for now in (10.001, 10.02, 10.049)}) == 1
    assert pace.next(10.02) == pytest.approx(10.05)
    assert pace.next(10.051) == pytest.approx(10.10)


@pytest.mark.parametrize(("talking", "times"), [(1, 1), (MANY - 1, 1), (MANY, 2), (2 * MANY, 3), (50 * MANY, 3)])
def test_words_wait_longer_while_many_talk(talking: int, times: int) -> None:
    pace, now = Pace(), 100.001
    for _ in range(4):
        moments = {pace.next(now) for _ in range(talking)}
        assert len(moments) == 1
        start, now = now, max(moments) + 0.001
        assert 0 < now - start <= 3 * FLUSH_AFTER + 0.001
    assert now - start == pytest.approx(times * FLUSH_AFTER, abs=0.002)
    pace.next(now)
    assert pace.next(now + 1) - (now + 1) <= FLUSH_AFTER, "when most have fallen silent, the rest are told at once"
