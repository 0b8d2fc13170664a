"""What a key without the scope `read` is told of a task: its id, its status, and what this very request has sent.

Whoever may submit or control a task may know nothing more of it, whoever submitted it and whatever came of it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from operator import attrgetter
from typing import Annotated, Any, Literal, cast
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from tasker.api.replies import encode, encode_task, links_of, path_of, sees_tracebacks
from tasker.errors import Fault, Invalid
from tasker.model import Attempt, Status, Task
from tasker.model.keys import Caller
from tasker.model.webhooks import WebhookRef
from tasker.requests.submissions import RunAt

Text = Annotated[Any, Meta(description="As it was sent.")]
_NOT_SENT = frozenset({"task_id", "status", "reason", "links"})
_ALWAYS = frozenset({"owner", "replay_of", "schedule_id", "traceparent"})
"""What the head of a request and its path say."""


class TaskReceipt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a key without the scope `read` is told in the place of a Task: what it sent itself, the id and the status.

    Every field means what it does in a Task. `reason` is there as `restart` alone: the service stops.
    """

    task_id: UUID
    status: Status
    reason: Literal["restart"] | UnsetType = UNSET
    type: str | UnsetType = UNSET
    params: Text | UnsetType = UNSET
    queue: str | UnsetType = UNSET
    priority: int | UnsetType = UNSET
    run_at: RunAt | UnsetType | None = UNSET
    tags: list[str] | UnsetType = UNSET
    metadata: Text | UnsetType = UNSET
    owner: str | UnsetType | None = UNSET
    deadline: RunAt | UnsetType | None = UNSET
    unique_key: str | UnsetType | None = UNSET
    concurrency_key: str | UnsetType | None = UNSET
    depends_on: tuple[UUID, ...] | UnsetType = UNSET
    replay_of: UUID | UnsetType | None = UNSET
    schedule_id: UUID | UnsetType | None = UNSET
    webhook: WebhookRef | UnsetType | None = UNSET
    traceparent: str | UnsetType | None = UNSET
    links: dict[str, str]


_SENT = tuple(name for name in TaskReceipt.__struct_fields__ if name not in _NOT_SENT)
_values = attrgetter(*_SENT)


def show_task(
    caller: Caller,
    task: Task,
    *,
    sent: Task | None = None,
    given: Collection[str] | None = None,
    attempts: list[Attempt] | None = None,
    path: bytes | None = None,
) -> bytes:
    """Return a task as the caller is told of it: every reply about one is made here.

    sent: the task that the caller's own request would make. given: which of its fields the request itself has said,
    where the rest is another task's or a schedule's; None for all. attempts, path: as for `encode_task`.
    """
    if caller.may("read"):
        return encode_task(task, tracebacks=sees_tracebacks(caller), attempts=attempts, path=path)
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
    """Return what the object in a body sets; nothing where it has none."""
    try:
        value = msgspec.json.decode(body, type=dict[str, Any]) if body.strip() else {}
    except msgspec.DecodeError:
        return frozenset()
    return frozenset(name for name, member in value.items() if member is not None)


def as_told(caller: Caller, fault: Invalid, given: Collection[str]) -> Invalid:
    """Return what is wrong with a submission that is made of another: of that the caller may not read only that it is.

    given: the members that the caller has sent, in which faults are the caller's own.
    """
    if caller.may("read"):
        return fault
    own = [_bare(one) for one in fault.faults if one.pointer.partition("/")[2].partition("/")[0] in given]
    rest = Fault("", "what it is made of does not fit its task type any more: a key with the scope read is told why")
    faults = own if own and len(own) == len(fault.faults) else [*own, rest]
    detail = "; ".join(f"{one.pointer}: {one.detail}" if one.pointer else one.detail for one in faults[:3])
    return Invalid(detail, faults=faults)


def _bare(fault: Fault) -> Fault:
    """Return a fault without the number that the caller's own is held against: it may be the other task's."""
    return Fault(fault.pointer, re.sub(r" \([0-9.,e+]+ s\)$", "", fault.detail))
