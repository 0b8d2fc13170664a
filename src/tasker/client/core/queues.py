"""Calls about the queues of a service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasker.client.core.effects import Call, Flow
from tasker.client.core.exchange import Exchange
from tasker.client.core.paths import segment
from tasker.wire.queues import Queue, QueuePage

_PAGE = 500
"""Queues in one page: the most that the service gives."""


@dataclass(frozen=True)
class QueueCalls:
    """What `Queues` and `AsyncQueues` do; see there."""

    exchange: Exchange

    def find_many(self, limit: int | None) -> Flow[Queue]:
        return self.exchange.read_list("/queue", QueuePage, {"limit": _PAGE}, limit)

    def get(self, name: str) -> Call[Queue]:
        return self.exchange.read("GET", _path(name), Queue)

    def change(self, name: str, fields: Mapping[str, Any]) -> Call[Queue]:
        return self.exchange.read("PATCH", _path(name), Queue, body=fields)


def _path(name: str) -> str:
    return f"/queue/{segment(name)}"
