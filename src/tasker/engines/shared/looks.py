"""Looks at the tasks of a filter, newest first, that end after a number of rows even if they have found nothing.

A look goes in steps, each from the seq where the last one ended down to an edge. A step reads the tasks of one way: an
index that has the tasks of a part of the filter in order of seq. Of several ways the one that gets farthest back within
the step's rows is taken. A filter by time is first turned into seqs, by the spans of `task_span`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec import Struct

from tasker.engines.shared.cursors import NEWEST, from_cursor, to_cursor
from tasker.model import Status, TaskFilter

BLOCK = 512
"""Seqs of one row of `task_span`. What keeps the table knows it, too."""
_GROWTH = 2
OPEN = frozenset({Status.PENDING, Status.RUNNING})
_INDEX_OF = {
    Status.PENDING: "task_line",
    Status.RUNNING: "task_running",
    Status.FAILED: "task_failed",
    Status.CANCELLED: "task_cancelled",
}
"""Statuses that few of many tasks have; completed is not one. SQLite's names of their indexes."""


class Bounds(Struct, frozen=True, kw_only=True):
    """How long a look goes on.

    rows: the most tasks that it reads by one index. seconds: after that it begins no further step. first: rows of
    its first step, or twice as many as are asked for if those are more; each further step has twice as many.
    """

    rows: int = 50_000
    seconds: float = 0.01
    first: int = 200


DEFAULT_BOUNDS = Bounds()


@dataclass
class Look:
    """One look: how far it has got. below: the tasks with lower seqs are left; 0 once none is. limit: as asked for."""

    bounds: Bounds
    below: int
    limit: int = 0
    lowest: int = 1
    size: int = field(init=False)
    _looked: int = 0
    _until: float = 0.0

    def __post_init__(self) -> None:
        self.size = min(max(self.bounds.first, 2 * self.limit), self.bounds.rows)

    def start(self) -> None:
        """Begin to measure the time: a look may have waited for a connection."""
        self._until = time.monotonic() + self.bounds.seconds

    @classmethod
    def after(cls, cursor: str | None, bounds: Bounds, limit: int = 0) -> Look:
        """Return a look for up to `limit` tasks after a cursor, or from the newest one. Raises Invalid."""
        return cls(bounds, NEWEST if cursor is None else from_cursor(cursor), limit)

    @property
    def block(self) -> int:
        """The block of the newest task that is left."""
        return (self.below - 1) // BLOCK

    def begin_in(self, block: int | None) -> None:
        """Skip what is above a block; everything if there is none."""
        self.below = 0 if block is None else min(self.below, (block + 1) * BLOCK)
        self._end()

    def end_in(self, block: int | None) -> None:
        """Leave out what is below a block; everything if there is none."""
        if block is None:
            self.below = 0
        else:
            self.lowest = max(self.lowest, block * BLOCK)
        self._end()

    def went_to(self, edge: int | None) -> None:
        """Note a step: the seq at its edge, or None if it went to the end."""
        self.below = edge or 0
        self._end()
        self._looked += self.size
        self.size = min(self.size * _GROWTH, self.bounds.rows - self._looked)

    def _end(self) -> None:
        if self.below <= self.lowest:
            self.below = 0

    @property
    def goes_on(self) -> bool:
        """Whether there is more to look at, and the bounds allow it."""
        return self.below > 0 and self.size > 0 and time.monotonic() < self._until

    @property
    def cursor(self) -> str | None:
        """The cursor of what is left; None at the end."""
        return to_cursor(self.below) if self.below else None


class Way(NamedTuple):
    """A way to the tasks of a part of a filter.

    among: the condition that a task is one of those from :low to below :below. edge: the query for the seq at which a
    step of :size rows ends, null if there are fewer; None for a way of so few tasks that one step takes them all.
    """

    among: str
    edge: str | None


class Spans(NamedTuple):
    """The queries for the newest block, up to :block, and for the oldest that may have tasks of a filter."""

    newest: str
    oldest: str


