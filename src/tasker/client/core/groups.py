"""Calls about the groups of a service."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode

from tasker.client.core.effects import Call, Flow
from tasker.client.core.exchange import Exchange
from tasker.client.core.paths import segment
from tasker.client.core.waiting import wait_until
from tasker.client.errors import GroupTimeout
from tasker.wire.bulk import BulkReply
from tasker.wire.groups import Group, GroupInList, GroupPage


@dataclass(frozen=True)
class GroupCalls:
    """What `Groups` and `AsyncGroups` do; see there."""

    exchange: Exchange

    def find_many(self, owner: str | None, limit: int | None) -> Flow[GroupInList]:
        return self.exchange.read_list("/group", GroupPage, {"owner": owner}, limit)

    def get(self, name: str, owner: str | None) -> Call[Group]:
        return self.exchange.read("GET", _path(name), Group, query={"owner": owner})

    def wait(self, name: str, owner: str | None, timeout: timedelta | float | None) -> Call[Group]:
        return wait_until(
            self.exchange,
            _path(name) + ("" if owner is None else f"?{urlencode({'owner': owner})}"),
            Group,
            timeout,
            is_over=lambda group: group.ended_at is not None,
            late=GroupTimeout,
        )

    def cancel(self, name: str, owner: str | None) -> Call[BulkReply]:
        return self.exchange.read("POST", f"{_path(name)}/cancel", BulkReply, query={"owner": owner}, retries=0)


def _path(name: str) -> str:
    return f"/group/{segment(name)}"
