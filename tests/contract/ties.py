"""The model of ties between tasks: unique keys, dependencies, deadlines. It works on the twins of all tasks."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from tests.contract import kin
from tests.contract.twin import NEVER, Twin

from tasker.model import Draft, Status

Twins = dict[UUID, Twin]


def holder(twins: Twins, unique_key: str | None) -> Twin | None:
    """Return the one task that has the key now."""
    found = [
        twin for twin in twins.values()
        if unique_key is not None and twin.draft.unique_key == unique_key and not twin.status.is_terminal
        and not twin.cancel_requested
    ]  # fmt: skip
    assert len(found) <= 1
    return found[0] if found else None


def submit(twins: Twins, draft: Draft, order: int, now: datetime) -> tuple[UUID, str]:
    """Return the receipt that a draft must get, and update the twins."""
    other = holder(twins, draft.unique_key)
    if other is not None and draft.on_conflict != "replace":
        return other.draft.task_id, "joined" if draft.on_conflict == "return" else "refused"
    if any(task_id not in twins or twins[task_id].is_over(now) for task_id in draft.depends_on):
        return draft.task_id, "refused"
    before = [twins[task_id].status for task_id in draft.depends_on]
    waits = {task_id for task_id in draft.depends_on if not twins[task_id].status.is_terminal}
    if other is not None:
        cancel(twins, other, now)
    twin = twins[draft.task_id] = Twin(draft, order)
    if Status.FAILED in before or Status.CANCELLED in before:
        twin.close(Status.FAILED, now)
        twin.is_orphan = True
    else:
        wait_for(twin, waits)
        for task_id in waits:  # the one that it replaces may be among them
            settle(twins, twins[task_id], now)
    return draft.task_id, "stored"


def wait_for(twin: Twin, others: set[UUID]) -> None:
    twin.waits = set(others)
    if others:
        twin.reason, twin.due_at = "dependencies", NEVER


def cancel(twins: Twins, twin: Twin, now: datetime) -> None:
    if twin.status is Status.RUNNING:
        twin.cancel_requested = True
        return
    twin.close(Status.CANCELLED, now)
    twin.waits = set()
    settle(twins, twin, now)


def settle(twins: Twins, ended: Twin, now: datetime) -> None:
    """Release the dependants of an ended task, or fail them and in turn their dependants; settle it for its family."""
    if not ended.status.is_terminal:
        return
    kin.note_end(twins, ended, now)
    settle_children(twins, ended, now)
    for twin in list(twins.values()):
        if ended.draft.task_id not in twin.waits:
            continue
        twin.waits.discard(ended.draft.task_id)
        if ended.status is not Status.COMPLETED:
            twin.close(Status.FAILED, now)
            twin.waits, twin.is_orphan = set(), True
            settle(twins, twin, now)
        elif not twin.waits:
            twin.due_at = max(now, twin.draft.run_at or now)
            twin.reason = "scheduled" if twin.due_at > now else "queued"


def settle_children(twins: Twins, parent: Twin, now: datetime) -> None:
    """Cancel the open children of a parent that did not succeed; the ended ones are kept no longer than it."""
    is_bad = parent.status in (Status.FAILED, Status.CANCELLED)
    for child in kin.children_of(twins, parent):
        if child.status.is_terminal:
            kin.keep_as_long(child, parent, now)
        elif is_bad and not child.step.is_detached and not child.cancel_requested:
            cancel(twins, child, now)


def delete(twins: Twins, parent: Twin, now: datetime) -> None:
    """A deleted parent takes its children along: the open ones are cancelled, and gone when they have ended."""
    for child in kin.children_of(twins, parent):
        child.parent = None
        if not child.status.is_terminal and child.step.is_detached:
            continue
        child.is_gone_at_end = True
        if child.status.is_terminal:
            child.is_gone = True
        else:
            cancel(twins, child, now)


def pass_deadlines(twins: Twins, now: datetime) -> None:
    """Fail pending tasks whose deadline has passed."""
    for twin in list(twins.values()):
        late = twin.draft.deadline is not None and twin.draft.deadline <= now
        if late and twin.status is Status.PENDING:
            twin.close(Status.FAILED, now)
            twin.waits = set()
            settle(twins, twin, now)


def may_retry(twins: Twins, twin: Twin, now: datetime) -> bool:
    """Return whether other tasks allow this one to run again."""
    parents = [
        twins[task_id].status
        for task_id in twin.draft.depends_on
        if task_id in twins and not twins[task_id].is_over(now)
    ]
    is_free = holder(twins, twin.draft.unique_key) is None
    gone = [task_id for task_id in twin.draft.depends_on if task_id not in twins or twins[task_id].is_over(now)]
    if gone and (twin.is_orphan or not twin.attempt):
        return False
    return is_free and Status.FAILED not in parents and Status.CANCELLED not in parents


def retry(twins: Twins, twin: Twin, now: datetime) -> None:
    status = twin.status
    twin.retry(now)
    kin.reopen(twins, twin, status)
    twin.is_orphan = False
    wait_for(twin, {other for other in twin.draft.depends_on if other in twins and not twins[other].status.is_terminal})
