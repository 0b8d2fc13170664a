"""Groups of tasks."""

from __future__ import annotations

from uuid import UUID

from msgspec import Struct

from tasker.model.groups import GroupCounts, GroupFailure
from tasker.wire.shapes import Moment


class TaskCounts(GroupCounts, frozen=True, kw_only=True):
    """How many tasks of the group are stored, by status."""


class FailedTask(GroupFailure, frozen=True, kw_only=True):
    """A failed task. problem: the type of its error, a URI; detail: its beginning."""


class GroupInList(Struct, frozen=True, kw_only=True):
    """A group of tasks that were submitted under one name, and its counts.

    ended_at: when no task of it was open any more; null while one is. Of another owner's group, `owner` says whose.
    """

    name: str
    owner: str | None
    tasks: TaskCounts
    created_at: Moment
    ended_at: Moment | None
    links: dict[str, str]


class Group(GroupInList, frozen=True, kw_only=True):
    """A group by itself. oldest_open: the open task that was submitted first; failures: up to 5, the first ones."""

    oldest_open: UUID | None
    failures: tuple[FailedTask, ...]


class GroupPage(Struct, frozen=True, kw_only=True):
    """A slice of the groups, those with open tasks first; `next_cursor` is opaque, null at the end."""

    items: list[GroupInList]
    next_cursor: str | None
