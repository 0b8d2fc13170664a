"""Times, durations and numbers as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tasker.web import times

NOW = datetime(2026, 11, 29, 14, 32, 7, 412000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "now"), (0.9, "now"), (14, "14 s ago"), (59.9, "59 s ago"), (60, "1 min ago"), (3599, "59 min ago"),
     (7200, "2 h ago"), (200_000, "2 d ago"), (-41, "in 41 s"), (-90_000, "in 1 d")],
)  # fmt: skip
def test_ago(seconds: float, expected: str) -> None:
    assert times.ago(NOW - timedelta(seconds=seconds), NOW) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, ""), (0, "<1 ms"), (0.001, "1 ms"), (0.8124, "812 ms"), (0.9999, "1.0 s"), (38.24, "38.2 s"),
     (59.96, "1 min"), (109, "1 min 49 s"), (3599.6, "1 h"), (7384, "2 h 03 min"), (90_000, "1 d 01 h"),
     (86_400, "1 d")],
)  # fmt: skip
def test_duration(seconds: float | None, expected: str) -> None:
    assert times.duration(seconds) == expected


def test_the_rest() -> None:
    assert times.iso(NOW) == "2026-11-29T14:32:07.412Z"
    assert times.full(NOW) == "2026-11-29 14:32:07.412 UTC"
    assert [times.number(value) for value in (0, 1248, 3.5, 1e6)] == ["0", "1,248", "3.5", "1,000,000"]
    assert [times.capped(value) for value in (231, 10_000, 10_001)] == ["231", "10,000", "10k+"]
    assert [times.percent(*pair) for pair in ((0, 5), (1, 0), (231, 48_462), (4, 97), (91, 100), (1, 10**6))] == [
        "0 %", "0 %", "0.48 %", "4.1 %", "91 %", "0.01 %",
    ]  # fmt: skip
