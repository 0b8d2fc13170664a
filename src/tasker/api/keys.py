"""The operations on keys: for admins alone."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from tasker.api.calls import Call
from tasker.api.operation import BODY_PROBLEMS, INPUT_PROBLEMS, Answer, Operation
from tasker.api.replies import Reply, empty_reply, json_reply
from tasker.model.keys import Key, Scope
from tasker.requests.body import read_body
from tasker.requests.keys import KeyBody
from tasker.service.keys import Keys, NewKey

Moment = Annotated[datetime, Meta(tz=True)]


class KeyView(Struct, frozen=True, kw_only=True):
    """A key; its secret is told once, when it is made. `last_used_at` is right within a minute or so."""

    key_id: str
    name: str
    owner: str
    scopes: list[Scope]
    created_at: Moment
    expires_at: Moment | None
    revoked_at: Moment | None
    last_used_at: Moment | None
    rate: float | None
    burst: int | None
    daily_budget: float | None


class NewKeyView(KeyView, frozen=True, kw_only=True):
    """A key that has just been made: `key` is what its bearer sends, and is told this once."""

    key: str


class KeyPage(Struct, frozen=True, kw_only=True):
    """Every key, in order of creation, also those that open nothing any more; `next_cursor` is always null."""

    items: list[KeyView]
    next_cursor: None = None


class KeyOperations:
    """Make, list and revoke keys."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def find_many(self, call: Call) -> Reply:
        call.query()
        return json_reply(KeyPage(items=[KeyView(**_shown(key)) for key in await self._keys.find_all()]))

    async def create(self, call: Call) -> Reply:
        call.query()
        body = read_body(await call.body(), KeyBody)
        key, shown = await self._keys.create(
            NewKey(
                scopes=tuple(body.scopes), name=body.name, owner=body.owner, expires_at=body.expires_at, rate=body.rate,
                burst=body.burst, daily_budget=body.daily_budget,
            )
        )  # fmt: skip
        return json_reply(NewKeyView(**_shown(key), key=shown), 201, (b"location", f"/key/{key.key_id}".encode()))

    async def get(self, call: Call) -> Reply:
        call.query()
        return json_reply(KeyView(**_shown(await self._keys.get(call.path["key_id"]))))

    async def revoke(self, call: Call) -> Reply:
        call.query()
        await self._keys.revoke(call.path["key_id"])
        return empty_reply(204)


def _shown(key: Key) -> dict[str, Any]:
    return {name: list(key.scopes) if name == "scopes" else getattr(key, name) for name in KeyView.__struct_fields__}


def key_operations(keys: KeyOperations) -> list[Operation]:
    """Return what can be done with keys."""
    return [
        Operation(
            "GET", "/key", "list_keys", "keys", "List the keys", keys.find_many, scope="admin",
            answers={200: Answer("Every key, without its secret.", KeyPage)}, problems=("unknown-field", "unavailable"),
        ),
        Operation(
            "POST", "/key", "create_key", "keys", "Make a key", keys.create, scope="admin",
            answers={201: Answer("Made: `key` is told this once.", NewKeyView, ("Location",))},
            problems=(*BODY_PROBLEMS, *INPUT_PROBLEMS, "cross-origin", "limit-reached", "unavailable"), body=KeyBody,
            example={"scopes": ["submit", "read"], "name": "shop"},
        ),
        Operation(
            "GET", "/key/{key_id}", "get_key", "keys", "Read a key", keys.get, scope="admin",
            answers={200: Answer("The key, without its secret.", KeyView)},
            problems=("not-found", "unknown-field", "unavailable"),
        ),
        Operation(
            "DELETE", "/key/{key_id}", "revoke_key", "keys", "Revoke a key", keys.revoke, scope="admin",
            answers={204: Answer("It opens nothing any more; in other processes within a second.")},
            problems=("not-found", "unknown-field", "cross-origin", "unavailable"),
        ),
    ]  # fmt: skip
