"""Looks at the tasks of a filter, newest first, that end after a number of rows even if they have found nothing.

A look goes in steps, each from the seq where the last one ended down to an edge. A step reads the tasks of one way: an
index that has the tasks of a part of the filter in order of seq. Of several ways the one that gets farthest back within
the step's rows is taken. A filter by time is first turned into seqs, by the spans of `task_span`.
"""

from __future__ import annotations

import json
import string
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from msgspec import Struct, structs

from tasker.engines.shared.cursors import NEWEST, from_cursor, to_cursor
from tasker.model import Status, TaskCount, TaskFilter
from tasker.model.control import Counted

BLOCK = 512
"""Seqs of one row of `task_span`. What keeps the table knows it, too."""
_GROWTH = 2
_LARGEST = 5_000
"""Limit of the rows of a step: the time is not looked at within it."""
TEXT_BYTES = 65_536
"""Params or errors that are longer are not searched for a text."""
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
    its first step, or twice as many as are asked for if those are more; each further step has twice as many, up to a
    limit.
    """

    rows: int = 50_000
    seconds: float = 0.01
    first: int = 200


DEFAULT_BOUNDS = Bounds()
COUNT_SECONDS = 0.05
"""How long a count of a list goes on."""


def for_counts(bounds: Bounds) -> Bounds:
    """Return the bounds of a count of a list, which may take longer than a page of it."""
    return structs.replace(bounds, seconds=max(bounds.seconds, COUNT_SECONDS))


def count_of(counted: Counted, at_most: int) -> TaskCount:
    """Return what one look has counted as the count of a list that is shown up to `at_most`."""
    is_whole = counted.next_cursor is None and counted.count <= at_most
    return TaskCount(min(counted.count, at_most), is_whole)


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
        self.size = min(self.size * _GROWTH, _LARGEST, self.bounds.rows - self._looked)

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
    text: `text.format(column)` is a column of JSON as text, in which the letters A to Z are small. found:
    `found.format(text, name)`: the condition that a text contains the named value.
    """

    schema: str
    hint: str
    among: str
    tagged: str
    now: str
    text: str
    found: str

    def condition(self, where: TaskFilter) -> str:
        """Return the condition that a task matches a filter; expired tasks are left out."""
        statuses = frozenset(where.status or Status)
        terms = [f"status IN ({', '.join(repr(status.value) for status in where.status)})"] if where.status else []
        terms += [] if statuses <= OPEN else [f"(expires_at IS NULL OR expires_at > {self.now})"]
        terms += [] if where.tag is None else [self.tagged]
        terms += [] if where.bulk is None else [_TOUCHED.format(schema=self.schema)]
        terms += [f"{key.column} IN ({_marks(key, where)})" for key in _SEVERAL if getattr(where, key.name)]
        terms += [self._noted(key) for key in _NOTED if getattr(where, key.name) is not None]
        terms += [term for name, term in _TERMS.items() if getattr(where, name) is not None]
        terms += [] if where.text is None else [self._contains(where.text)]
        return " AND ".join(terms or ["true"])

    def ways(self, where: TaskFilter, *, few_are_open: bool) -> list[Way]:
        """Return the ways to a filter's tasks; all tasks if no index helps.

        few_are_open: those of its open statuses are no more than a look may read.
        """
        found = [self._by_key(key, len(key.values(where))) for key in _KEYED if key.leads(where)]
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
        terms = [term for name, term in _SPANNED.items() if getattr(where, name) is not None]
        if not terms:
            return None
        blocks = f"SELECT block FROM {self.schema}.task_span WHERE {' AND '.join(terms)}"  # noqa: S608
        return Spans(f"{blocks} AND block <= :block ORDER BY block DESC LIMIT 1", f"{blocks} ORDER BY block LIMIT 1")

    def _by_key(self, key: _Key, count: int) -> Way:
        """Return the way by a key's index; a step ends where the first of its values has its share of :size rows."""
        only = "" if key.left_out is None else f" AND {key.column} <> '{key.left_out}'"
        source = f"{self.schema}.{key.table}{self.hint.format(key.index_name) if key.index_name else ''}"
        # Not a comparison of rows: for that, PostgreSQL would read all entries of the key.
        each = [
            f"SELECT seq FROM {source} WHERE {key.column} = {key.wanted(place, self.schema)}{only} AND {_RANGE}"  # noqa: S608
            for place in range(count)
        ]
        return Way(self.among.format(" UNION ALL ".join(each)), _first_edge(each, share=count))

    def _by_status(self, statuses: frozenset[Status]) -> Way:
        """Return the way by the indexes of statuses; a step ends where the first of them has :size rows."""
        each = {
            status: f"SELECT seq FROM {self._from(status)} WHERE status = '{status.value}' AND {_RANGE}"  # noqa: S608
            for status in sorted(statuses)
        }
        ended = [seqs for status, seqs in each.items() if status not in OPEN]
        return Way(self.among.format(" UNION ALL ".join(each.values())), _first_edge(ended) if ended else None)

    def _noted(self, key: _Key) -> str:
        """Return the condition that a task is in the table of a key."""
        found = f"SELECT 1 FROM {self.schema}.{key.table} AS noted"  # noqa: S608
        return f"EXISTS ({found} WHERE noted.{key.column} = {key.wanted(0, self.schema)} AND noted.seq = task.seq)"

    def _contains(self, text: str) -> str:
        """Return the condition that params or an error contain a text. No long ones are read."""
        terms = [
            self.found.format(self.text.format(column), f"text_{place}")
            for column in ("params", "error")
            for place in range(len(forms_of(text)))
        ]
        half = len(terms) // 2
        return " OR ".join(
            f"CASE WHEN octet_length({column}) <= {TEXT_BYTES} THEN {' OR '.join(some)} ELSE false END"
            for column, some in (("params", terms[:half]), ("error", terms[half:]))
        ).join("()")

    def _from(self, status: Status) -> str:
        return f"{self.schema}.task{self.hint.format(_INDEX_OF[status])}"


