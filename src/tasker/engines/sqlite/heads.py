"""Which lines may hold a due task, by what is first in each: a claim looks at few of them, however many there are."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from heapq import heappop, heappush

Rank = tuple[int, int, int]
"""The place of a task among all: (-priority, due_at, seq), smallest first."""
LineName = tuple[str, str]
"""A queue and a type."""

UNKNOWN: Rank = (-(1 << 31), 0, 0)
"""Before every task: nothing is known of the line."""


class Heads:
    """Lines, each with a bound: no task of it comes before that.

    A heap for each type, for a worker takes types. What a heap holds of a line beside its bound is out of date, and is
    dropped when it comes up.
    """

    def __init__(self) -> None:
        self._bounds: dict[LineName, Rank] = {}
        self._heaps: dict[str, list[tuple[Rank, str]]] = {}

    def __contains__(self, line: LineName) -> bool:
        return line in self._bounds

    def __iter__(self) -> Iterator[LineName]:
        return iter(tuple(self._bounds))

    def add(self, line: LineName, bound: Rank = UNKNOWN) -> None:
        """Tell that a line may hold a due task, none before `bound`."""
        known = self._bounds.get(line)
        if known is None or bound < known:
            self._bounds[line] = bound
            queue, type_ = line
            heap = self._heaps.get(type_)
            if heap is None:
                heap = self._heaps[type_] = []
            heappush(heap, (bound, queue))

    def discard(self, line: LineName) -> None:
        """Tell that a line holds nothing that is due."""
        self._bounds.pop(line, None)

    def clear(self) -> None:
        self._bounds.clear()
        self._heaps.clear()

    def holds_any(self, types: Collection[str], queues: Collection[str] | None) -> bool:
        """Tell whether there is a line of these types and queues."""
        if queues is not None:
            return any(line[1] in types and line[0] in queues for line in self._bounds)
        return any(type_ in types and self._first(type_) is not None for type_ in tuple(self._heaps))

    def taken(self, types: Collection[str]) -> Iterator[tuple[Rank, LineName]]:
        """Take out the lines of these types one by one, the first bound first: `add` those that stay."""
        merged: list[tuple[Rank, str, str]] = []
        for type_ in tuple(self._heaps):
            first = self._first(type_) if type_ in types else None
            if first is not None:
                heappush(merged, (*first, type_))
        while merged:
            bound, queue, type_ = heappop(merged)
            line = queue, type_
            is_there = self._bounds.get(line) == bound  # it may have been discarded since
            if is_there:
                del self._bounds[line]
            following = self._first(type_)
            if following is not None:
                heappush(merged, (*following, type_))
            if is_there:
                yield bound, line

    def _first(self, type_: str) -> tuple[Rank, str] | None:
        """Return the bound and the queue of a type's first line, None if it has none."""
        heap = self._heaps.get(type_)
        if heap is None:
            return None
        while heap and self._bounds.get((heap[0][1], type_)) != heap[0][0]:
            heappop(heap)
        if heap:
            return heap[0]
        del self._heaps[type_]
        return None
