"""Admission rules of queues (pause, concurrency, rate), the same for every engine. Pure: no store.

An engine counts and locks, asks a gate which tasks may start, and stores what the gate has spent. Tasks whose
concurrency key has no free slot are parked: they leave their partition until a slot is free. Invariant: for each parked
task, running tasks of its key and unparked ones that are due before it together take all slots of the key.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from tasker.model.queues import QueueSettings, Slot

WINDOW = 50
"""Minimum number of candidates to look at together if some may have to wait for their key."""
ROUNDS = 6
"""Limit of looks in one claim while it finds tasks to park; each look covers twice as many candidates."""


class Candidate(NamedTuple):
    """A due task. rank: sorts candidates, smallest first. slot: of its key. place: for the engine's own use."""

    rank: tuple[Any, ...]
    queue: str
    weight: int
    slot: Slot | None
    place: Any


class Passage(NamedTuple):
    """Which candidates may start together, in order, and which have to wait for their key.

    is_cut: a limit was reached; the candidates after it are in neither list.
    """

    passing: list[Candidate]
    blocked: list[Candidate]
    is_cut: bool


class Gate:
    """Admits the tasks of one queue within one transaction.

    running: the number of running attempts of the queue. tokens: in the bucket of its rate.
    """

    def __init__(self, settings: QueueSettings, *, running: int = 0, tokens: float = 0.0) -> None:
        self.settings = settings
        self.tokens = tokens
        self.has_spent = False
        self.opens_in: timedelta | None = None
        """Time until the bucket has tokens for the first task that was refused for lack of them."""
        self._slots = math.inf if settings.concurrency is None else max(0, settings.concurrency - running)
        self._taken: Counter[Slot] = Counter()

    @property
    def is_shut(self) -> bool:
        """Whether no task may start, whatever its weight."""
        return self.settings.paused or self._slots < 1

    @property
    def has_keys(self) -> bool:
        return self.settings.concurrency_per_key is not None

    def free_slots(self, limit: int) -> int:
        """Return how many tasks may start, at most `limit`."""
        return 0 if self.settings.paused else int(min(limit, self._slots))

    def note_running(self, slot: Slot, count: int) -> None:
        """Note how many attempts of a key are running."""
        self._taken[slot] = count

    def knows(self, slot: Slot) -> bool:
        return slot in self._taken

    def sift(self, candidates: Sequence[Candidate], limit: int) -> Passage:
        """Return which of the first candidates may start; nothing is spent."""
        slots, tokens, taken = self.free_slots(limit), self.tokens, self._taken.copy()
        passage = Passage([], [], False)
        for one in candidates:
            if self._is_taken(one.slot, taken):
                passage.blocked.append(one)
            elif slots < 1 or not self._can_pay(one.weight, tokens):
                return passage._replace(is_cut=True)
            else:
                slots, tokens = slots - 1, tokens - one.weight
                taken.update([one.slot] if one.slot is not None else [])
                passage.passing.append(one)
        return passage

    def admit(self, one: Candidate) -> bool:
        """Tell whether a task may start; if so, spend its slot and tokens."""
        if self.is_shut or self._is_taken(one.slot, self._taken) or not self._can_pay(one.weight, self.tokens):
            return False
        self._slots -= 1
        if one.slot is not None:
            self._taken[one.slot] += 1
        if self.settings.rate is not None:
            self.tokens -= one.weight
            self.has_spent = True
        return True

    def _is_taken(self, slot: Slot | None, taken: Counter[Slot]) -> bool:
        most = self.settings.concurrency_per_key
        return slot is not None and most is not None and taken[slot] >= most

    def _can_pay(self, weight: int, tokens: float) -> bool:
        rate = self.settings.rate
        if rate is None or rate.can_pay(tokens, weight):
            return True
        wait = rate.wait(tokens, weight)
        self.opens_in = wait if self.opens_in is None else min(self.opens_in, wait)
        return False


def merge(candidates: Iterable[Candidate], gates: dict[str, Gate], limit: int) -> list[Candidate]:
    """Return the first candidates that their gates admit, at most `limit`; a queue without a gate has no limits."""
    chosen: list[Candidate] = []
    for one in sorted(candidates, key=lambda one: one.rank):
        if len(chosen) == limit:
            break
        gate = gates.get(one.queue)
        if gate is None or gate.admit(one):
            chosen.append(one)
    return chosen
