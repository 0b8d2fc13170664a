"""Replies about a batch of submissions."""

from __future__ import annotations

from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from tasker.wire.problems import Problem


class BatchItem(Struct, frozen=True, kw_only=True):
    """The answer to one submission: 202 and its task, 204 if it was only checked, or why it was refused.

    `index` counts submissions from 0, `line` counts lines from 1. The pointers of a problem lead into the submission.
    """

    index: int
    line: int | UnsetType = UNSET
    status: int
    task_id: UUID | UnsetType = UNSET
    replayed: bool | UnsetType = UNSET
    problem: Problem | UnsetType = UNSET


class BatchSummary(Struct, frozen=True, kw_only=True):
    """The end of a batch. `problem` says why it ended early: send again what has no item."""

    accepted: int
    refused: int
    problem: Problem | UnsetType = UNSET


class BatchReply(BatchSummary, frozen=True, kw_only=True):
    """An item for each submission, in order, and how many were accepted (or found valid) and refused."""

    items: list[BatchItem]
