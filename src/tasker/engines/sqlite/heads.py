"""Which lines may hold a due task, by what is first in each: a claim looks at few of them, however many there are."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from heapq import heapify, heappop, heappush

Rank = tuple[int, int, int]
"""The place of a task among all: (-priority, due_at, seq), smallest first."""
LineName = tuple[str, str]
"""A queue and a type."""

UNKNOWN: Rank = (-(1 << 31), 0, 0)
"""Before every task: nothing is known of the line."""
_SPARE = 64
"""Entries of a heap that may be out of date, beside as many as there are lines."""


class _OfType:
    """The lines of one type: a bound for each queue, and a heap of them.

    What the heap holds beside the bounds is out of date: it is dropped when it comes up, or when it is too much.
    """

    __slots__ = ("bounds", "heap")

    def __init__(self) -> None:
        self.bounds: dict[str, Rank] = {}
        self.heap: list[tuple[Rank, str]] = []

    def add(self, queue: str, bound: Rank) -> None:
        known = self.bounds.get(queue)
        if known is not None and known <= bound:
            return
        self.bounds[queue] = bound
        if len(self.heap) > 2 * len(self.bounds) + _SPARE:  # who names queues takes lines out and leaves the heap
            self.heap = [(bound, queue) for queue, bound in self.bounds.items()]
            heapify(self.heap)
        else:
            heappush(self.heap, (bound, queue))

    def first(self) -> tuple[Rank, str]:
        """Return the first bound and its queue; there is one."""
        heap, bounds = self.heap, self.bounds
        while bounds.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0]


class Heads:
    """Lines, each with a bound: no task of it comes before that. By type, for a worker takes types."""

    def __init__(self) -> None:
        self._lines: dict[str, _OfType] = {}

    def __contains__(self, line: LineName) -> bool:
        queue, type_ = line
        lines = self._lines.get(type_)
        return lines is not None and queue in lines.bounds

    def __iter__(self) -> Iterator[LineName]:
        return iter([(queue, type_) for type_, lines in self._lines.items() for queue in lines.bounds])

    def add(self, line: LineName, bound: Rank = UNKNOWN) -> None:
        """Tell that a line may hold a due task, none before `bound`."""
        queue, type_ = line
        lines = self._lines.get(type_)
        if lines is None:
            lines = self._lines[type_] = _OfType()
        lines.add(queue, bound)

    def discard(self, line: LineName) -> None:
        """Tell that a line holds nothing that is due."""
        queue, type_ = line
        lines = self._lines.get(type_)
        if lines is not None:
            lines.bounds.pop(queue, None)
            if not lines.bounds:
                del self._lines[type_]

    def clear(self) -> None:
        self._lines.clear()

    def holds_any(self, types: Collection[str], queues: Collection[str] | None) -> bool:
        """Tell whether there is a line of these types and queues."""
        found = _both(types, self._lines)
        if queues is None:
            return bool(found)
        return any(_both(queues, self._lines[type_].bounds) for type_ in found)

    def taken(self, types: Collection[str], queues: Collection[str] | None = None) -> Iterator[tuple[Rank, LineName]]:
        """Take out the lines of these types and queues one by one, the first bound first: `add` those that stay."""
        if queues is None:
            yield from self._taken(types)
            return
        named = [
            (self._lines[type_].bounds[queue], (queue, type_))
            for type_ in _both(types, self._lines)
            for queue in _both(queues, self._lines[type_].bounds)
        ]
        heapify(named)
        while named:
            bound, line = heappop(named)
            if self._take(line, bound):
                yield bound, line

    def _taken(self, types: Collection[str]) -> Iterator[tuple[Rank, LineName]]:
        """Do what `taken` does for all queues: of each type only the first line is looked at, until it is out."""
        merged = [(*self._lines[type_].first(), type_) for type_ in _both(types, self._lines)]
        heapify(merged)
        while merged:
            bound, queue, type_ = heappop(merged)
            is_taken = self._take((queue, type_), bound)
            if type_ in self._lines:
                heappush(merged, (*self._lines[type_].first(), type_))
            if is_taken:
                yield bound, (queue, type_)

    def _take(self, line: LineName, bound: Rank) -> bool:
        """Take out a line, and tell whether it was there as it was seen: it may have been discarded since."""
        queue, type_ = line
        lines = self._lines.get(type_)
        if lines is None or lines.bounds.get(queue) != bound:
            return False
        self.discard(line)
        return True


def _both(some: Collection[str], others: Collection[str]) -> list[str]:
    """Return the names that are in both, at the cost of the fewer."""
    few, many = (some, others) if len(some) < len(others) else (others, some)
    return [name for name in few if name in many]
