"""The record of who did what: written around every operation that controls something, read by admins."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, structs

from tasker.api.calls import Call
from tasker.api.operation import Answer, Operation
from tasker.api.pages import DEFAULT_LIMIT, next_link, page_parameters
from tasker.api.replies import Head, Reply, Stream, json_reply
from tasker.errors import RequestError
from tasker.model.audit import AuditAction, AuditEntry
from tasker.requests.submissions import RunAt
from tasker.service.audit import KEEP_AUDIT_FOR, Audit

_INTERNAL = 500
AUDIT_PARAMETERS = page_parameters("entries")


class AuditView(Struct, frozen=True, kw_only=True):
    """Who did what to what, and the HTTP status it ended with: null if it is under way, or the process ended first.

    `key_id` is null and `owner` empty where it was done without a key of the store; `address` is the connection's.
    """

    sequence: int
    time: Annotated[RunAt, Meta(description="When it was begun.")]
    key_id: str | None
    owner: str
    action: str
    target: str
    address: str
    outcome: int | None


class AuditViewPage(Struct, frozen=True, kw_only=True):
    """A slice of the record, newest first; `next_cursor` is opaque, null at the end."""

    items: list[AuditView]
    next_cursor: str | None


class Recorder:
    """Does what is asked, and has it on record: before it is done, and how it ended."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def do(self, operation: Operation, call: Call) -> Reply | Stream:
        """Answer `call`. Raises Unavailable, and does nothing, where that cannot be put on record."""
        sequence = await self._audit.begin(_deed(operation, call.head, "/".join(call.path.values())))
        outcome, made = _INTERNAL, ""
        try:
            reply = await operation.handler(call)
            outcome = 200 if isinstance(reply, Stream) else reply.status
            made = _made(reply)
        except RequestError as error:
            outcome = error.kind.status or _INTERNAL
            raise
        finally:
            await self._audit.end(sequence, outcome, made or call.head.deed)
        return reply

    async def refused(self, operation: Operation, head: Head, path: dict[str, str], outcome: int) -> None:
        """Put on record that somebody was not let."""
        sequence = await self._audit.begin(_deed(operation, head, "/".join(path.values())))
        await self._audit.end(sequence, outcome)


def is_audited(operation: Operation) -> bool:
    """Tell whether an operation goes on record: all that changes anything, but for the submission of tasks."""
    return operation.method != "GET" and (operation.scope != "submit" or operation.tag != "tasks")


def _made(reply: Reply | Stream) -> str:
    """Return the id of what was made: the last part of where it is."""
    where = next((value for name, value in reply.headers if name == b"location"), b"")
    return where.rpartition(b"/")[2].decode()


def _deed(operation: Operation, head: Head, target: str) -> AuditAction:
    caller = head.caller
    return AuditAction(
        key_id=caller.key_id, owner=caller.owner, action=operation.name, target=target[:200], address=head.address
    )


class AuditOperations:
    """Shows the record."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def find_many(self, call: Call) -> Reply:
        query = call.query()
        limit = query.get("limit", DEFAULT_LIMIT)
        page = await self._audit.find_many(limit=limit, cursor=query.get("cursor"))
        view = AuditViewPage(items=[_view(entry) for entry in page.items], next_cursor=page.next_cursor)
        return json_reply(view, 200, *next_link(call, "/audit", page.next_cursor))


def _view(entry: AuditEntry) -> AuditView:
    return AuditView(sequence=entry.sequence, time=entry.time, outcome=entry.outcome, **structs.asdict(entry.deed))


def audit_operations(audit: AuditOperations) -> list[Operation]:
    """Return what can be asked of the record."""
    return [
        Operation(
            "GET", "/audit", "list_audit", "keys", "Read who did what, newest first", audit.find_many, scope="admin",
            answers={
                200: Answer(
                    f"A page of the record of what was controlled in the last {KEEP_AUDIT_FOR.days} days.",
                    AuditViewPage, ("Link",),
                )
            },
            problems=("invalid-request", "unknown-field", "unavailable"), parameters=AUDIT_PARAMETERS,
        ),
    ]  # fmt: skip
