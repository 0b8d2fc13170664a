"""The operations on groups of tasks."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from tasker.api.bulk import act_reply
from tasker.api.calls import Call, preferred_wait, text_parameter, wait_parameter
from tasker.api.operation import Answer, get, ok, post
from tasker.api.pages import list_query, page_parameters, show_page
from tasker.api.replies import Reply, json_reply
from tasker.errors import NotFound
from tasker.model.groups import Group
from tasker.service import Service
from tasker.wire import groups as wire
from tasker.wire.bulk import BulkReply
from tasker.wire.shapes import show

_OWNER = text_parameter("owner", "The owner of the group, for an admin; else one's own.")


class GroupOperations:
    """Read, wait for and cancel groups of tasks."""

    tag = "tasks"

    def __init__(self, service: Service) -> None:
        self._groups = service.groups

    @get(
        "/group",
        "List groups, those with open tasks first",
        ok("A page of groups, each with its counts.", wire.GroupPage, ("Link",)),
        parameters=(
            text_parameter("owner", "Only groups of this owner; without an admin's key, only one's own."),
            *page_parameters("groups"),
        ),
    )
    async def list_groups(self, call: Call) -> Reply:
        page = await self._groups.find_many(call.caller, **list_query(call))
        return show_page(call, "/group", wire.GroupPage, page, _listed)

    @get(
        "/group/{name}",
        "Read a group: its counts, its oldest open task, its first failures",
        ok("The group.", wire.Group, ("Preference-Applied",)),
        parameters=(
            wait_parameter._replace(description="Seconds to wait until no task of it is open, at most 60."),
            _OWNER,
        ),
        request_headers=("Prefer",),
    )
    async def get_group(self, call: Call) -> Reply:
        query = call.query()
        wait, name, owner = preferred_wait(call, query), _name(call), query.get("owner")
        if wait is None:
            return _reply(await self._groups.get(call.caller, name, owner))
        group = await call.unless_gone(self._groups.wait(call.caller, name, owner, wait.time))
        reply = _reply(group)
        return reply._replace(headers=(*reply.headers, *wait.applied))

    @post(
        "/group/{name}/cancel",
        "Cancel all open tasks of a group",
        {
            200: Answer("How many tasks were open, and how many are cancelled or asked to stop.", BulkReply),
            202: Answer("How far it is; it goes on by itself, and `links.self` tells more.", BulkReply),
        },
        scope="control",
        parameters=(_OWNER,),
    )
    async def cancel_group(self, call: Call) -> Reply:
        query = call.query()
        bulk = await call.unless_gone(self._groups.cancel(call.caller, _name(call), query.get("owner")))
        return act_reply(bulk)


def _name(call: Call) -> str:
    """Return the name in the path. Raises NotFound for one that no group has."""
    name = call.path["name"]
    if "\0" in name:
        raise NotFound("there is no such group")
    return name


def _reply(group: Group) -> Reply:
    failures = tuple(wire.FailedTask(**structs.asdict(one)) for one in group.failures)
    return json_reply(show(wire.Group, group, failures=failures, **_fields(group)))


def _listed(group: Group) -> wire.GroupInList:
    return show(wire.GroupInList, group, **_fields(group))


def _fields(group: Group) -> dict[str, Any]:
    path = f"/group/{group.name}"
    links = {"self": path, "tasks": f"/task?group={group.name}"}
    if group.is_open:
        links["cancel"] = f"{path}/cancel"
    return {"tasks": wire.TaskCounts(**structs.asdict(group.tasks)), "owner": group.owner or None, "links": links}
