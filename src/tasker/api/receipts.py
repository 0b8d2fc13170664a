"""Receipts: what a key without the scope `read` is shown of a task: its id, its status, and what the request has sent.

A key that may submit or control a task must learn nothing else of it, such as who submitted it or its result.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from operator import attrgetter
from typing import Any, cast

import msgspec
from msgspec import Raw

from tasker.api.replies import encode, encode_task, links_of, path_of, sees_tracebacks
from tasker.errors import Fault, Invalid
from tasker.model import Attempt, Task
from tasker.model.keys import Caller
from tasker.wire.tasks import TaskReceipt

_NOT_SENT = frozenset({"task_id", "status", "reason", "links"})
_ALWAYS = frozenset({"owner", "replay_of", "schedule_id", "traceparent"})
"""Fields that the headers, the key or the path of a request set: always the caller's own."""
_SENT = tuple(name for name in TaskReceipt.__struct_fields__ if name not in _NOT_SENT)
_values = attrgetter(*_SENT)


def show_task(
    caller: Caller,
    task: Task,
    *,
    sent: Task | None = None,
    given: Collection[str] | None = None,
    attempts: list[Attempt] | None = None,
    parts: bytes = b"",
    path: bytes | None = None,
) -> bytes:
    """Return a task as the caller may see it; every reply about a task is made here.

    sent: the task that the caller's own request would make. given: the fields of it that the request itself has set, if
    the rest comes from another task or a schedule; None for all. attempts, parts, path: as for `encode_task`.
    """
    if caller.may("read"):
        return encode_task(task, tracebacks=sees_tracebacks(caller), attempts=attempts, parts=parts, path=path)
    return encode(_receipt(task, sent, given, path or path_of(task)))


def _receipt(task: Task, sent: Task | None, given: Collection[str] | None, path: bytes) -> TaskReceipt:
    shown: dict[str, Any] = {}
    if sent is not None:
        shown = {name: value for name, value in zip(_SENT, _values(sent), strict=True) if value or value == 0}
    if given is not None:
        shown = {name: value for name, value in shown.items() if name in given or name in _ALWAYS}
    if task.reason == "restart":
        shown["reason"] = task.reason
    links = cast(Any, Raw(links_of(task, path)))
    return TaskReceipt(task_id=task.task_id, status=task.status, links=links, **shown)


def members(body: bytes) -> frozenset[str]:
    """Return the names of the members that the object in a body sets; none if it is not an object."""
    try:
        value = msgspec.json.decode(body, type=dict[str, Any]) if body.strip() else {}
    except msgspec.DecodeError:
        return frozenset()
    return frozenset(name for name, member in value.items() if member is not None)


def as_told(caller: Caller, fault: Invalid, given: Collection[str]) -> Invalid:
    """Return the faults of a submission derived from another task or schedule, without what the caller may not read.

    given: the members that the caller has sent; only faults in them are shown in full.
    """
    if caller.may("read"):
        return fault
    own = [_bare(one) for one in fault.faults if one.pointer.partition("/")[2].partition("/")[0] in given]
    rest = Fault("", "the original no longer fits its task type; a key with the scope read may see why")
    faults = own if own and len(own) == len(fault.faults) else [*own, rest]
    detail = "; ".join(f"{one.pointer}: {one.detail}" if one.pointer else one.detail for one in faults[:3])
    return Invalid(detail, faults=faults)


def _bare(fault: Fault) -> Fault:
    """Return a fault without the number in it, which the caller's value was compared to: it may be the other task's."""
    return Fault(fault.pointer, re.sub(r" \([0-9.,e+]+ s\)$", "", fault.detail))
