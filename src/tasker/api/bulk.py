"""The operations on bulk actions: cancel, retry or delete many tasks, and follow how far it is."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import structs

from tasker.api.calls import Call
from tasker.api.filters import query_of
from tasker.api.operation import Answer, get, ok, post
from tasker.api.pages import list_query, page_parameters, show_page
from tasker.api.replies import Reply, encode, json_reply
from tasker.model.bulk import BulkAction
from tasker.model.keys import Caller
from tasker.requests.bulk import BulkBody, read_bulk
from tasker.service import Selection, Service
from tasker.service.bulk import KEEP_FOR
from tasker.wire import bulk as wire
from tasker.wire.shapes import show


class BulkOperations:
    """Act on many tasks at once."""

    tag = "tasks"

    def __init__(self, service: Service) -> None:
        self._bulk = service.bulk

    @post(
        "/bulk",
        "Cancel, retry or delete all tasks of a filter, or given ones",
        {
            200: Answer("How many tasks matched, and how many were changed.", wire.BulkReply),
            202: Answer("How far it is; it goes on by itself, and `links.self` tells more.", wire.BulkReply),
        },
        scope="control",
        problems=("conflict",),
        body=BulkBody,
        example={"action": "cancel", "filter": {"queue": "default", "tag": "mine"}, "dry_run": True},
    )
    async def act_on_tasks(self, call: Call) -> Reply:
        call.query()
        body = read_bulk(await call.body())
        chosen = Selection(body.filter.as_filter(), None if body.task_ids is None else tuple(body.task_ids))
        call.head.audit_target = _describe(body)
        if body.dry_run:
            found = await call.unless_gone(self._bulk.count(call.caller, body.action, chosen, body.cursor))
            told = wire.BulkReply(
                matched=found.matched, done=0, skipped=0, next_cursor=found.next_cursor, up_to=found.up_to
            )
            return json_reply(told)
        starting = self._bulk.start(
            call.caller, body.action, chosen, body.at_most, up_to=body.up_to, cursor=body.cursor
        )
        bulk = await call.unless_gone(starting)
        return act_reply(bulk)

    @get(
        "/bulk",
        "List the bulk actions, newest first",
        ok(f"A page of the bulk actions of the last {KEEP_FOR.days} days.", wire.BulkPage, ("Link",)),
        parameters=page_parameters("bulk actions"),
    )
    async def list_bulk(self, call: Call) -> Reply:
        page = await self._bulk.find_many(call.caller, **list_query(call))
        return show_page(call, "/bulk", wire.BulkPage, page, _view)

    @get("/bulk/{bulk_id}", "Read how far a bulk action is", ok("The bulk action.", wire.Bulk))
    async def get_bulk(self, call: Call) -> Reply:
        call.query()
        return json_reply(_view(await self._bulk.get(call.caller, call.id_of("bulk_id"))))

    @post(
        "/bulk/{bulk_id}/stop",
        "Stop a bulk action; what is done stays done",
        ok("The bulk action as it is now.", wire.Bulk, receipt=wire.BulkReceipt),
        scope="control",
    )
    async def stop_bulk(self, call: Call) -> Reply:
        call.query()
        return _reply(call.caller, await self._bulk.stop(call.caller, call.id_of("bulk_id")), 200)

    @post(
        "/bulk/{bulk_id}/undo",
        "Cancel the retried tasks of a bulk action that have not started",
        {
            200: Answer("The bulk action that has cancelled them.", wire.Bulk, receipt=wire.BulkReceipt),
            202: Answer("The bulk action that cancels them.", wire.Bulk, receipt=wire.BulkReceipt),
        },
        scope="control",
        problems=("conflict",),
    )
    async def undo_bulk(self, call: Call) -> Reply:
        call.query()
        bulk = await call.unless_gone(self._bulk.undo(call.caller, call.id_of("bulk_id")))
        return _reply(call.caller, bulk, _status(bulk))


def act_reply(bulk: BulkAction) -> Reply:
    """Return the answer to a request that has made a bulk action."""
    return json_reply(show(wire.BulkReply, bulk, next_cursor=None, links=_links(bulk)), _status(bulk))


def _describe(body: BulkBody) -> str:
    """Return the action and its filter, for the audit log."""
    given: dict[str, Any] = {name: value for name, value in structs.asdict(body.filter).items() if value is not None}
    if body.task_ids is not None:
        given["task_ids"] = body.task_ids
    return f"{body.action}{' (dry run)' if body.dry_run else ''} {encode(given).decode()}"


def _status(bulk: BulkAction) -> int:
    return 202 if bulk.state == "running" else 200


def _reply(caller: Caller, bulk: BulkAction, status: int) -> Reply:
    """Return a bulk action as the caller may see it: another key may have made it."""
    if caller.may("read"):
        return json_reply(_view(bulk), status)
    return json_reply(show(wire.BulkReceipt, bulk, links=_links(bulk)), status)


def _view(bulk: BulkAction) -> wire.Bulk:
    return show(wire.Bulk, bulk, filter=query_of(msgspec.json.decode(bulk.selects)), links=_links(bulk))


def _links(bulk: BulkAction) -> dict[str, str]:
    path = f"/bulk/{bulk.bulk_id}"
    links = {"self": path}
    if bulk.action != "delete":
        links["tasks"] = f"/task?bulk={bulk.bulk_id}"
    if bulk.state == "running":
        links["stop"] = f"{path}/stop"
    if bulk.action == "retry":
        links["undo"] = f"{path}/undo"
    return links
