"""POST /bulk: cancel, retry or delete all tasks of a filter."""

from __future__ import annotations

from msgspec import structs

from tasker.api.calls import Call
from tasker.api.operation import ok, post
from tasker.api.replies import Reply, encode, json_reply
from tasker.requests.bulk import BulkBody, read_bulk
from tasker.service import Acted, Service
from tasker.wire.batches import BulkReply


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
        body = read_bulk(await call.body())
        where = body.filter.as_filter()
        call.head.audit_target = _describe(body)
        if body.dry_run:
            found = await call.unless_gone(self._bulk.count(call.caller, body.action, where, body.cursor))
            return json_reply(_reply(found.matched, Acted(next_cursor=found.next_cursor)))
        if body.cursor is not None:
            acted = await call.unless_gone(self._bulk.go_on(call.caller, body.action, where, body.cursor))
            return json_reply(_reply(None, acted))
        count, acted = await call.unless_gone(self._bulk.begin(call.caller, body.action, where, body.at_most))
        return json_reply(_reply(count, acted))


def _describe(body: BulkBody) -> str:
    """Return the action and its filter, for the audit log."""
    given = {name: value for name, value in structs.asdict(body.filter).items() if value is not None}
    return f"{body.action}{' (dry run)' if body.dry_run else ''} {encode(given).decode()}"


def _reply(count: int | None, acted: Acted) -> BulkReply:
    return BulkReply(matched=count, done=acted.done, skipped=acted.skipped, next_cursor=acted.next_cursor)
