"""The page of all tasks: find, compare, act."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode
from uuid import UUID

from msgspec import structs

from tasker.api.calls import Parameter, uuid_of
from tasker.api.events import SSE
from tasker.api.filters import FILTER_PARAMETERS
from tasker.api.pages import DEFAULT_LIMIT, page_parameters
from tasker.api.replies import Reply, Stream
from tasker.clock import Clock
from tasker.model import Status, Task, TaskFilter
from tasker.model.journal import JournalEntry
from tasker.model.keys import Caller
from tasker.service import Service
from tasker.service.feed import HEARTBEAT
from tasker.web.frame import Frame
from tasker.web.live import BEAT, Live, Watch, message, partial
from tasker.web.page import Visit, show
from tasker.web.queries import (
    SINCE,
    WINDOW_NAMES,
    address,
    open_parameter,
    pack_ids,
    pairs_of,
    replaced,
    rows_parameter,
    window_parameter,
    without,
)
from tasker.web.rows import DETAILED, Row, row_of
from tasker.web.times import iso

_MOST_COUNTED = 10_001
_MOST_OWNERS = 1000
_MOST_LOOKED_AT_AGAIN = 20
"""Rows that a stream compares at first with what they were shown as: tasks may have ended before it began."""
_COUNTED_FOR = 5.0
"""Seconds for which the counts in the tabs are shown again."""
QUERY = (
    *FILTER_PARAMETERS,
    *page_parameters("tasks"),
    window_parameter("since", "Only tasks submitted in this time up to now."),
    Parameter("schedule", "Only tasks that this schedule submitted.", {"type": "string", "format": "uuid"}, uuid_of),
)
"""The query of the list: the names of GET /task, and some that are shorter."""
_FIELDS = {"type": "types", "queue": "queues", "q": "text", "schedule": "schedule_id"}
_NAMES = {
    "since": "submitted",
    "created_after": "submitted after",
    "created_before": "submitted before",
    "schedule_id": "schedule",
    "parent": "children of",
    "q": "text",
}
_PLACE = ("cursor", "limit")
_TAG = "tag:"


class Chip(NamedTuple):
    """A filter that is on. without: the address of the page without it."""

    name: str
    value: str
    without: str


class TaskPages:
    """Show the tasks."""

    def __init__(self, frame: Frame, service: Service, live: Live) -> None:
        self._frame = frame
        self._service = service
        self._live = live
        self._rows = RowMaker(frame, service, live)
        self._counts = Counts(service, frame.clock)

    @show("/tasks", parameters=QUERY, nav="Tasks", icon="tasks")
    async def tasks(self, visit: Visit) -> Reply:
        """List tasks, newest first."""
        found = _jump(visit.query.get("q"))
        if found is not None:
            return self._frame.see(visit, found)
        where, caller = make_filter(visit.query, visit.now), visit.caller
        limit, cursor = visit.query.get("limit", DEFAULT_LIMIT), visit.query.get("cursor")
        page = await self._service.tasks.find_many(caller, where, limit=limit, cursor=cursor)
        tasks = await with_details(self._service, caller, page.items)
        pairs = pairs_of(visit.call.query_string)
        shown = [row_of(task, visit.now) for task in tasks]
        counts = await self._counts.find(caller, where)
        is_whole = cursor is None and page.next_cursor is None
        return self._frame.render(
            visit,
            "tasks.html",
            page="tasks",
            rows=shown,
            tabs=_tabs(pairs, where, counts),
            chips=_chips(pairs),
            pairs=without(pairs, *_PLACE),
            windows=WINDOW_NAMES,
            api_call=_api_call(where, limit, cursor),
            older=None if page.next_cursor is None else replaced(pairs, "cursor", page.next_cursor),
            newest=address(without(pairs, "cursor")) if cursor else None,
            is_filtered=where != TaskFilter(),
            is_empty=where == TaskFilter() and is_whole,
            matching=len(shown) if is_whole else _count_of(where, counts),
            searched_back_to=page.searched_back_to,
            live=f"live/tasks{address([*pairs, *_rows_in_sight(shown)])}",
        )

    @show("/live/tasks", parameters=(*QUERY, rows_parameter(), open_parameter()), media=SSE)
    async def live_tasks(self, visit: Visit) -> Stream:
        """Stream the rows in sight of a list as they change, and how many new tasks there are."""
        return self._live.stream(visit, self._changes(visit, make_filter(visit.query, visit.now)))

    async def _changes(self, visit: Visit, where: TaskFilter) -> AsyncGenerator[bytes, None]:
        rows, pulse = visit.query.get("rows", ()), self._live.pulse
        watch = Watch(visit.caller.only, rows)
        counts = None if "cursor" in visit.query else counted_by(where, visit.caller)
        key = (visit.caller.only, structs.replace(where, created_after=None), counts is None)
        with pulse.watching(watch), pulse.tallying(key, counts or _counts_none, watch) as tally:
            begun, told = tally.number, 0
            missed = await self._changed_before(visit.caller, rows, visit.query.get("open", ""))
            while not pulse.has_ended:
                parts = await self._rows.make(visit.caller, watch.take() | missed, where)
                missed, new = set(), tally.number - begun
                if new != told:
                    told = new
                    parts.append(partial("more-new", self._frame.part("macros.html", "more_new", number=new)))
                yield message(parts) if parts else BEAT
                await watch.wait(HEARTBEAT)

    async def _changed_before(self, caller: Caller, rows: Iterable[UUID], shown: str) -> set[UUID]:
        """Return the tasks that changed between their page and its stream. shown: letters of what the first were."""
        first = zip(rows, shown[:_MOST_LOOKED_AT_AGAIN], strict=False)
        found = [(await self._service.tasks.find(caller, task_id), letter) for task_id, letter in first]
        return {task.task_id for task, letter in found if task is not None and task.status.value[0] != letter}


async def with_details(service: Service, caller: Caller, tasks: Sequence[Task]) -> list[Task]:
    """Return tasks of a page with the reasons why they wait; with the children, or the question, that they wait for."""
    shown = await service.waiting.with_reasons(caller, tasks)
    return [
        (await service.tasks.find(caller, task.task_id) or task) if task.reason in DETAILED else task for task in shown
    ]


_Found = dict[tuple[UUID, str | None], Task | None]
_Made = dict[tuple[UUID, str | None, bool], str]


class RowMaker:
    """Makes rows of tasks that have changed, once for all pages that show them."""

    def __init__(self, frame: Frame, service: Service, live: Live) -> None:
        self._frame = frame
        self._service = service
        self._pulse = live.pulse
        self._number = 0
        self._found: _Found = {}
        self._made: _Made = {}

    async def make(self, caller: Caller, task_ids: Collection[UUID], where: TaskFilter) -> list[str]:
        """Return the rows of those of the tasks that the caller sees. A row that no longer fits is dimmed."""
        if self._number != self._pulse.number:
            self._number, self._found, self._made = self._pulse.number, {}, {}
        found, made = self._found, self._made  # what is read before the next change is not kept after it
        tasks = [task for task_id in task_ids if (task := await self._find(found, caller, task_id)) is not None]
        return [self._row(made, caller, task, bool(where.status) and task.status not in where.status) for task in tasks]

    async def _find(self, found: _Found, caller: Caller, task_id: UUID) -> Task | None:
        """Return a task as the caller sees it: also why it waits depends on whose tasks the caller may know of."""
        key = task_id, caller.only
        if key not in found:
            task = await self._service.tasks.find(caller, task_id)
            shown = [] if task is None else await self._service.waiting.with_reasons(caller, [task])
            found[key] = shown[0] if shown else None
        return found[key]

    def _row(self, made: _Made, caller: Caller, task: Task, is_gone: bool) -> str:
        key = task.task_id, caller.only, is_gone
        html = made.get(key)
        if html is None:
            now = self._frame.clock.now()
            row = row_of(task, now)
            html = self._frame.part("macros.html", "task_row", t=row, now=now, base="", is_gone=is_gone)
            made[key] = html = partial(f"t-{row.id}", html)
        return html


_COMES_WITH = {
    Status.PENDING: frozenset({"created", "retrying"}),
    Status.RUNNING: frozenset({"started"}),
    Status.COMPLETED: frozenset({"completed"}),
    Status.FAILED: frozenset({"failed"}),
    Status.CANCELLED: frozenset({"cancelled"}),
}
_OF_ENTRY = frozenset({"status", "types", "queues", "tag", "owner", "created_after"})
"""What an entry of the journal tells of its task."""


def counted_by(where: TaskFilter, caller: Caller) -> Callable[[JournalEntry], bool] | None:
    """Return what tells whether an entry brings a new task into a list; None if entries do not tell."""
    told = (field.name for field in structs.fields(TaskFilter) if field.name not in _OF_ENTRY)
    if any(getattr(where, name) is not None for name in told):
        return None
    events = frozenset().union(*(_COMES_WITH[status] for status in where.status)) or frozenset({"created"})

    def counts(entry: JournalEntry) -> bool:
        return (
            entry.event.type in events
            and caller.sees(entry.owner)
            and (not where.types or entry.type in where.types)
            and (not where.queues or entry.queue in where.queues)
            and (where.tag is None or where.tag in entry.tags)
            and where.owner in (None, entry.owner)
        )

    return counts


def _counts_none(_: JournalEntry) -> bool:
    return False


def make_filter(query: dict[str, Any], now: datetime) -> TaskFilter:
    """Return the filter of a page's query. `since` counts from the time of the request."""
    left_out = (*_PLACE, "since", "rows", "open")
    given = {_FIELDS.get(name, name): value for name, value in query.items() if name not in left_out}
    if "since" in query:
        begun = now - SINCE[query["since"]]
        given["created_after"] = max(begun, given.get("created_after", begun))
    return TaskFilter(**given)


