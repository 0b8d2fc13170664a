"""How long a woken claim lets others go first."""

from __future__ import annotations

from random import Random

import pytest

from tasker.engines.postgres.waiters import Patience


class _Upper(Random):
    """Always the longest wait."""

    def uniform(self, a: float, b: float) -> float:
        return b


@pytest.mark.parametrize(
    ("found", "waits"),
    [
        ([True, True], [0, 0]),
        ([False, False, False], [0.004, 0.008, 0.016]),
        ([False, True, True], [0.004, 0, 0]),
        ([False, False, True, True, False], [0.004, 0.008, 0.004, 0, 0.004]),
        ([False] * 9, [0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.25, 0.25, 0.25]),
    ],
)
def test_it_grows_with_every_wake_up_in_vain(found: list[bool], waits: list[float]) -> None:
    patience, seen = Patience(_Upper()), []
    assert patience.seconds() == 0, "a worker alone takes its first task at once"
    for something in found:
        patience.found(something)
        seen.append(patience.seconds())
    assert seen == waits


def test_each_claim_waits_for_another_time() -> None:
    patiences = [Patience(Random(seed)) for seed in range(20)]
    for patience in patiences:
        patience.found(False)
    waits = {patience.seconds() for patience in patiences}
    assert len(waits) == 20
    assert all(0 <= wait <= 0.004 for wait in waits)
