"""What a transaction changes about the counts of groups: gathered, and written once at its end.

A group's row is then locked for as short a time as possible: of a large group, every process ends tasks all the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from msgspec import structs

from tasker.model.groups import State, StoredGroup


class GroupKey(NamedTuple):
    """The group of an owner by its name."""

    owner: str
    name: str


@dataclass(slots=True)
class Delta:
    """What is added to the counts of one group. has_ends: whether open tasks of it ended."""

    open: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    has_ends: bool = False

    def add(self, state: State, number: int) -> None:
        """Add to the number of tasks in a state."""
        setattr(self, state, getattr(self, state) + number)

    def values(self) -> dict[str, int | bool]:
        """Return its fields, as queries take them."""
        return asdict(self)

    def added_to(self, group: StoredGroup) -> StoredGroup:
        """Return a group with this added to its counts."""
        return structs.replace(
            group,
            open=group.open + self.open,
            completed=group.completed + self.completed,
            failed=group.failed + self.failed,
            cancelled=group.cancelled + self.cancelled,
        )


class GroupChanges:
    """The changes of one transaction, by group."""

    __slots__ = ("_by_group",)

    def __init__(self) -> None:
        self._by_group: dict[GroupKey, Delta] = {}

    def __bool__(self) -> bool:
        return bool(self._by_group)

    def touched(self, key: GroupKey) -> None:
        """Have the group stored, even without a task."""
        self._of(key)

    def joined(self, key: GroupKey, state: State = "open") -> None:
        """Count a new member."""
        self._of(key).add(state, 1)

    def moved(self, key: GroupKey, before: State, after: State) -> None:
        """Count a member that has ended, or runs again."""
        delta = self._of(key)
        delta.add(before, -1)
        delta.add(after, 1)
        delta.has_ends = delta.has_ends or before == "open"

    def erased(self, key: GroupKey, state: State, number: int = 1) -> None:
        """Count members that are erased."""
        self._of(key).add(state, -number)

    def of(self, key: GroupKey) -> Delta | None:
        """Return what has been gathered for a group."""
        return self._by_group.get(key)

    def copy(self) -> GroupChanges:
        """Return a copy, to go back to if later work is undone."""
        one = GroupChanges()
        one._by_group = {key: replace(delta) for key, delta in self._by_group.items()}
        return one

    def take(self) -> Iterator[tuple[GroupKey, Delta]]:
        """Return what has been gathered, in one order for all transactions, and forget it."""
        taken, self._by_group = sorted(self._by_group.items()), {}
        return iter(taken)

    def _of(self, key: GroupKey) -> Delta:
        delta = self._by_group.get(key)
        if delta is None:
            delta = self._by_group[key] = Delta()
        return delta


def is_empty(group: StoredGroup) -> bool:
    """Tell whether no task of a group is stored any more."""
    return not (group.open or group.completed or group.failed or group.cancelled)
