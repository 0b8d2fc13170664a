"""Bulk actions: one action on many tasks, and how far it is."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from tasker.model.bulk import BulkState
from tasker.model.control import Action
from tasker.wire.shapes import Always, Moment, choices


class BulkReply(Struct, frozen=True, kw_only=True):
    """How many tasks matched, how many were changed, and how many were left as they are.

    `matched` is null if there were too many to count; of a dry run it is what this call has counted. `to_go`: tasks
    that a running action has not come to yet, null if unknown. A dry run stores nothing and has no `bulk_id`;
    `next_cursor`: there is more to count, so send the same request with this `cursor`; else null. `up_to`: sent with
    the action it leaves out tasks that were submitted after the dry run.
    """

    bulk_id: UUID | UnsetType = UNSET
    state: Annotated[str, choices(BulkState)] | UnsetType = UNSET
    matched: int | None
    done: int
    skipped: int
    to_go: int | UnsetType | None = UNSET
    next_cursor: str | None = None
    up_to: str | UnsetType | None = UNSET
    links: dict[str, str] | UnsetType = UNSET


class BulkReceipt(Struct, frozen=True, kw_only=True):
    """How far a bulk action is, for a key without the scope `read`; see Bulk."""

    bulk_id: UUID
    state: Annotated[str, choices(BulkState)]
    matched: int | None
    done: int
    skipped: int
    skips: dict[str, int]
    to_go: int | None
    links: dict[str, str]


class Bulk(BulkReceipt, frozen=True, kw_only=True):
    """A bulk action: what it is for, who made it, and how far it is.

    `filter`: what selects its tasks, with the statuses and the owner that it is limited to. `given`: how many task ids
    were given instead, else null. `matched`: tasks counted when it was made, null if there were too many to count.
    `skips`: tasks left as they are, by reason: `gone` (erased, or never there), `status` (it has changed), `started`
    (it has run since the retry that is undone), `not_unique` (an open task has its unique_key), `dependency` (it
    depends on a task that has not completed, or has dependants that are not settled), `queue_limit` (its owner has open
    tasks in too many queues). `to_go`: tasks that it has not come to yet, null if unknown. `undo_of`: the retry that it
    undoes.
    """

    # The client reads a receipt as a Bulk, too: hence the defaults.

    action: Always[Annotated[str, choices(Action)]] = ""
    filter: Always[dict[str, Any]] = {}
    given: Always[int | None] = None
    at_most: Always[int | None] = None
    owner: Always[str] = ""
    key_id: Always[str | None] = None
    undo_of: Always[UUID | None] = None
    started_at: Always[Moment] | None = None
    ended_at: Always[Moment | None] = None


class BulkPage(Struct, frozen=True, kw_only=True):
    """A slice of the list of bulk actions, newest first; `next_cursor` is opaque, null at the end."""

    items: list[Bulk]
    next_cursor: str | None