@dataclass(frozen=True)
class Dialect:
    """The SQL of an engine. schema: of its tables. hint: after a table's name, prescribes an index.

    among: the condition that a seq is one of some. tagged: the condition that a task has a tag. now: the time.
    """

    schema: str
    hint: str
    among: str
    tagged: str
    now: str

    def condition(self, where: TaskFilter) -> str:
        """Return the condition that a task matches a filter; expired tasks are left out."""
        statuses = frozenset(where.status or Status)
        terms = [f"status IN ({', '.join(repr(status.value) for status in where.status)})"] if where.status else []
        terms += [] if statuses <= OPEN else [f"(expires_at IS NULL OR expires_at > {self.now})"]
        terms += [] if where.tag is None else [self.tagged]
        terms += [] if where.bulk is None else [_TOUCHED.format(schema=self.schema)]
        terms += [term for name, term in _TERMS.items() if getattr(where, name) is not None]
        return " AND ".join(terms or ["true"])

    def ways(self, where: TaskFilter, *, few_are_open: bool) -> list[Way]:
        """Return the ways to a filter's tasks; all tasks if no index helps.

        few_are_open: those of its open statuses are no more than a look may read.
        """
        found = [self._by_key(*keyed) for keyed in _KEYED if getattr(where, keyed[0]) not in (None, keyed[3])]
        statuses = frozenset(where.status)
        if statuses and statuses <= _INDEX_OF.keys() and (few_are_open or not statuses & OPEN):
            found.append(self._by_status(statuses))
        return found or [_everything(self.schema)]

    def open_query(self, where: TaskFilter) -> str | None:
        """Return the query for the number of tasks of a filter's open statuses, each up to :most; None if none."""
        each = [
            f"(SELECT count(*) FROM (SELECT 1 FROM {self._from(one)} WHERE status = '{one.value}' LIMIT :most) AS few)"  # noqa: S608
            for one in sorted(OPEN.intersection(where.status))
        ]
        return f"SELECT {' + '.join(each)}" if each else None

    def spans(self, where: TaskFilter) -> Spans | None:
        """Return the queries for the blocks of a filter by time; None for another filter."""
        after, before = where.created_after is not None, where.created_before is not None
        terms = [*(["last > :after"] if after else []), *(["first < :before"] if before else [])]
        if not terms:
            return None
        blocks = f"SELECT block FROM {self.schema}.task_span WHERE {' AND '.join(terms)}"  # noqa: S608
        return Spans(f"{blocks} AND block <= :block ORDER BY block DESC LIMIT 1", f"{blocks} ORDER BY block LIMIT 1")

    def _by_key(self, key: str, table: str, index: str, left_out: str | None) -> Way:
        only = "" if left_out is None else f" AND {key} <> '{left_out}'"
        hint = self.hint.format(index) if index else ""
        # Not a comparison of rows: for that, PostgreSQL would read all entries of the key.
        seqs = f"SELECT seq FROM {self.schema}.{table}{hint} WHERE {key} = :{key}{only} AND {_RANGE}"  # noqa: S608
        return Way(self.among.format(seqs), _edge(seqs))

    def _by_status(self, statuses: frozenset[Status]) -> Way:
        """Return the way by the indexes of statuses; a step ends where the first of them has :size rows."""
        each = {
            status: f"SELECT seq FROM {self._from(status)} WHERE status = '{status.value}' AND {_RANGE}"  # noqa: S608
            for status in sorted(statuses)
        }
        edges = [f"SELECT ({_edge(seqs)}) AS edge" for status, seqs in each.items() if status not in OPEN]
        edge = f"SELECT max(edge) FROM ({' UNION ALL '.join(edges)}) AS each_one" if edges else None  # noqa: S608
        return Way(self.among.format(" UNION ALL ".join(each.values())), edge)

    def _from(self, status: Status) -> str:
        return f"{self.schema}.task{self.hint.format(_INDEX_OF[status])}"


def _edge(seqs: str) -> str:
    """Return the query for the seq of row number :size, newest first."""
    return f"{seqs} ORDER BY seq DESC LIMIT 1 OFFSET :size - 1"


_TERMS = {
    "type": "type = :type",
    "queue": "queue = :queue",
    "owner": "owner = :owner",
    "created_after": "created_at > :after",
    "created_before": "created_at < :before",
}
_TOUCHED = (
    "EXISTS (SELECT 1 FROM {schema}.bulk_task"
    " WHERE bulk_task.bulk = :bulk AND bulk_task.seq = task.seq AND bulk_task.task_id = task.task_id)"
)
_RANGE = "seq >= :low AND seq < :below"
_KEYED = (
    ("type", "task", "task_type", None),
    ("queue", "task", "task_queue", "default"),
    ("owner", "task", "task_owner", ""),
    ("tag", "task_tag", "", None),
    ("bulk", "bulk_task", "", None),
)
"""Filters with an index in order of seq: column, table, the index's name in SQLite, the value it leaves out."""


def _everything(schema: str) -> Way:
    return Way(_RANGE, _edge(f"SELECT seq FROM {schema}.task WHERE {_RANGE}"))  # noqa: S608
