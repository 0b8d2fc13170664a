"""Usage of tasks: what adds up over attempts, and what is counted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tasker.engines.shared.usage import Tally
from tasker.model import Status, Transition
from tasker.model.usage import COUNTED, NANOS, Spent, added, spent_of
from tasker.testing import START


@pytest.mark.parametrize(
    ("before", "said", "expected"),
    [
        ({}, {"model": "m", "cost": None}, {"model": "m", "cost": None}),
        ({"input_tokens": 3}, {"input_tokens": 4}, {"input_tokens": 7}),
        ({"cost": 0.1}, {"cost": 0.2}, {"cost": 0.3}),
        ({"cost": 0.1}, {"cost": None}, {"cost": 0.1}),
        ({"cost": None}, {"cost": 0.2}, {"cost": 0.2}),
        ({"cost": 0.1}, {}, {"cost": 0.1}),
        ({"cost": 0.1}, {"cost": "much"}, {"cost": 0.1}),
        ({"cost": 10**400}, {"cost": 0.5}, {"cost": 10**400}),
        ({"model": "a", "seconds": 2}, {"model": "b", "seconds": 3}, {"model": "b", "seconds": 3}),
        ({"estimated": True}, {"estimated": False}, {"estimated": True}),
        ({"estimated": False}, {"estimated": True}, {"estimated": True}),
        ({"cached_tokens": True}, {"cached_tokens": 2}, {"cached_tokens": 2}),
    ],
)
def test_usage_over_attempts(before: dict[str, Any], said: dict[str, Any], expected: dict[str, Any]) -> None:
    assert added(before, said) == expected


@pytest.mark.parametrize(
    ("usage", "spent"),
    [
        (b"{}", Spent()),
        (b'{"model":"m"}', Spent()),
        (b'{"input_tokens":3,"output_tokens":2,"cached_tokens":1,"cost":0.00000015}', Spent(3, 2, 1, 150)),
        (b'{"cost":2}', Spent(cost=2 * NANOS)),
        (b'{"cost":18446744073709551615}', Spent(cost=10_000 * NANOS)),
        (b'{"cost":-1,"input_tokens":-3}', Spent()),
        (b'{"cost":1%b,"input_tokens":1%b}' % (b"0" * 400, b"0" * 400), Spent(10**9, cost=10_000 * NANOS)),
    ],
)
def test_what_is_counted(usage: bytes, spent: Spent) -> None:
    assert spent_of(usage) == spent


@pytest.mark.parametrize(("ending", "attempts"), [("failed", 1), ("snoozed", 1), ("parked", 0)])
def test_a_parked_attempt_counts_together_with_the_one_that_goes_on(ending: Any, attempts: int) -> None:
    change = Transition(
        status=Status.PENDING, ending=ending, at=START + timedelta(seconds=2), type="sum", owner="", queue="default",
        started_at=START, tries=0, crashes=0, interruptions=0,
    )  # fmt: skip
    tally: Tally[tuple[str]] = Tally()
    tally.end(("sum",), change)
    [(_, *figures)] = tally.take()
    counted = dict(zip(COUNTED, figures, strict=True))
    assert (counted["attempts"], counted["run_time"]) == (attempts, 2_000_000)
