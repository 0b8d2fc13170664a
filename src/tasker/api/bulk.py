"""POST /bulk: cancel, retry or delete all tasks of a filter."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, structs

from tasker.api.calls import Call
from tasker.api.forms import read_form
from tasker.api.operation import ok, post
from tasker.api.replies import Reply, encode, json_reply
from tasker.errors import Fault, Invalid
from tasker.model import Status, TaskFilter
from tasker.model.control import ACTS_ON, Action
from tasker.service import Acted, Service
from tasker.wire.batches import BulkReply
from tasker.wire.shapes import Moment

Text = Annotated[str, Meta(min_length=1, max_length=100)]


class BulkFilter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tasks, as in the list of tasks; every given field must hold."""

    status: Annotated[list[Status], Meta(min_length=1, max_length=5)] | Status | None = None
    type: Text | None = None
    queue: Text | None = None
    tag: Text | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    owner: Annotated[Text, Meta(description="Without an admin's key there are no tasks but one's own.")] | None = None


class BulkBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be done to which tasks; null is the same as left out."""

    action: Annotated[
        Action,
        Meta(description="`cancel` acts on open tasks, `retry` on failed and cancelled ones, `delete` on ended ones."),
    ]
    filter: BulkFilter = BulkFilter()
    all: Annotated[bool, Meta(description="Must be true, instead of a filter, to mean every task.")] = False
    dry_run: Annotated[bool, Meta(description="Count them, and change nothing.")] = False
    at_most: (
        Annotated[int, Meta(ge=0, description="Refuse, and change nothing, if there are more: the count of a dry run.")]
        | None
    ) = None
    cursor: (
        Annotated[str, Meta(min_length=1, max_length=100, description="`next_cursor` of the call before, to go on.")]
        | None
    ) = None


class BulkOperations:
    """Act on many tasks at once."""

    tag = "tasks"

    def __init__(self, service: Service) -> None:
        self._bulk = service.bulk

    @post(
        "/bulk",
        "Cancel, retry or delete all tasks of a filter",
        ok("How many tasks matched, and how many were changed.", BulkReply),
        scope="control",
        problems=("conflict",),
        body=BulkBody,
        example={"action": "cancel", "filter": {"queue": "default", "tag": "mine"}, "dry_run": True},
    )
    async def act_on_tasks(self, call: Call) -> Reply:
        call.query()
        body = read_form(await call.body(), BulkBody)
        _check(body)
        where = _filter(body.filter)
        call.head.audit_target = _describe(body)
        if body.dry_run:
            count = await call.unless_gone(self._bulk.count(call.caller, body.action, where))
            return json_reply(_reply(count, Acted()))
        if body.cursor is not None:
            acted = await call.unless_gone(self._bulk.go_on(call.caller, body.action, where, body.cursor))
            return json_reply(_reply(None, acted))
        count, acted = await call.unless_gone(self._bulk.begin(call.caller, body.action, where, body.at_most))
        return json_reply(_reply(count, acted))


def _describe(body: BulkBody) -> str:
    """Return the action and its filter, for the audit log."""
    given = {name: value for name, value in structs.asdict(body.filter).items() if value is not None}
    return f"{body.action}{' (dry run)' if body.dry_run else ''} {encode(given).decode()}"


def _check(body: BulkBody) -> None:
    """Raise Invalid with every pair of members that do not fit together."""
    faults: list[Fault] = []
    is_empty = body.filter == BulkFilter()
    if is_empty and not body.all:
        faults.append(Fault("/filter", 'is empty: give "all": true if every task is meant'))
    if body.all and not is_empty:
        faults.append(Fault("/all", "give a filter, or all, not both"))
    statuses = _statuses(body.filter)
    if statuses and not set(statuses) & set(ACTS_ON[body.action]):
        names = ", ".join(ACTS_ON[body.action])
        faults.append(Fault("/filter/status", f"{body.action} acts on tasks that are {names}"))
    if body.cursor is not None and (body.dry_run or body.at_most is not None):
        faults.append(Fault("/cursor", "goes with neither dry_run nor at_most: it goes on with what was begun"))
    if faults:
        raise Invalid("; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults), faults=faults)


def _statuses(given: BulkFilter) -> tuple[Status, ...]:
    if given.status is None:
        return ()
    return (given.status,) if isinstance(given.status, Status) else tuple(dict.fromkeys(given.status))


def _filter(given: BulkFilter) -> TaskFilter:
    return TaskFilter(**structs.asdict(given) | {"status": _statuses(given)})


def _reply(count: int | None, acted: Acted) -> BulkReply:
    return BulkReply(matched=count, done=acted.done, skipped=acted.skipped, next_cursor=acted.next_cursor)
