"""The audit log: written around every operation that controls something, read by admins."""

from __future__ import annotations

from msgspec import structs

from tasker.api.calls import Call
from tasker.api.operation import Operation, get, ok
from tasker.api.pages import list_query, page_parameters, show_page
from tasker.api.replies import Head, Reply, Stream
from tasker.errors import RequestError
from tasker.model.audit import AuditAction, AuditEntry
from tasker.service.audit import KEEP_AUDIT_FOR, Audit
from tasker.wire import audit as wire
from tasker.wire.shapes import show

_INTERNAL = 500
_SEE_OTHER = 303


class Recorder:
    """Handle audited operations: write an entry before the handler runs, and its outcome after it."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def do(self, operation: Operation, call: Call) -> Reply | Stream:
        """Answer `call`. Raises Unavailable, without calling the handler, if the entry cannot be written."""
        sequence = await self._audit.begin(_action(operation, call.head, "/".join(call.path.values())))
        outcome, made = _INTERNAL, ""
        try:
            reply = await operation.handler(call)
            outcome = 200 if isinstance(reply, Stream) else reply.status
            made = _made(reply)
        except RequestError as error:
            outcome = error.kind.status or _INTERNAL
            raise
        finally:
            await self._audit.end(sequence, outcome, call.head.audit_target or made)
        return reply

    async def refused(self, operation: Operation, head: Head, path: dict[str, str], outcome: int) -> None:
        """Write an entry for a refused operation."""
        sequence = await self._audit.begin(_action(operation, head, "/".join(path.values())))
        await self._audit.end(sequence, outcome)


def is_audited(operation: Operation) -> bool:
    """Tell whether an operation is audited: all that change something, except submissions of tasks."""
    is_submission = operation.scope == "submit" and operation.tag == "tasks"
    return operation.method != "GET" and operation.is_audited and not is_submission


def _made(reply: Reply | Stream) -> str:
    """Return the id of what was created: the last part of its Location; "" for a way to another page."""
    if isinstance(reply, Reply) and reply.status == _SEE_OTHER:
        return ""
    where = next((value for name, value in reply.headers if name == b"location"), b"")
    return where.rpartition(b"/")[2].decode()


def _action(operation: Operation, head: Head, target: str) -> AuditAction:
    caller = head.caller
    return AuditAction(
        key_id=caller.key_id, owner=caller.owner, action=operation.name, target=target[:200], address=head.address
    )


class AuditOperations:
    """Show the audit log."""

    tag = "keys"

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    @get(
        "/audit",
        "List who did what, newest first",
        ok(f"A page of the audit log of the last {KEEP_AUDIT_FOR.days} days.", wire.AuditPage, ("Link",)),
        scope="admin",
        parameters=page_parameters("entries"),
    )
    async def list_audit(self, call: Call) -> Reply:
        page = await self._audit.find_many(**list_query(call))
        return show_page(call, "/audit", wire.AuditPage, page, _view)


def _view(entry: AuditEntry) -> wire.AuditEntry:
    return show(wire.AuditEntry, entry, **structs.asdict(entry.deed))
