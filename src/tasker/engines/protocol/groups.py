"""Groups of tasks."""

from __future__ import annotations

from typing import Protocol

from tasker.model.groups import Group, GroupPage


class GroupStore(Protocol):
    """Reads groups. A submission with a group makes it; it goes when its last task is erased.

    The transaction that ends the last open task of a group notes its end: listeners are notified of a change of
    `group_id`, webhooks get `group.ended`, and the tasks that wait for the group are started or fail, many of them in
    further transactions.
    """

    async def find(self, owner: str, name: str) -> Group | None:
        """Return a group with its counts, oldest open task and first failures."""

    async def find_many(self, *, owner: str | None, limit: int, cursor: str | None = None) -> GroupPage:
        """Return groups: those with open tasks first, then newest first. owner: None for all.

        Raises Invalid (the cursor).
        """
