"""Groups: tasks of an owner that were submitted under one name, and how many of them have which status."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from msgspec import Struct

from tasker.model.pages import PageOf
from tasker.model.tasks import Status

State = Literal["open", "completed", "failed", "cancelled"]
"""What counts of a member: open, or how it has ended."""
SHOWN_FAILURES = 5
"""The first failed tasks that a group shows."""


class GroupCounts(Struct, frozen=True, kw_only=True):
    """The stored tasks of a group by status."""

    pending: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0


class StoredGroup(Struct, frozen=True, kw_only=True):
    """A group as it is stored: its counts are kept by the transactions that change its tasks.

    ends: how often its last open task has ended. ended_at: when that was last; None while tasks are open.
    """

    group_id: UUID
    owner: str
    name: str
    open: int
    completed: int
    failed: int
    cancelled: int
    ends: int
    created_at: datetime
    ended_at: datetime | None = None

    @property
    def unsuccessful(self) -> int:
        """The number of its tasks that failed or were cancelled."""
        return self.failed + self.cancelled

    def counts(self, running: int = 0) -> GroupCounts:
        """Return its counts by status. running: how many of its open tasks run."""
        running = min(running, self.open)
        return GroupCounts(
            pending=self.open - running,
            running=running,
            completed=self.completed,
            failed=self.failed,
            cancelled=self.cancelled,
        )


class GroupFailure(Struct, frozen=True, kw_only=True):
    """A failed task of a group. problem: the type of its error."""

    task_id: UUID
    type: str
    problem: str
    detail: str


class Group(Struct, frozen=True, kw_only=True):
    """A group as a client sees it. oldest_open: the open task that was submitted first; failures: the first ones.

    Both are read for a group by itself, not in lists.
    """

    group_id: UUID
    owner: str
    name: str
    tasks: GroupCounts
    created_at: datetime
    ended_at: datetime | None = None
    oldest_open: UUID | None = None
    failures: tuple[GroupFailure, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether a task of it is open."""
        return self.ended_at is None


GroupPage = PageOf[Group]


class GroupEnd(Struct, frozen=True, kw_only=True):
    """The end of a group's last open task, as webhooks are told of it. number: how often the group has ended."""

    name: str
    owner: str
    number: int
    tasks: GroupCounts
    created_at: datetime
    ended_at: datetime


def state_of(status: Status | str) -> State:
    """Return what counts of a task with this status."""
    one = Status(status)
    return one.value if one.is_terminal else "open"  # type: ignore[return-value]
