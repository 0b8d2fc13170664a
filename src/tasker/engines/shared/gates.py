"""What of a queue may start now: the rules of its limits, the same for every engine. Pure: no store.

An engine counts and locks, asks a gate which tasks it lets through, and stores what the gate has spent. Tasks whose
concurrency key is taken are parked: out of line until a slot of their key is free. What holds of a parked task: as many
tasks of its key as may run together are running, or are in line before it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from tasker.model.queues import QueueSettings, Slot

WINDOW = 50
"""Candidates that are looked at together at the least, where some may have to wait for their key."""
ROUNDS = 6
"""How often a claim looks further while it finds tasks to park; each time twice as far."""


class Candidate(NamedTuple):
    """A task in line: `rank` orders them, smallest first; `slot` is that of its key; `place` is the engine's own."""

    rank: tuple[Any, ...]
    queue: str
    weight: int
    slot: Slot | None
    place: Any


class Passage(NamedTuple):
    """Which of some candidates may start, in order, if all of them do, and which have to wait for their key.

    is_cut: a limit was reached, and those behind are not looked at.
    """

    passing: list[Candidate]
    blocked: list[Candidate]
    is_cut: bool


class Gate:
    """The gate of one queue within one transaction.

    running: attempts of the queue that run. tokens: what is in the bucket of its rate.
    """

    def __init__(self, settings: QueueSettings, *, running: int = 0, tokens: float = 0.0) -> None:
        self.settings = settings
        self.tokens = tokens
        self.has_spent = False
        self.opens_in: timedelta | None = None
        """How long until the first that could not be paid can be."""
        self._slots = math.inf if settings.concurrency is None else max(0, settings.concurrency - running)
        self._taken: Counter[Slot] = Counter()

    @property
    def is_shut(self) -> bool:
        """Whether nothing may start, whatever it weighs."""
        return self.settings.paused or self._slots < 1

    @property
    def has_keys(self) -> bool:
        return self.settings.concurrency_per_key is not None

    def room(self, limit: int) -> int:
        """Return how many of `limit` may start at the most."""
        return 0 if self.settings.paused else int(min(limit, self._slots))

    def note_running(self, slot: Slot, count: int) -> None:
        """Tell how many attempts with a key run."""
        self._taken[slot] = count

    def knows(self, slot: Slot) -> bool:
        return slot in self._taken

    def sift(self, candidates: Sequence[Candidate], limit: int) -> Passage:
        """Tell which of the first candidates may start; nothing is spent."""
        slots, tokens, taken = self.room(limit), self.tokens, self._taken.copy()
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
        """Let one start, if it may: its slot and its weight are spent."""
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
    """Return the first candidates that their gates let through, at most `limit`; one of a queue without a gate may."""
    chosen: list[Candidate] = []
    for one in sorted(candidates, key=lambda one: one.rank):
        if len(chosen) == limit:
            break
        gate = gates.get(one.queue)
        if gate is None or gate.admit(one):
            chosen.append(one)
    return chosen
