"""Bulk actions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from tasker.model.bulk import BulkAction, BulkPage, BulkTask, Step


class BulkStore(Protocol):
    """Stores bulk actions, and does them step by step; a step is one commit, and no step is done twice.

    A process that works at an action holds it: others leave it alone until HOLD after its last step.
    """

    async def create(self, bulk: BulkAction) -> None:
        """Store a new action, and hold it if it is not over."""

    async def find(self, bulk_id: UUID) -> BulkAction | None:
        """Return the action, or None."""

    async def find_many(self, *, owner: str | None = None, limit: int, cursor: str | None = None) -> BulkPage:
        """Return actions, newest first; only those of this owner on its own tasks, if given. Raises Invalid."""

    async def find_free(self, *, limit: int) -> list[BulkAction]:
        """Return actions that are not over and that nobody holds, those that have waited longest first."""

    async def find_tasks(self, task_ids: Sequence[UUID]) -> list[BulkTask]:
        """Return those of the tasks that exist, in any order."""

    async def step(self, bulk: BulkAction, step: Step) -> BulkAction | None:
        """Act on tasks as the engine's method for one task does, and store how far the action is, in one commit.

        Also notes the tasks that were cancelled or retried, for `TaskFilter.bulk`, and holds the action. An undo acts
        only on tasks that have not started since. Tasks that others have locked are left to a later step.
        None, and no change, if the stored action is another version: it was stopped, or another process did this step.
        """

    async def hold(self, bulk: BulkAction, for_: timedelta) -> None:
        """Let nobody go on with the action for this long; a time of zero lets others go on at once.

        No change if the stored action is another version.
        """

    async def stop(self, bulk_id: UUID) -> BulkAction | None:
        """End an action that is not over; return it as it is then, None if it does not exist. Idempotent."""

    async def prune(self, *, keep: timedelta, limit: int) -> int:
        """Erase actions that ended `keep` ago or earlier, at most `limit` rows; return how many."""
