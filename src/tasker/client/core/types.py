"""Calls about the task types of a service."""

from __future__ import annotations

from dataclasses import dataclass

from tasker.client.core.effects import Call, Flow
from tasker.client.core.exchange import Exchange
from tasker.client.core.paths import segment
from tasker.wire.types import TaskType, TaskTypePage


@dataclass(frozen=True)
class TypeCalls:
    """What `Types` and `AsyncTypes` do; see there."""

    exchange: Exchange

    def find_many(self, limit: int | None) -> Flow[TaskType]:
        return self.exchange.read_list("/type", TaskTypePage, limit=limit)

    def get(self, name: str) -> Call[TaskType]:
        return self.exchange.read("GET", f"/type/{segment(name)}", TaskType)
