"""The GroupStore, and the deliveries of the ends of groups. The engines keep the counts where they change tasks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Raw

from tasker.engines.shared.cursors import NEWEST, from_cursor, to_cursor
from tasker.engines.shared.groups import GroupKey
from tasker.engines.shared.rows import Database, Rows
from tasker.engines.shared.tables import DELIVERIES, GROUPS, WEBHOOKS
from tasker.engines.shared.values import decode_problem, encode
from tasker.model import new_task_id
from tasker.model.events import GROUP_ENDED
from tasker.model.groups import SHOWN_FAILURES, Group, GroupEnd, GroupFailure, GroupPage, StoredGroup
from tasker.model.webhooks import Delivery

_DETAIL = 400
"""Characters of a failure's detail."""


class Groups:
    """Implements GroupStore."""

    def __init__(self, database: Database[Any]) -> None:
        self._database = database

    async def find(self, owner: str, name: str) -> Group | None:
        return await self._database.read(lambda rows: _find(rows, owner, name))

    async def find_many(self, *, owner: str | None, limit: int, cursor: str | None = None) -> GroupPage:
        place = NEWEST if cursor is None else from_cursor(cursor)
        values: dict[str, Any] = {"is_open": place & 1, "below": place >> 1, "limit": limit + 1}
        if cursor is None:
            values |= {"is_open": 1, "below": NEWEST}
        if owner is not None:
            values["owner"] = owner
        return await self._database.read(lambda rows: _page(rows, values, limit))


async def _find(rows: Rows, owner: str, name: str) -> Group | None:
    found = await rows.structs("group_by_name", GROUPS, owner=owner, name=name)
    if not found:
        return None
    oldest = await rows.values("group_oldest", UUID, owner=owner, name=name) if found[0].open else ()
    failed = (
        await rows.fetch("group_failures", UUID, str, bytes, owner=owner, name=name, limit=SHOWN_FAILURES)
        if found[0].failed
        else ()
    )
    return _group(
        found[0],
        await _running(rows, found),
        oldest_open=next(iter(oldest), None),
        failures=tuple(_failure(*one) for one in failed),
    )


async def _page(rows: Rows, values: dict[str, Any], limit: int) -> GroupPage:
    query = "groups_page_of" if "owner" in values else "groups_page"
    found = await rows.numbered(query, GROUPS, **values)
    shown = [group for _, group in found[:limit]]
    running = await _running(rows, shown)
    next_cursor = None
    if len(found) > limit:
        seq, last = found[limit - 1]
        next_cursor = to_cursor(seq << 1 | (last.open > 0))
    return GroupPage(items=[_group(group, running) for group in shown], next_cursor=next_cursor)


async def _running(rows: Rows, groups: Sequence[StoredGroup]) -> dict[GroupKey, int]:
    """Return how many tasks of these groups run."""
    names = list({group.name for group in groups if group.open})
    found = await rows.fetch("groups_running", str, str, int, names=names) if names else ()
    return {GroupKey(owner, name): number for owner, name, number in found}


def _group(group: StoredGroup, running: dict[GroupKey, int], **more: Any) -> Group:
    return Group(
        group_id=group.group_id,
        owner=group.owner,
        name=group.name,
        tasks=group.counts(running.get(GroupKey(group.owner, group.name), 0)),
        created_at=group.created_at,
        ended_at=group.ended_at,
        **more,
    )


def _failure(task_id: UUID, type_: str, text: bytes) -> GroupFailure:
    error = decode_problem(text)
    return GroupFailure(task_id=task_id, type=type_, problem=error.type, detail=error.detail[:_DETAIL])


async def tell_ended(rows: Rows, group: StoredGroup, now: datetime) -> None:
    """Store the deliveries of the end of a group, in the transaction of that end."""
    webhooks = await rows.structs("group_webhooks", WEBHOOKS, owner=group.owner)
    wanted = [webhook for webhook in webhooks if GROUP_ENDED in webhook.events]
    if not wanted:
        return
    end = GroupEnd(
        name=group.name,
        owner=group.owner,
        number=group.ends,
        tasks=group.counts(),
        created_at=group.created_at,
        ended_at=now,
    )
    event_id, data = new_task_id(now), Raw(encode(end))
    deliveries = [
        Delivery(
            delivery_id=new_task_id(now),
            webhook_id=webhook.webhook_id,
            task_id=event_id,
            sequence=1,
            event=GROUP_ENDED,
            status="pending",
            lane=webhook.lane,
            created_at=now,
            due_at=now,
            group_end=data,
        )
        for webhook in wanted
    ]
    await rows.insert_many(DELIVERIES, deliveries)
