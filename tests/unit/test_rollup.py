"""What transactions change about tasks, and the sums of it."""

from __future__ import annotations

from msgspec import structs

from tasker.engines.shared.rollup import TaskChange, merged
from tasker.model.stats import COUNTS


def test_the_places_of_counts_in_a_stored_change() -> None:
    """Stored changes have no names."""
    assert TaskChange.__struct_fields__[7:15] == COUNTS


def test_every_figure_of_changes_is_added_up() -> None:
    first = TaskChange(1, "o", "t", "q", *range(1, 12), [1], [2])
    second = TaskChange(1, "o", "t", "q", *range(100, 1200, 100), [3, 4], [])
    another = TaskChange(2, "o", "t", "q", 1)
    [one, other] = merged([first, second, another])
    assert structs.astuple(one) == (1, "o", "t", "q", *range(101, 1212, 101), [1, 3, 4], [2])
    assert other == another
