"""Count usage: sums of one transaction, written as one row for each key."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Generic, TypeVar

from tasker.clock import MICROSECOND
from tasker.model import Status, Transition
from tasker.model.usage import COUNTED, spent_of

K = TypeVar("K", bound=tuple[object, ...])

_PLACE = {status: COUNTED.index(status.value) for status in Status if status.is_terminal}
_RUN_TIME = COUNTED.index("run_time")
_SPENT = COUNTED.index("input_tokens")


class _Sums:
    """Sums under one key; the run time is a timedelta until it is written."""

    __slots__ = ("figures", "run_time")

    def __init__(self) -> None:
        self.figures = [0] * len(COUNTED)
        self.run_time = timedelta(0)


class Tally(Generic[K]):
    """Sums by key of what one transaction has stored."""

    def __init__(self) -> None:
        self._sums: dict[K, _Sums] = {}

    def end(self, key: K, change: Transition) -> None:
        """Count an attempt that has ended with `change`. The run time of an interrupted one is unknown.

        One that parked counts together with the one that goes on.
        """
        sums = self._sums.get(key) or self._begin(key)
        sums.figures[0] += change.ending != "parked"
        place = _PLACE.get(change.status)
        if place is not None:
            sums.figures[place] += 1
        if change.ending != "interrupted" and change.at > change.started_at:
            sums.run_time += change.at - change.started_at

    def use(self, key: K, before: bytes, after: bytes) -> None:
        """Count how much a task's usage has grown."""
        figures = (self._sums.get(key) or self._begin(key)).figures
        for place, (old, new) in enumerate(zip(spent_of(before), spent_of(after), strict=True), start=_SPENT):
            figures[place] += new - old

    def take(self) -> list[tuple[Any, ...]]:
        """Return a row for each key, in order: the key, then COUNTED. Start from zero."""
        sums, self._sums = self._sums, {}
        for one in sums.values():
            one.figures[_RUN_TIME] += one.run_time // MICROSECOND
        return [(*key, *sums[key].figures) for key in sorted(sums)]

    def _begin(self, key: K) -> _Sums:
        sums = self._sums[key] = _Sums()
        return sums
