"""What the engines share: JSON columns to values, and the cursors of lists."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec

from tasker.errors import Conflict, Fault, Invalid, NotFound
from tasker.model import Draft, Extra, Policy, Progress, Receipt, Task, TaskProblem
from tasker.model.archive import StoredTask

_MAX_SEQ = 2**63 - 1
"""The largest number of a row."""

encode = msgspec.json.Encoder().encode
PAGE_BYTES = 1 << 20
"""What the params and results on one page of a list may come to; one item stands on it at least, however large."""
COMMIT_BYTES = 4 << 20
"""What the drafts and results that share a commit may come to; one goes into it at least, however large.

Storing them takes the event loop, a millisecond or so for each MiB, and others have their turn between two commits.
"""
DUE_BYTES = 16 << 20
"""What the tasks of schedules that are read to be fired may come to; one is read at least, however large."""
NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""When a task is due that waits for other tasks."""
decode_problem = msgspec.json.Decoder(TaskProblem).decode
decode_progress = msgspec.json.Decoder(Progress).decode
_decode_extra = msgspec.json.Decoder(Extra).decode
decode_policy = lru_cache(maxsize=1000)(msgspec.json.Decoder(Policy).decode)  # tasks of a type share one text


def read_extra(text: bytes) -> dict[str, Any]:
    """Return the options of a task's column `extra`, by their names in a Task."""
    return _decode_extra(text).shown()


def no_webhook(webhook_id: UUID) -> NotFound:
    """Return what to say where there is no such webhook."""
    return NotFound(f"there is no webhook {webhook_id}")


def too_many(things: str, most: int) -> Conflict:
    """Return what to say to whom would have more of so called things than there may be, by their limit's setting."""
    return Conflict(f"there are {most:,} {things} already, and no more may be", name="limit-reached")


def no_delivery(delivery_id: UUID) -> NotFound:
    """Return what to say where a webhook has no such delivery."""
    return NotFound(f"this webhook has no delivery {delivery_id}")


def size_of(task: Task) -> int:
    """Return the bytes of a task's params and result: what may be large in it."""
    return len(memoryview(task.params)) + (0 if task.result is None else len(memoryview(task.result)))


def draft_size(draft: Draft) -> int:
    """Return the bytes of what may be large in a draft."""
    size = len(draft.params) + len(draft.metadata)
    if draft.idempotency is not None:
        size += len(draft.idempotency.reply)
    return size if draft.secrets is None else size + len(draft.secrets)


def to_cursor(seq: int) -> str:
    """Return the opaque cursor of the page that starts below `seq`."""
    body = struct.pack(">Q", seq)
    return base64.urlsafe_b64encode(body + zlib.crc32(body).to_bytes(4, "big")).decode()


def from_cursor(cursor: str) -> int:
    """Return the seq of a cursor. Raises Invalid for one that no page gave out."""
    try:
        data = base64.b64decode(cursor, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    seq = int.from_bytes(data[:8], "big")
    if len(data) != 12 or zlib.crc32(data[:8]).to_bytes(4, "big") != data[8:] or seq > _MAX_SEQ:
        fault = Fault("/cursor", "expected the next_cursor of an earlier page")
        raise Invalid("the cursor is not one that this service gave out", faults=[fault])
    return seq


NEWEST = (1 << 63) - 1
"""Above every seq: where the first page starts."""


def no_schedule(schedule_id: UUID) -> NotFound:
    """Return what a client is told who asks for a schedule that is not there."""
    return NotFound(f"there is no schedule {schedule_id}")


def name_taken(name: str) -> Conflict:
    """Return what a client is told whose name for a new thing another one of the kind has."""
    return Conflict(f"there is one with the name {name!r} already", name="name-taken")


def why_not(receipt: Receipt) -> str | None:
    """Return why the task of a tick is not stored, if it is not."""
    if receipt.refusal is not None:
        return receipt.refusal.detail
    return f"task {receipt.task_id} answers for it" if receipt.outcome == "joined" else None


def joined(draft: Draft, task_id: UUID) -> Receipt:
    """Return what becomes of a draft for which another task answers."""
    if draft.join_refusal is not None:
        return Receipt(task_id, "refused", refusal=draft.join_refusal)
    return Receipt(task_id, "joined")


def key_in_use(task_id: UUID) -> Conflict:
    """Return what a client is told who wants a task run again whose unique key an open task has."""
    return Conflict(f"task {task_id} is open and has the unique_key of this one", name="not-unique")


def not_unique(unique_key: str, task_id: UUID) -> Conflict:
    """Return what a client is told whose unique key an open task has."""
    return Conflict(f"task {task_id} is open and has the unique_key {unique_key!r}", name="not-unique")


def no_dependency(depends_on: Sequence[UUID], missing: Sequence[int]) -> Invalid:
    """Return what a client is told whose submission depends on tasks that are not there: those at these places."""
    faults = [Fault(f"/depends_on/{place}", f"there is no task {depends_on[place]}") for place in missing]
    return Invalid("it depends on tasks that are not there", faults=faults)


def id_taken(task_id: UUID) -> Conflict:
    """Return what a client is told whose chosen id belongs to a task that was submitted otherwise."""
    return Conflict(f"there is a task {task_id} already, and it was submitted by another request")


def check_moved(given: Sequence[StoredTask], found: Sequence[StoredTask | None]) -> None:
    """Raise Conflict if a task of an archive is in the store, and did not come of the archive's."""
    for task, there in zip(given, found, strict=True):
        if there is not None and not task.has_become(there):
            raise Conflict(
                f"task {task.task_id} is there with other content than in the archive: it is left as it is; delete the"
                " one that you do not want there, or import into another database"
            )


def check_keys(new: Sequence[StoredTask], owners: Mapping[str, UUID]) -> None:
    """Raise Conflict if a task of an archive has an idempotency key that is another's in the store."""
    for task in new:
        for one in task.keys:
            if one.key in owners:
                raise Conflict(
                    f"task {task.task_id} has the idempotency key {one.key!r}, which is that of {owners[one.key]} here:"
                    " delete the one that you do not want"
                )


def taken() -> Conflict:
    """Return what to say of tasks of an archive that have what only one of the store may have."""
    return Conflict(
        "another task here has its unique_key, an idempotency key or the like: delete the one that you do not want, or"
        " let the open one end first"
    )


def check_stored(given: Sequence[StoredTask], found: Sequence[StoredTask | None]) -> None:
    """Raise RuntimeError, which undoes the transaction, if a task was not stored as it was given."""
    for task, there in zip(given, found, strict=True):
        if there != task:
            raise RuntimeError(f"task {task.task_id} would not be stored as it is in the archive: {there}")
