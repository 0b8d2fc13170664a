"""POST /bulk: cancel, retry or delete all tasks of a filter."""

from __future__ import annotations

from msgspec import Struct, structs

from tasker.api.calls import Call
from tasker.api.operation import BODY_PROBLEMS, INPUT_PROBLEMS, Answer, Operation
from tasker.api.replies import Reply, encode, json_reply
from tasker.requests.bulk import BulkBody, read_bulk
from tasker.service import Acted, Service


class BulkReply(Struct, frozen=True, kw_only=True):
    """How many tasks there were (null with a cursor), to how many it was done, and how many had changed meanwhile.

    `next_cursor`: send the same again with it as `cursor`, for there is more to do; null when all is done.
    """

    matched: int | None
    done: int
    skipped: int
    next_cursor: str | None


class BulkOperations:
    """One action on many tasks."""

    def __init__(self, service: Service) -> None:
        self._bulk = service.bulk

    async def act(self, call: Call) -> Reply:
        call.query()
        body = read_bulk(await call.body())
        where = body.filter.as_filter()
        call.head.deed = _in_words(body)
        if body.dry_run:
            count = await call.unless_gone(self._bulk.count(call.caller, body.action, where))
            return json_reply(_told(count, Acted()))
        if body.cursor is not None:
            acted = await call.unless_gone(self._bulk.go_on(call.caller, body.action, where, body.cursor))
            return json_reply(_told(None, acted))
        count, acted = await call.unless_gone(self._bulk.begin(call.caller, body.action, where, body.at_most))
        return json_reply(_told(count, acted))


def _in_words(body: BulkBody) -> str:
    """Return what is asked for, for the record."""
    given = {name: value for name, value in structs.asdict(body.filter).items() if value is not None}
    return f"{body.action}{' (dry run)' if body.dry_run else ''} {encode(given).decode()}"


def _told(count: int | None, acted: Acted) -> BulkReply:
    return BulkReply(matched=count, done=acted.done, skipped=acted.skipped, next_cursor=acted.next_cursor)


def bulk_operations(bulk: BulkOperations) -> list[Operation]:
    """Return how to act on many tasks at once."""
    return [
        Operation(
            "POST", "/bulk", "act_on_tasks", "tasks", "Cancel, retry or delete all tasks of a filter", bulk.act,
            scope="control",
            answers={200: Answer("How many there were, and to how many it was done.", BulkReply)},
            problems=(*BODY_PROBLEMS, *INPUT_PROBLEMS, "cross-origin", "conflict", "unavailable"),
            body=BulkBody, example={"action": "cancel", "filter": {"queue": "default", "tag": "mine"}, "dry_run": True},
        ),
    ]  # fmt: skip
