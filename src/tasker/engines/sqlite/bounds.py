"""The partitions that may have a due task, each with a lower bound, so that a claim looks at only a few of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from heapq import heapify, heappop, heappush

Rank = tuple[int, int, int]
"""The position of a task in the order of claims: (-priority, due_at, seq), smallest first."""
Partition = tuple[str, str]
"""A queue and a type."""

UNKNOWN: Rank = (-(1 << 31), 0, 0)
"""Smaller than the rank of any task: the bound of a partition that was not looked at."""
_SPARE = 64
"""Outdated entries that a heap may have, in addition to one per partition."""


class _OfType:
    """The partitions of one type: a bound for each queue, and a heap of them.

    A heap entry that differs from the bound is outdated. It is dropped when it comes first, or when there are too many.
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
        if len(self.heap) > 2 * len(self.bounds) + _SPARE:  # workers that name queues never pop the heap
            self.heap = [(bound, queue) for queue, bound in self.bounds.items()]
            heapify(self.heap)
        else:
            heappush(self.heap, (bound, queue))

    def first(self) -> tuple[Rank, str]:
        """Return the first bound and its queue. There must be one."""
        heap, bounds = self.heap, self.bounds
        while bounds.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0]


class Bounds:
    """Partitions, each with a lower bound of its tasks' ranks; grouped by type, as workers ask for types."""

    def __init__(self) -> None:
        self._types: dict[str, _OfType] = {}

    def __contains__(self, partition: Partition) -> bool:
        queue, type_ = partition
        queues = self._types.get(type_)
        return queues is not None and queue in queues.bounds

    def __iter__(self) -> Iterator[Partition]:
        return iter([(queue, type_) for type_, queues in self._types.items() for queue in queues.bounds])

    def add(self, partition: Partition, bound: Rank = UNKNOWN) -> None:
        """Note that a partition may have a due task, of rank `bound` or later."""
        queue, type_ = partition
        queues = self._types.get(type_)
        if queues is None:
            queues = self._types[type_] = _OfType()
        queues.add(queue, bound)

    def discard(self, partition: Partition) -> None:
        """Note that a partition has no due task."""
        queue, type_ = partition
        queues = self._types.get(type_)
        if queues is not None:
            queues.bounds.pop(queue, None)
            if not queues.bounds:
                del self._types[type_]

    def clear(self) -> None:
        self._types.clear()

    def holds_any(self, types: Collection[str], queues: Collection[str] | None) -> bool:
        """Return whether there is a partition of these types and queues."""
        found = _both(types, self._types)
        if queues is None:
            return bool(found)
        return any(_both(queues, self._types[type_].bounds) for type_ in found)

    def pop_all(
        self, types: Collection[str], queues: Collection[str] | None = None
    ) -> Iterator[tuple[Rank, Partition]]:
        """Remove and yield the partitions of these types and queues, first bound first; `add` again those that stay."""
        if queues is None:
            yield from self._pop_types(types)
            return
        named = [
            (self._types[type_].bounds[queue], (queue, type_))
            for type_ in _both(types, self._types)
            for queue in _both(queues, self._types[type_].bounds)
        ]
        heapify(named)
        while named:
            bound, partition = heappop(named)
            if self._pop(partition, bound):
                yield bound, partition

    def _pop_types(self, types: Collection[str]) -> Iterator[tuple[Rank, Partition]]:
        """Do what `pop_all` does for all queues; only the first partition of each type is compared."""
        merged = [(*self._types[type_].first(), type_) for type_ in _both(types, self._types)]
        heapify(merged)
        while merged:
            bound, queue, type_ = heappop(merged)
            is_popped = self._pop((queue, type_), bound)
            if type_ in self._types:
                heappush(merged, (*self._types[type_].first(), type_))
            if is_popped:
                yield bound, (queue, type_)

    def _pop(self, partition: Partition, bound: Rank) -> bool:
        """Remove a partition; return False if its bound has changed since, or it was discarded."""
        queue, type_ = partition
        queues = self._types.get(type_)
        if queues is None or queues.bounds.get(queue) != bound:
            return False
        self.discard(partition)
        return True


def _both(some: Collection[str], others: Collection[str]) -> list[str]:
    """Return the names that are in both, at the cost of the fewer."""
    few, many = (some, others) if len(some) < len(others) else (others, some)
    return [name for name in few if name in many]
