"""The operation on failure groups."""

from __future__ import annotations

from dataclasses import dataclass

from tasker.api.calls import Call, Parameter, one_of, text_parameter, texts_parameter
from tasker.api.operation import get, ok
from tasker.api.pages import list_query, page_parameters, page_reply
from tasker.api.replies import Reply
from tasker.model.failures import WINDOWS, FailureGroup
from tasker.service.failures import DEFAULT_WINDOW, FailureService
from tasker.wire import failures as wire
from tasker.wire.shapes import show

FAILURE_PARAMETERS = (
    Parameter(
        "window",
        "How far back failures count, to the full hour before.",
        {"type": "string", "enum": list(WINDOWS), "default": DEFAULT_WINDOW},
        one_of(*WINDOWS),
    ),
    texts_parameter("type", "Only failures of these types; repeated or separated by commas."),
    texts_parameter("queue", "Only failures in these queues; repeated or separated by commas."),
    text_parameter("error", "Only the group with this id."),
    text_parameter("owner", "Only failures of this owner; without an admin's key, only one's own."),
    *page_parameters("groups"),
)
_FIELDS = {"type": "types", "queue": "queues", "error": "failure_id"}


@dataclass
class FailureOperations:
    """Show what fails."""

    tag = "tasks"

    _failures: FailureService

    @get(
        "/failure",
        "List failure groups, those that failed last first",
        ok("A page of groups, each with how often it failed.", wire.FailurePage, ("Link",)),
        parameters=FAILURE_PARAMETERS,
    )
    async def list_failures(self, call: Call) -> Reply:
        query = {_FIELDS.get(name, name): value for name, value in list_query(call).items()}
        page = await self._failures.find_many(call.caller, **query)
        items = [_view(group) for group in page.items]
        shown = wire.FailurePage(items=items, next_cursor=page.next_cursor, counted_from=page.counted_from)
        return page_reply(call, "/failure", shown)


def _view(group: FailureGroup) -> wire.FailureGroup:
    sample = None if group.sample is None else show(wire.FailureSample, group.sample)
    return show(wire.FailureGroup, group, exception=group.exception or None, owner=group.owner or None, sample=sample)
