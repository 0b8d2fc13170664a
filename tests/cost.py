"""Cost against size: what four times as much input takes, in processor time.

Times are compared within a run, each the least of some tries. What grows by the square takes 16 times as long for four
times as much, and what is in proportion takes 4 times as long.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterator

import pytest

LIMIT = 10
"""How much longer four times the input may take; more than 7, as the larger input may not fit into a cache."""
TRIES = 60
NOTHING = 30
"""Multiple of an empty request's time below which a request's time counts as nothing."""


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Switch off the garbage collector, which would disturb the measurement."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def grows(cost: Callable[[int], Awaitable[float]], size: int, nothing: float) -> str:
    """Return a message if the cost grows faster than the size, else ""."""
    small = large = float("inf")
    for _ in range(TRIES):
        small, large = min(small, await cost(size)), min(large, await cost(4 * size))
        if large <= max(LIMIT * small, NOTHING * nothing):
            return ""
    return f"{large / small:.1f} times as long for four times as much ({small * 1e3:.1f} and {large * 1e3:.1f} ms)"
