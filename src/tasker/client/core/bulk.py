"""Calls about bulk actions: one action on many tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from tasker.client.core.effects import Call, Flow
from tasker.client.core.exchange import Exchange
from tasker.client.core.lists import page_of
from tasker.client.core.paths import segment
from tasker.client.core.waiting import wait_until
from tasker.client.errors import BulkTimeout
from tasker.model.control import Action
from tasker.wire.bulk import Bulk, BulkPage, BulkReply


@dataclass(frozen=True)
class BulkCalls:
    """What `BulkActions` and `AsyncBulkActions` do; see there."""

    exchange: Exchange

    def count(self, action: Action, chosen: Mapping[str, Any]) -> Call[BulkReply]:
        body = {"action": action, "dry_run": True, **chosen}
        found = yield from self.exchange.read("POST", "/bulk", BulkReply, body=body)
        matched, cursor = found.matched or 0, found.next_cursor
        while cursor is not None:
            more = yield from self.exchange.read("POST", "/bulk", BulkReply, body={**body, "cursor": cursor})
            matched, cursor = matched + (more.matched or 0), more.next_cursor
        return replace(found, matched=matched, next_cursor=None)

    def act(self, action: Action, chosen: Mapping[str, Any], at_most: int | None, up_to: str | None) -> Call[BulkReply]:
        body = {"action": action, **chosen}
        body |= {} if at_most is None else {"at_most": at_most}
        body |= {} if up_to is None else {"up_to": up_to}
        return self.exchange.read("POST", "/bulk", BulkReply, body=body, retries=0)

    def find_many(self, limit: int | None) -> Flow[Bulk]:
        return self.exchange.read_list("/bulk", BulkPage, {"limit": page_of(limit)}, limit)

    def get(self, bulk_id: UUID | str) -> Call[Bulk]:
        return self.exchange.read("GET", f"/bulk/{segment(bulk_id)}", Bulk)

    def wait(self, bulk_id: UUID | str, timeout: timedelta | float | None) -> Call[Bulk]:
        path = f"/bulk/{segment(bulk_id)}"
        return wait_until(
            self.exchange, path, Bulk, timeout, is_over=lambda bulk: bulk.state != "running", late=BulkTimeout
        )

    def stop(self, bulk_id: UUID | str) -> Call[Bulk]:
        return self.exchange.read("POST", f"/bulk/{segment(bulk_id)}/stop", Bulk)

    def undo(self, bulk_id: UUID | str) -> Call[Bulk]:
        return self.exchange.read("POST", f"/bulk/{segment(bulk_id)}/undo", Bulk, retries=0)


def choose(filter: Mapping[str, Any], task_ids: Sequence[UUID | str] | None, *, all: bool) -> dict[str, Any]:
    """Return the members of a bulk action that say which tasks it is for."""
    chosen: dict[str, Any] = {"filter": {name: _plain(value) for name, value in filter.items() if value is not None}}
    chosen |= {} if task_ids is None else {"task_ids": [str(task_id) for task_id in task_ids]}
    return chosen | ({"all": True} if all else {})


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value