class _Key(NamedTuple):
    """A field of a filter with an index in order of seq.

    index_name: in SQLite; "" for the table's own order. left_out: the value that the index leaves out. found: the SQL
    of the column's value, with `{schema}` and, for the value of the filter, `{value}`.
    """

    name: str
    column: str
    table: str
    index_name: str = ""
    left_out: str | None = None
    found: str = "{value}"

    def values(self, where: TaskFilter) -> tuple[Any, ...]:
        """Return the values of the field; there may be several, or none."""
        given = getattr(where, self.name)
        return given if isinstance(given, tuple) else () if given is None else (given,)

    def leads(self, where: TaskFilter) -> bool:
        """Tell whether the index has all tasks of a filter."""
        values = self.values(where)
        return bool(values) and self.left_out not in values

    def mark(self, place: int) -> str:
        """Return the name of a value in queries."""
        return f"{self.column}_{place}"

    def wanted(self, place: int, schema: str) -> str:
        """Return the SQL of the value that the column must have."""
        return self.found.format(schema=schema, value=f":{self.mark(place)}")


def values_of(where: TaskFilter, convert: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the values of the queries of a filter; those of the engine's own types by `convert`."""
    values = {name: convert(getattr(where, field)) for name, field in _TIMES.items()}
    values |= {key.mark(place): convert(one) for key in _KEYED for place, one in enumerate(key.values(where))}
    forms = [] if where.text is None else forms_of(where.text)
    return values | {f"text_{place}": form for place, form in enumerate(forms)}


def forms_of(text: str) -> list[str]:
    """Return the forms that a text may have in JSON, the letters A to Z made small: clients escape differently."""
    forms = (text, json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1])
    return list(dict.fromkeys(form.translate(_SMALL) for form in forms))


def _marks(key: _Key, where: TaskFilter) -> str:
    return ", ".join(f":{key.mark(place)}" for place in range(len(key.values(where))))


def _edge(seqs: str, share: int = 1) -> str:
    """Return the query for the seq of row number :size, newest first; of its part, if several queries share it."""
    row = ":size" if share == 1 else f"(:size + {share - 1}) / {share}"
    return f"{seqs} ORDER BY seq DESC LIMIT 1 OFFSET {row} - 1"


def _first_edge(each: Sequence[str], share: int = 1) -> str:
    """Return the query for the first edge that one of several queries gets to; null if none gets to one."""
    if len(each) == 1:
        return _edge(each[0])
    edges = " UNION ALL ".join(f"SELECT ({_edge(seqs, share)}) AS edge" for seqs in each)
    return f"SELECT max(edge) FROM ({edges}) AS each_one"  # noqa: S608


_SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_TIMES = {
    "after": "created_after",
    "before": "created_before",
    "ended_after": "ended_after",
    "ended_before": "ended_before",
}
"""The names of times in queries, with their fields in a filter."""
_SPANNED = {
    "created_after": "last > :after",
    "created_before": "first < :before",
    "ended_before": "first < :ended_before",
}
_TERMS = {
    "owner": "owner = :owner_0",
    "created_after": "created_at > :after",
    "created_before": "created_at < :before",
    "ended_after": "finished_at > :ended_after",
    "ended_before": "finished_at < :ended_before AND created_at < :ended_before",
    "error": "status = 'failed'",
}
_TOUCHED = (
    "EXISTS (SELECT 1 FROM {schema}.bulk_task"
    " WHERE bulk_task.bulk = :bulk_0 AND bulk_task.seq = task.seq AND bulk_task.task_id = task.task_id)"
)
_RANGE = "seq >= :low AND seq < :below"
_SEVERAL = (_Key("types", "type", "task", "task_type"), _Key("queues", "queue", "task", "task_queue", "default"))
_NOTED = (
    _Key("schedule_id", "schedule_id", "task_schedule"),
    _Key("error", "failure", "task_failure"),
    _Key("group", "name", "task_group_member", "task_group_seq"),
    _Key("parent", "parent", "child", found="(SELECT seq FROM {schema}.task WHERE task_id = {value})"),
)
_KEYED = (
    *_SEVERAL,
    _Key("owner", "owner", "task", "task_owner", ""),
    _Key("tag", "tag", "task_tag"),
    *_NOTED,
    _Key("bulk", "bulk", "bulk_task"),
)
"""Filters with an index in order of seq."""


def _everything(schema: str) -> Way:
    return Way(_RANGE, _edge(f"SELECT seq FROM {schema}.task WHERE {_RANGE}"))  # noqa: S608
