"""The pages of groups: tasks that were submitted under one name, how far they are, and what failed."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

from markupsafe import Markup

from tasker.api.calls import text_parameter
from tasker.api.events import SSE
from tasker.api.pages import DEFAULT_LIMIT, page_parameters
from tasker.api.replies import Reply, Stream
from tasker.model.groups import Group, GroupCounts
from tasker.model.keys import Caller
from tasker.service import Service
from tasker.web import texts, times
from tasker.web.children import Part, bar_of, parts_of
from tasker.web.frame import Frame
from tasker.web.live import Live
from tasker.web.page import Visit, show
from tasker.web.queries import pairs_of, replaced

_OWNER = text_parameter("owner", "The owner of the group's tasks; without an admin's key, only oneself.")


class Row(NamedTuple):
    """A group in the list. href: its page."""

    name: str
    owner: str
    href: str
    total: int
    bar: Markup
    parts: list[Part]
    created_at: datetime
    ended_at: datetime | None


def row_of(group: Group) -> Row:
    """Return a group as a row."""
    where = {"group": group.name} | ({"owner": group.owner} if group.owner else {})
    return Row(
        name=group.name,
        owner=texts.line(group.owner, 60),
        href=address_of(group.name, group.owner),
        total=total_of(group.tasks),
        bar=bar_of(group.tasks),
        parts=parts_of(group.tasks, f"tasks?{urlencode(where)}"),
        created_at=group.created_at,
        ended_at=group.ended_at,
    )


def address_of(name: str, owner: str | None) -> str:
    """Return the address of a group's page, below the folder of pages."""
    return f"group/{name}" + (f"?{urlencode({'owner': owner})}" if owner else "")


def total_of(counts: GroupCounts) -> int:
    """Return how many tasks a group has."""
    return counts.pending + counts.running + counts.completed + counts.failed + counts.cancelled


class GroupPages:
    """Show groups."""

    def __init__(self, frame: Frame, service: Service, live: Live) -> None:
        self._frame = frame
        self._service = service
        self._live = live

    @show("/groups", parameters=(_OWNER, *page_parameters("groups")))
    async def groups(self, visit: Visit) -> Reply:
        """List groups, those with open tasks first."""
        query = visit.query
        page = await self._service.groups.find_many(
            visit.caller,
            owner=query.get("owner"),
            limit=query.get("limit", DEFAULT_LIMIT),
            cursor=query.get("cursor"),
        )
        pairs = pairs_of(visit.call.query_string)
        return self._frame.render(
            visit,
            "groups.html",
            page="tasks",
            rows=[row_of(group) for group in page.items],
            has_owners=visit.caller.may("admin"),
            older=None if page.next_cursor is None else replaced(pairs, "cursor", page.next_cursor),
        )

    @show("/group/{name}", parameters=(_OWNER,))
    async def group(self, visit: Visit) -> Reply:
        """Show a group: its counts, its first failures, and the button that cancels what is open."""
        name, owner = visit.path["name"], visit.query.get("owner")
        data = await self._read(visit.caller, name, owner)
        live = f"{visit.base}live/{address_of(name, owner)}"
        return self._frame.render(visit, "group.html", page="tasks", d=data, live=live)

    @show("/live/group/{name}", parameters=(_OWNER,), media=SSE)
    async def live_group(self, visit: Visit) -> Stream:
        """Stream a group whenever it has changed."""
        caller, name, owner = visit.caller, visit.path["name"], visit.query.get("owner")
        await self._service.groups.get(caller, name, owner)

        async def render() -> dict[str, str]:
            data = await self._read(caller, name, owner)
            return {"group": self._frame.part("group_parts.html", "group", d=data, base="../")}

        return self._live.board(visit, ("group", caller.owner, caller.scopes, name, owner), render)

    async def _read(self, caller: Caller, name: str, owner: str | None) -> dict[str, Any]:
        group = await self._service.groups.get(caller, name, owner)
        failures = [(str(one.task_id), one.type, texts.line(one.detail, 300)) for one in group.failures]
        return {
            "now": self._frame.clock.now(),
            "g": row_of(group),
            "group": group,
            "sentence": say(group, self._frame.clock.now()),
            "failures": failures,
            "may_cancel": caller.may("control") and group.is_open,
        }


def say(group: Group, now: datetime) -> str:
    """Return what a group is at, in a sentence."""
    total, left = total_of(group.tasks), group.tasks.pending + group.tasks.running
    if group.ended_at is None:
        return f"{times.number(left)} of {times.number(total)} {'task' if total == 1 else 'tasks'} to go"
    return f"{times.number(total)} {'task' if total == 1 else 'tasks'}, ended {times.ago(group.ended_at, now)}"