def _rows_in_sight(shown: Sequence[Row]) -> list[tuple[str, str]]:
    """Return what the stream of a page is told of its rows: also how those are shown that may end before it begins."""
    ended = {status.value for status in Status if status.is_terminal}
    front = [row for row in shown if row.status not in ended][:_MOST_LOOKED_AT_AGAIN]
    rows = dict.fromkeys(row.id for row in (*front, *shown))
    return [("rows", pack_ids(rows)), ("open", "".join(row.status[0] for row in front))]


class Tab(NamedTuple):
    """A status, None for all; the address of the page; whether it is this page; how many tasks, as far as is known."""

    status: str | None
    href: str
    is_on: bool
    number: int | None


class Counts:
    """How many tasks have which status, for lists without a filter: any other count may take too long for a page."""

    def __init__(self, service: Service, clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._known: dict[str | None, tuple[float, dict[str | None, int]]] = {}

    async def find(self, caller: Caller, where: TaskFilter) -> dict[str | None, int]:
        """Return the counts by status, None for all; nothing for a list with a filter."""
        if structs.replace(where, status=()) != TaskFilter():
            return {}
        now = self._clock.monotonic()
        at, counts = self._known.get(caller.only, (-_COUNTED_FOR, {}))
        if now - at >= _COUNTED_FOR:
            counts = {}
            for status in (None, *Status):
                one = TaskFilter() if status is None else TaskFilter(status=(status,))
                counts[status] = (await self._service.tasks.count(caller, one, at_most=_MOST_COUNTED)).number
            self._known = {} if len(self._known) > _MOST_OWNERS else self._known
            self._known[caller.only] = now, counts
        return counts


def _jump(text: str | None) -> str | None:
    """Return where a search leads that is none for a text: an id to its task, `tag:x` to the tasks with the tag."""
    if text is None:
        return None
    text = text.strip()
    with contextlib.suppress(ValueError):
        return f"task/{uuid_of(text)}"
    return f"tasks{address([('tag', text[len(_TAG) :])])}" if text.startswith(_TAG) and len(text) > len(_TAG) else None


def _tabs(pairs: list[tuple[str, str]], where: TaskFilter, counts: Mapping[str | None, int]) -> list[Tab]:
    chosen = where.status[0] if len(where.status) == 1 else None
    every = Tab(None, replaced(pairs, "status", None, *_PLACE), not where.status, counts.get(None))
    return [
        every,
        *(Tab(one, replaced(pairs, "status", one, *_PLACE), one is chosen, counts.get(one)) for one in Status),
    ]


def _count_of(where: TaskFilter, counts: Mapping[str | None, int]) -> int | None:
    """Return how many tasks a filter selects; None if that is not known."""
    return counts.get(where.status[0] if where.status else None) if len(where.status) <= 1 else None


def _chips(pairs: list[tuple[str, str]]) -> list[Chip]:
    kept = without(pairs, *_PLACE)
    shown = [(place, pair) for place, pair in enumerate(kept) if pair[0] != "status"]
    return [
        Chip(
            _NAMES.get(name, name.replace("_", " ")),
            f"last {WINDOW_NAMES[value]}" if name == "since" and value in WINDOW_NAMES else value,
            address(kept[:place] + kept[place + 1 :]),
        )
        for place, (name, value) in shown
    ]


def _api_call(where: TaskFilter, limit: int, cursor: str | None) -> str:
    """Return the path and query of the API that gives the same tasks."""
    names = {field: name for name, field in _FIELDS.items() if name != "schedule"}
    pairs: list[tuple[str, str]] = []
    for field in structs.fields(TaskFilter):
        value = getattr(where, field.name)
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        pairs += [(names.get(field.name, field.name), _as_text(one)) for one in values]
    pairs.append(("limit", str(limit)))
    if cursor is not None:
        pairs.append(("cursor", cursor))
    return "/task?" + urlencode(pairs, safe=":,")


def _as_text(value: Any) -> str:
    return iso(value) if isinstance(value, datetime) else str(value)
