"""The page of all tasks: find, compare, act."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import urlencode

from msgspec import structs

from tasker.api.pages import DEFAULT_LIMIT
from tasker.api.replies import Reply
from tasker.api.tasks import LIST_PARAMETERS
from tasker.model import Status, TaskFilter
from tasker.service import Service
from tasker.web.frame import Frame
from tasker.web.page import Visit, show
from tasker.web.queries import (
    SINCE,
    WINDOW_NAMES,
    address,
    pairs_of,
    query_parameter,
    replaced,
    window_parameter,
    without,
)
from tasker.web.rows import row_of
from tasker.web.times import iso

_OWN = (
    window_parameter("since", "Only tasks submitted in this time up to now."),
    query_parameter("q", "An id opens its task; `tag:x` is a tag.", 500),
)
_FILTERS = tuple(structs.fields(TaskFilter))
_NAMES = {
    "since": "submitted",
    "created_after": "submitted after",
    "created_before": "submitted before",
    "q": "text",
}
_PLACE = ("cursor", "limit")


class Chip(NamedTuple):
    """A filter that is on. without: the address of the page without it."""

    name: str
    value: str
    without: str


class TaskPages:
    """Show the tasks."""

    def __init__(self, frame: Frame, service: Service) -> None:
        self._frame = frame
        self._service = service

    @show("/tasks", parameters=(*LIST_PARAMETERS, *_OWN), nav="Tasks", icon="tasks")
    async def tasks(self, visit: Visit) -> Reply:
        """List tasks, newest first."""
        where, caller = self._where(visit), visit.caller
        limit, cursor = visit.query.get("limit", DEFAULT_LIMIT), visit.query.get("cursor")
        page = await self._service.tasks.find_many(caller, where, limit=limit, cursor=cursor)
        tasks = await self._service.waiting.with_reasons(caller, page.items)
        pairs = pairs_of(visit.call.query_string)
        return self._frame.render(
            visit,
            "tasks.html",
            page="tasks",
            rows=[row_of(task, visit.now) for task in tasks],
            tabs=_tabs(pairs, where),
            chips=_chips(pairs),
            pairs=without(pairs, *_PLACE),
            windows=WINDOW_NAMES,
            api_call=_api_call(where, limit, cursor),
            older=None if page.next_cursor is None else replaced(pairs, "cursor", page.next_cursor),
            newest=address(without(pairs, "cursor")) if cursor else None,
            searched_back_to=page.searched_back_to,
        )

    def _where(self, visit: Visit) -> TaskFilter:
        """Return the filter that the query asks for."""
        return make_filter(visit.query, visit)


def make_filter(query: dict[str, Any], visit: Visit) -> TaskFilter:
    """Return the filter of a page's query. `since` counts from the time of the request."""
    given = {field.name: query[field.name] for field in _FILTERS if field.name in query}
    if "since" in query:
        given["created_after"] = visit.now - SINCE[query["since"]]
    return TaskFilter(**given)


def _tabs(pairs: list[tuple[str, str]], where: TaskFilter) -> list[tuple[str | None, str, bool]]:
    """Return the tabs: a status, None for all, its address, and whether it is the page's."""
    chosen = where.status[0] if len(where.status) == 1 else None
    every = (None, replaced(pairs, "status", None, *_PLACE), not where.status)
    return [
        every,
        *((one.value, replaced(pairs, "status", one.value, *_PLACE), one is chosen) for one in Status),
    ]


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
    pairs: list[tuple[str, str]] = []
    for field in _FILTERS:
        value = getattr(where, field.name)
        if field.name == "status":
            pairs += [("status", status.value) for status in value]
        elif value is not None:
            pairs.append((field.name, iso(value) if hasattr(value, "isoformat") else str(value)))
    pairs.append(("limit", str(limit)))
    if cursor is not None:
        pairs.append(("cursor", cursor))
    return "/task?" + urlencode(pairs, safe=":,")
