"""The operations on keys, for admins only."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct, structs

from tasker.api.calls import Call
from tasker.api.forms import read_form
from tasker.api.operation import Answer, delete, get, ok, post
from tasker.api.replies import Reply, empty_reply, json_reply
from tasker.model.keys import Scope
from tasker.service.keys import Keys, NewKey
from tasker.wire import keys as wire
from tasker.wire.shapes import show

Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
Moment = Annotated[datetime, Meta(tz=True)]


class KeyBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a new key shall be; null is the same as left out."""

    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=4, description="What it may do.")]
    name: Annotated[Name, Meta(description="What it is for, in a word; else its id.")] | None = None
    owner: Annotated[Name, Meta(description="Whose tasks it submits and sees; else its name.")] | None = None
    expires_at: (
        Annotated[Moment, Meta(description="It opens nothing from then on; else it is good for ever.")] | None
    ) = None
    rate: Annotated[float, Meta(ge=0.001, le=1_000_000, description="Requests a second at the most.")] | None = None
    burst: (
        Annotated[int, Meta(ge=1, le=1_000_000, description="So many at once; else those of two seconds.")] | None
    ) = None
    daily_budget: Annotated[float, Meta(ge=0, description="US dollars that its tasks may cost on one day.")] | None = (
        None
    )


class KeyOperations:
    """Make, list and revoke keys."""

    tag = "keys"

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    @get("/key", "List the keys", ok("Every key, without its secret.", wire.KeyPage), scope="admin")
    async def list_keys(self, call: Call) -> Reply:
        call.query()
        return json_reply(wire.KeyPage(items=[show(wire.Key, key) for key in await self._keys.find_all()]))

    @post(
        "/key",
        "Make a key",
        {201: Answer("Made: `key` is shown this once.", wire.NewKey, ("Location",))},
        scope="admin",
        problems=("limit-reached",),
        body=KeyBody,
        example={"scopes": ["submit", "read"], "name": "shop"},
    )
    async def create_key(self, call: Call) -> Reply:
        call.query()
        body = read_form(await call.body(), KeyBody)
        fields = structs.asdict(body) | {"scopes": tuple(body.scopes)}
        key, shown = await self._keys.create(NewKey(**fields))
        return json_reply(show(wire.NewKey, key, key=shown), 201, (b"location", f"/key/{key.key_id}".encode()))

    @get("/key/{key_id}", "Read a key", ok("The key, without its secret.", wire.Key), scope="admin")
    async def get_key(self, call: Call) -> Reply:
        call.query()
        return json_reply(show(wire.Key, await self._keys.get(call.path["key_id"])))

    @delete(
        "/key/{key_id}",
        "Revoke a key",
        {204: Answer("It is revoked; other processes refuse it within a second.")},
        scope="admin",
    )
    async def revoke_key(self, call: Call) -> Reply:
        call.query()
        await self._keys.revoke(call.path["key_id"])
        return empty_reply(204)
