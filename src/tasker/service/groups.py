"""The use cases of groups: read, list, wait for the end, cancel."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from tasker.engines.protocol import GroupStore
from tasker.errors import NotFound
from tasker.model import TaskFilter
from tasker.model.bulk import BulkAction
from tasker.model.groups import Group, GroupPage
from tasker.model.keys import Caller
from tasker.service.bulk import Bulk, Selection
from tasker.service.cursors import Cursors
from tasker.service.hub import Hub

_LAST_LOOK = 15.0
"""Longest pause in seconds between reads of an awaited group: a notification may have been lost."""


@dataclass
class GroupService:
    """The groups of tasks. For a caller, groups of owners whose tasks it may not see do not exist."""

    _store: GroupStore
    _bulk: Bulk
    _hub: Hub
    _cursors: Cursors

    async def get(self, caller: Caller, name: str, owner: str | None = None) -> Group:
        """Return a group: the caller's own, or that of `owner`. Raises NotFound."""
        whose = caller.owner if owner is None else owner
        group = await self._store.find(whose, name) if caller.sees(whose) else None
        if group is None:
            raise NotFound("there is no such group")
        return group

    async def wait(self, caller: Caller, name: str, owner: str | None, at_most: timedelta) -> Group:
        """Return a group once none of its tasks is open, or as it is when time is up or the service stops.

        Raises NotFound.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + at_most.total_seconds()
        group = await self.get(caller, name, owner)
        while group.is_open and not self._hub.closed and loop.time() < deadline:
            with self._hub.ending(group.group_id) as ended:
                group = await self.get(caller, name, owner)  # it may have ended before we listened
                if group.is_open:
                    await asyncio.wait([ended], timeout=min(_LAST_LOOK, deadline - loop.time()))
            group = await self.get(caller, name, owner) if group.is_open else group
        return group

    async def find_many(
        self, caller: Caller, *, owner: str | None = None, limit: int, cursor: str | None = None
    ) -> GroupPage:
        """Return groups, those with open tasks first, then newest first. Raises Invalid for a foreign cursor."""
        if owner is not None and not caller.sees(owner):
            return GroupPage(items=[])
        only = caller.only if owner is None else owner
        return await self._cursors.page(
            "group", cursor, lambda at: self._store.find_many(owner=only, limit=limit, cursor=at)
        )

    async def cancel(self, caller: Caller, name: str, owner: str | None = None) -> BulkAction:
        """Cancel the open tasks of a group, in steps that go on after the end of this process. Raises NotFound."""
        group = await self.get(caller, name, owner)
        return await self._bulk.start(caller, "cancel", Selection(TaskFilter(group=name, owner=group.owner)))
