"""Refusals: the errors that engines raise or put into receipts, worded alike in both engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from tasker.errors import Conflict, Fault, Invalid, NotFound, RequestError
from tasker.model import Draft, Receipt
from tasker.model.archive import StoredTask
from tasker.model.bulk import SkipReason
from tasker.model.control import Action


def missing(kind: str, id_: UUID) -> NotFound:
    """NotFound: no such thing of this kind."""
    return NotFound(f"there is no {kind} {id_}")


def too_many(things: str, most: int) -> Conflict:
    """Conflict: there are already `most`. things: the plural noun, with the setting of the limit."""
    return Conflict(f"there are {most:,} {things} already: the limit is reached", name="limit-reached")


def no_delivery(delivery_id: UUID) -> NotFound:
    """NotFound: the webhook has no such delivery."""
    return NotFound(f"this webhook has no delivery {delivery_id}")


def name_taken(name: str) -> Conflict:
    """Conflict: another resource of this kind has the name."""
    return Conflict(f"the name {name!r} is taken", name="name-taken")


def why_not(receipt: Receipt) -> str | None:
    """Return why the task of a tick was not stored; None if it was."""
    if receipt.refusal is not None:
        return receipt.refusal.detail
    return f"task {receipt.task_id} answers for it" if receipt.outcome == "joined" else None


def joined(draft: Draft, task_id: UUID) -> Receipt:
    """Return the receipt of a draft for which another task answers."""
    if draft.join_refusal is not None:
        return Receipt(task_id, "refused", refusal=draft.join_refusal)
    return Receipt(task_id, "joined")


def key_in_use(task_id: UUID) -> Conflict:
    """Conflict: the task cannot run again, for an open task holds its unique_key."""
    return Conflict(f"task {task_id} is open and has the unique_key of this one", name="not-unique")


def not_unique(unique_key: str, task_id: UUID) -> Conflict:
    """Conflict: an open task holds this unique_key."""
    return Conflict(f"task {task_id} is open and has the unique_key {unique_key!r}", name="not-unique")


_NEEDED: dict[Action, str] = {
    "cancel": "only a pending or running task can be cancelled",
    "retry": "only a failed or cancelled task can be retried",
    "delete": "cancel it first, then delete it",
}


class WrongStatus(Conflict):
    """The status of the task does not allow the action."""


def cannot(action: Action, status: str) -> WrongStatus:
    """Conflict: the task has this status, with which the action is not possible."""
    return WrongStatus(f"the task is {status}: {_NEEDED[action]}")


def skip_reason(error: RequestError) -> SkipReason:
    """Return why an action on many tasks skips the one that raised this Conflict or NotFound."""
    if isinstance(error, NotFound):
        return "gone"
    if isinstance(error, WrongStatus):
        return "status"
    return "not_unique" if error.kind.name == "not-unique" else "dependency"


def child_of_open() -> Conflict:
    """Conflict: the task is the child of a task that may still ask for its result."""
    return Conflict("it is the child of an open task: delete that one, once it has ended")


def not_settled() -> Conflict:
    """Conflict: dependants of the task still wait for it, though it has ended."""
    return Conflict("tasks that depend on it are not settled yet: delete it a little later")


def dependency_not_completed(task_id: UUID) -> Conflict:
    """Conflict: the task cannot run again, for this dependency has failed or is gone."""
    return Conflict(f"task {task_id}, on which it depends, has not completed: retry that one first")


def no_dependency(depends_on: Sequence[UUID], missing: Sequence[int]) -> Invalid:
    """Invalid: the tasks at the indexes `missing` of depends_on do not exist."""
    faults = [Fault(f"/depends_on/{place}", f"there is no task {depends_on[place]}") for place in missing]
    return Invalid("the task depends on tasks that do not exist", faults=faults)


def no_group() -> Invalid:
    """Invalid: the group that a task depends on does not exist."""
    fault = Fault("/depends_on/group", "there is no such group")
    return Invalid("the task depends on a group that does not exist", faults=[fault])


def group_not_completed(name: str) -> Conflict:
    """Conflict: the task cannot run again, for tasks of this group have failed or were cancelled."""
    return Conflict(f"tasks of the group {name!r}, on which it depends, have not completed: retry those first")


def id_taken(task_id: UUID) -> Conflict:
    """Conflict: the chosen id belongs to a task that another request submitted."""
    return Conflict(f"task {task_id} exists already: another request has submitted it")


def check_moved(given: Sequence[StoredTask], found: Sequence[StoredTask | None]) -> None:
    """Raise Conflict if the store has a task of an archive with content that is no later state of the archived one."""
    for task, there in zip(given, found, strict=True):
        if there is not None and not task.has_become(there):
            raise Conflict(
                f"task {task.task_id} is stored with other content than in the archive, and stays as it is; delete the"
                " one that you do not want, or import into another database"
            )


def check_keys(new: Sequence[StoredTask], owners: Mapping[str, UUID]) -> None:
    """Raise Conflict if another task in the store has an idempotency key of an archive's task."""
    for task in new:
        for one in task.keys:
            if one.key in owners:
                raise Conflict(
                    f"task {task.task_id} has the idempotency key {one.key!r}, which task {owners[one.key]} has here:"
                    " delete the one that you do not want"
                )


def taken() -> Conflict:
    """Conflict: a task in the store has a unique value of an archive's task."""
    return Conflict(
        "another task here has its unique_key, an idempotency key or another unique value: delete the one that you do"
        " not want, or let the open one end first"
    )


def check_stored(given: Sequence[StoredTask], found: Sequence[StoredTask | None]) -> None:
    """Raise RuntimeError, which rolls the transaction back, if a task was not stored as it was given."""
    for task, there in zip(given, found, strict=True):
        if there != task:
            raise RuntimeError(f"task {task.task_id} would not be stored as it is in the archive: {there}")
