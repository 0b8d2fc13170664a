"""The operations on keys, for admins only."""

from __future__ import annotations

from msgspec import structs

from tasker.api.calls import Call
from tasker.api.operation import Answer, delete, get, ok, post
from tasker.api.replies import Reply, empty_reply, json_reply
from tasker.requests.body import read_body
from tasker.requests.keys import KeyBody
from tasker.service.keys import Keys, NewKey
from tasker.wire import keys as wire
from tasker.wire.shapes import show


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
        body = read_body(await call.body(), KeyBody)
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
