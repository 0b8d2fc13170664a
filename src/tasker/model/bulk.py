"""Bulk actions: one action on many tasks, stored, so that it goes on after the end of a process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Raw, Struct, structs

from tasker.model.control import Action, ChosenTask
from tasker.model.pages import PageOf
from tasker.model.tasks import Status, TaskFilter

BulkState = Literal["running", "done", "stopped"]
SkipReason = Literal["gone", "status", "started", "not_unique", "dependency", "queue_limit"]
"""Why a task was left as it is. gone: it does not exist, or is another owner's. status: it has another one by now.
started: it has run since the action that is undone. not_unique: an open task has its unique key. dependency: it depends
on a task that has not completed, or others that depend on it are not settled yet. queue_limit: its owner has open tasks
in too many queues."""

HOLD = timedelta(seconds=10)
"""How long a process holds an action without a step: longer than a step takes. Also how long one that cannot get on is
left alone."""

_MEMBERS = frozenset(TaskFilter.__struct_fields__)


class BulkAction(Struct, frozen=True, kw_only=True):
    """A bulk action and how far it is.

    owner, key_id: who made it. tasks_of: the only owner whose tasks it is for; None for all owners'. selects: the
    filter, as `write_filter` makes it. given: the number of task ids that were given instead of a filter. place: where
    to go on choosing tasks of the filter; None at the end. rest: tasks that are chosen and not done, in order.
    at_most: limit of the tasks that it acts on. matched: tasks counted when it was made; None if they were too many.
    skips: number of tasks left as they are, by reason. undo_of: the bulk action whose retries it cancels.
    version: grows with each change.
    """

    bulk_id: UUID
    owner: str = ""
    key_id: str | None = None
    tasks_of: str | None = None
    action: Action
    selects: Raw
    given: int | None = None
    place: str | None = None
    rest: tuple[UUID, ...] = ()
    at_most: int | None = None
    matched: int | None = None
    done: int = 0
    skips: dict[str, int] = {}
    state: BulkState = "running"
    undo_of: UUID | None = None
    version: int = 1
    started_at: datetime
    ended_at: datetime | None = None

    @property
    def skipped(self) -> int:
        return sum(self.skips.values())

    @property
    def to_go(self) -> int | None:
        """Tasks that are neither done nor skipped; None if it runs and they were too many to count."""
        if self.state == "done":
            return 0
        return None if self.matched is None else max(0, self.matched - self.done - self.skipped)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return (self.place is None and not self.rest) or self.done == self.at_most

    def acts_for(self, owner: str) -> bool:
        """Tell whether it may act on an owner's tasks."""
        return self.tasks_of is None or self.tasks_of == owner


BulkPage = PageOf[BulkAction]


class BulkTask(NamedTuple):
    """What a bulk action needs to know of a task. `owner` is "" without one."""

    task_id: UUID
    owner: str
    queue: str
    status: Status

    @property
    def chosen(self) -> ChosenTask:
        return ChosenTask(self.task_id, self.owner, self.queue)


class Step(Struct, frozen=True, kw_only=True):
    """A small part of a bulk action, for one transaction.

    task_ids: the tasks to act on. place, rest: of the action afterwards. refused: tasks that are skipped, by reason.
    """

    task_ids: tuple[UUID, ...]
    place: str | None
    rest: tuple[UUID, ...] = ()
    refused: dict[str, int] = {}


class Acts(Struct, frozen=True, kw_only=True):
    """The result of a step's acts: the tasks done, those skipped by reason, and those that others have locked."""

    done: tuple[UUID, ...] = ()
    skips: dict[str, int] = {}
    held: tuple[UUID, ...] = ()


def settle(before: BulkAction, step: Step, acts: Acts, now: datetime) -> BulkAction:
    """Return a bulk action after a step."""
    after = structs.replace(
        before,
        version=before.version + 1,
        place=step.place,
        rest=(*acts.held, *step.rest),
        done=before.done + len(acts.done),
        skips=_summed(before.skips, step.refused, acts.skips),
    )
    return structs.replace(after, state="done", ended_at=now) if after.is_over else after


def _summed(*each: Mapping[str, int]) -> dict[str, int]:
    names: Sequence[str] = list(dict.fromkeys(name for one in each for name in one))
    return {name: sum(one.get(name, 0) for one in each) for name in names}


def write_filter(where: TaskFilter) -> Raw:
    """Return a filter as JSON, without the members that select everything."""
    given = {name: value for name, value in structs.asdict(where).items() if value not in (None, ())}
    return Raw(msgspec.json.encode(given))


def read_filter(selects: Raw) -> TaskFilter | None:
    """Return the filter in a JSON text; None if it has members of a later version, which this one would not obey."""
    members: dict[str, Any] = msgspec.json.decode(selects)
    return msgspec.json.decode(selects, type=TaskFilter) if members.keys() <= _MEMBERS else None
