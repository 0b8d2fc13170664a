"""Calls about the keys of a service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasker.client.core.effects import Call
from tasker.client.core.exchange import Exchange
from tasker.client.core.paths import segment
from tasker.wire.keys import Key, KeyPage, NewKey


@dataclass(frozen=True)
class KeyCalls:
    """What `Keys` and `AsyncKeys` do; see there."""

    exchange: Exchange

    def create(self, scopes: Sequence[str], fields: Mapping[str, Any]) -> Call[NewKey]:
        given = {name: value for name, value in fields.items() if value is not None}
        return self.exchange.read("POST", "/key", NewKey, body={"scopes": list(scopes), **given}, retries=0)

    def get(self, key_id: str) -> Call[Key]:
        return self.exchange.read("GET", f"/key/{segment(key_id)}", Key)

    def find_all(self) -> Call[list[Key]]:
        return (yield from self.exchange.read("GET", "/key", KeyPage)).items

    def revoke(self, key_id: str) -> Call[None]:
        yield from self.exchange.send("DELETE", f"/key/{segment(key_id)}")
