"""The children of a task as pages show them: a bar of their counts, the ones that matter most, links to the rest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from markupsafe import Markup

from tasker.model import Status, Task, TaskFilter
from tasker.model.groups import GroupCounts
from tasker.model.keys import Caller
from tasker.model.tasks import ChildCounts
from tasker.service import Service
from tasker.web import times
from tasker.web.charts import shares
from tasker.web.rows import Row, row_of

MOST_SHOWN = 10
"""Children that the page of a task lists."""
_FIRST = (Status.FAILED, Status.RUNNING)
_ORDER = (Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.RUNNING, Status.PENDING)
_CLASSES = {Status.PENDING: "faint"}


class Part(NamedTuple):
    """The children of one status, and the page that lists them."""

    status: str
    number: int
    href: str


class Children(NamedTuple):
    """The children of a task. bar: their counts; more: how many are not among the rows."""

    total: int
    parts: list[Part]
    bar: Markup
    rows: list[Row]
    more: int
    href: str


def total_of(counts: ChildCounts | None) -> int:
    """Return how many children there are."""
    return 0 if counts is None else sum(getattr(counts, status.value) for status in Status)


def open_of(counts: ChildCounts | None) -> int:
    """Return how many children have not ended."""
    return 0 if counts is None else counts.pending + counts.running


async def find_first(service: Service, caller: Caller, task: Task, most: int = MOST_SHOWN) -> list[Task]:
    """Return some children: failed ones, running ones, then the newest."""
    found: dict[UUID, Task] = {}
    if not total_of(task.children):
        return []
    for status in (*_FIRST, None):
        left = most - len(found) if status is None else most // 3
        if left <= 0 or (status is not None and not getattr(task.children, status.value)):
            continue
        where = TaskFilter(parent=task.task_id, status=() if status is None else (status,))
        page = await service.tasks.find_many(caller, where, limit=most)
        new = [one for one in page.items if one.task_id not in found]
        found |= {one.task_id: one for one in new[:left]}
    return await service.waiting.with_reasons(caller, list(found.values()))


def children_of(task: Task, first: Sequence[Task], now: datetime) -> Children | None:
    """Return what the page shows; None without children."""
    counts = task.children
    total = total_of(counts)
    if not total:
        return None
    href = f"tasks?parent={task.task_id}"
    rows = [row_of(one, now) for one in first]
    return Children(total, parts_of(counts, href), bar_of(counts), rows, max(total - len(rows), 0), href)


def parts_of(counts: ChildCounts | GroupCounts | None, href: str) -> list[Part]:
    """Return the counts, each with the page that lists its tasks. href: of the page that lists them all."""
    found = [(status.value, getattr(counts, status.value, 0)) for status in _ORDER]
    return [Part(status, count, f"{href}&status={status}") for status, count in found if count]


def bar_of(counts: ChildCounts | GroupCounts | None) -> Markup:
    """Return the counts as a bar."""
    sizes = [(status, getattr(counts, status.value, 0)) for status in _ORDER]
    label = ", ".join(f"{times.number(count)} {status.value}" for status, count in sizes if count)
    return shares([(_CLASSES.get(status, status.value), count) for status, count in sizes], label)
