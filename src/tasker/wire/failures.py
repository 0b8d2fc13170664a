"""Failure groups, as the API shows them."""

from __future__ import annotations

from uuid import UUID

from msgspec import Struct

from tasker.wire.shapes import Always, Moment, Sometimes


class FailureSample(Struct, frozen=True, kw_only=True):
    """The newest task that failed so, and the detail of its error, up to 400 characters."""

    task_id: UUID
    detail: str


class FailureGroup(Struct, frozen=True, kw_only=True):
    """Failures of one owner and type with the same exception, or problem, and nearly the same message.

    `failure_id`: for `GET /task?error=`; `other` for the failures that got no group of their own. `problem`: the type
    of the error. `message`: without numbers, hex and quoted parts. `count`: failures in the window, also of tasks that
    were retried or erased since. `first_at`: the first one that is known. `message` and `sample` are null once no task
    of the group is left. `owner` is null for tasks that were submitted without a key.
    """

    failure_id: str
    type: str
    problem: str
    exception: Always[str | None] = None
    message: Always[str | None] = None
    count: int
    first_at: Moment
    last_at: Moment
    sample: Always[FailureSample | None] = None
    owner: Sometimes[str | None] = None


class FailurePage(Struct, frozen=True, kw_only=True):
    """Groups, those that failed last first; `next_cursor` is opaque, null at the end.

    `counted_from`: failures count from this full hour on. It is later than the window's begin if there is too much to
    count.
    """

    items: list[FailureGroup]
    next_cursor: Always[str | None] = None
    counted_from: Moment
