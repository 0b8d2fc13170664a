"""Keys: how they are made and shown, and which of them are accepted. Reference rows 50 to 54."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tasker.chores.plan import REFRESH_KEYS_EVERY
from tasker.engines.sqlite import SqliteEngine
from tasker.service.keys import Keys, NewKey
from tests.api.conftest import TOKEN, MakeRig, Rig, problem

ADMIN = {"authorization": f"Bearer {TOKEN}"}
HOUR = timedelta(hours=1)


async def test_a_key_is_shown_once(rig: Rig) -> None:
    reply = await rig.client.post("/key", json={"scopes": ["admin"], "name": "shop"})
    assert reply.status_code == 201
    made = reply.json()
    assert reply.headers["location"] == f"/key/{made['key_id']}"
    prefix, key_id, secret = made["key"].split("_", 2)
    assert (prefix, key_id, len(secret)) == ("tsk", made["key_id"], 43)
    assert (made["name"], made["owner"], made["scopes"]) == ("shop", "shop", ["admin"])
    reply = await rig.client.get("/key", headers={"authorization": f"Bearer {made['key']}"})
    assert secret not in reply.text
    [listed] = reply.json()["items"]
    one = await rig.client.get(f"/key/{made['key_id']}", headers={"authorization": f"Bearer {made['key']}"})
    assert one.json() == listed
    assert {**listed, "last_used_at": None, "key": made["key"]} == made


async def test_the_secret_is_nowhere_in_the_store(rig: Rig) -> None:
    headers = await rig.key("admin")
    secret = headers["authorization"].split("_", 2)[2]
    await rig.client.get("/key", headers=headers)
    await rig.service.keys.record_uses()
    tables = [row[0] for row in rig.engine._points.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    for table in tables:
        assert secret not in str(rig.engine._points.execute(f"SELECT * FROM {table}").fetchall()), table


async def test_the_first_key_makes_keys_required(rig: Rig) -> None:
    assert (await rig.client.get("/task")).status_code == 200
    headers = await rig.key("admin")
    assert problem(await rig.client.get("/task")) == (401, "unauthorized")
    assert (await rig.client.get("/task", headers=headers)).status_code == 200
    key_id = headers["authorization"].split("_")[1]
    assert (await rig.client.delete(f"/key/{key_id}", headers=headers)).status_code == 204
    for given in ({}, headers):
        assert problem(await rig.client.get("/task", headers=given)) == (401, "unauthorized"), "it stays closed"
    assert (await rig.client.get("/livez")).status_code == 200


async def test_keys_may_be_required_before_there_is_one(make_rig: MakeRig) -> None:
    rig = await make_rig(auth="on")
    assert problem(await rig.client.get("/task")) == (401, "unauthorized")
    assert (await rig.client.get("/task", headers=await rig.key("read"))).status_code == 200


async def test_authentication_can_be_turned_off(make_rig: MakeRig) -> None:
    rig = await make_rig(auth="off")
    await rig.key("admin")
    assert (await rig.client.get("/task")).status_code == 200


@pytest.mark.parametrize("spoil", [
    lambda key: "", lambda key: key + "x", lambda key: key[:-1], lambda key: key.upper(), lambda key: key[4:],
    lambda key: key.rpartition("_")[0] + "_", lambda key: "tsk_" + "a" * 12 + "_" + key.split("_", 2)[2],
    lambda key: key.replace("_", "-"), lambda key: "tsk__" + key.split("_", 2)[2], lambda key: "tsk_",
    lambda key: "tsk", lambda key: key + "\xff",
])  # fmt: skip
async def test_wrong_keys(rig: Rig, spoil: Any) -> None:
    good = (await rig.key("admin"))["authorization"].removeprefix("Bearer ")
    reply = await rig.client.get("/task", headers={"authorization": f"Bearer {spoil(good)}".encode("latin-1")})
    assert problem(reply) == (401, "unauthorized")
    assert reply.headers["www-authenticate"] == 'Bearer realm="tasker"'
    assert good not in reply.text
    query = f"/task?key={good}&access_token={good}&authorization=Bearer%20{good}"
    assert problem(await rig.client.get(query)) == (401, "unauthorized")
    assert problem(await rig.client.get("/task", headers={"x-forwarded-for": "127.0.0.1"})) == (401, "unauthorized")


async def test_an_expired_key_is_refused(rig: Rig) -> None:
    headers = await rig.key("read", expires_at=rig.clock.now() + HOUR)
    rig.clock.advance(HOUR - timedelta(microseconds=1))
    assert (await rig.client.get("/task", headers=headers)).status_code == 200
    rig.clock.advance(timedelta(microseconds=1))
    assert problem(await rig.client.get("/task", headers=headers)) == (401, "unauthorized")


async def test_a_revoked_key_is_refused(locked: Rig) -> None:
    headers = await locked.key("read")
    key_id = headers["authorization"].split("_")[1]
    assert (await locked.client.get("/task", headers=headers)).status_code == 200
    assert (await locked.client.delete(f"/key/{key_id}", headers=ADMIN)).status_code == 204
    assert problem(await locked.client.get("/task", headers=headers)) == (401, "unauthorized")
    assert (await locked.client.delete(f"/key/{key_id}", headers=ADMIN)).status_code == 204, "again"
    assert problem(await locked.client.delete("/key/none", headers=ADMIN)) == (404, "not-found")
    [listed] = (await locked.client.get("/key", headers=ADMIN)).json()["items"]
    assert listed["revoked_at"] is not None


async def test_keys_are_for_admins(locked: Rig) -> None:
    for headers in (await locked.key("submit", "read", "control"), await locked.key("read")):
        assert problem(await locked.client.get("/key", headers=headers)) == (403, "forbidden")
        body = {"scopes": ["admin"]}
        assert problem(await locked.client.post("/key", json=body, headers=headers)) == (403, "forbidden")
        assert problem(await locked.client.delete("/key/x", headers=headers)) == (403, "forbidden")


BAD_BODIES: list[tuple[Any, set[str]]] = [
    ({}, {"/scopes"}), ([], {""}), ({"scopes": []}, {"/scopes"}), ({"scopes": ["root"]}, {"/scopes/0"}),
    ({"scopes": "read"}, {"/scopes"}), ({"scopes": ["read"], "rate": 0}, {"/rate"}),
    ({"scopes": ["read"], "rate": "5", "burst": 1.5, "name": "", "owner": "a\nb"},
     {"/rate", "/burst", "/name", "/owner"}),
    ({"scopes": ["read"], "expires_at": "2001-01-01T00:00:00Z"}, {"/expires_at"}),
    ({"scopes": ["read"], "expires_at": "2101-01-01"}, {"/expires_at"}),
    ({"scopes": ["read"], "daily_budget": -1}, {"/daily_budget"}),
    ({"scopes": ["read"], "key_id": "x", "secret": "y"}, {"/key_id", "/secret"}),
]  # fmt: skip


@pytest.mark.parametrize(("body", "pointers"), BAD_BODIES)
async def test_every_fault_of_a_new_key_is_reported(rig: Rig, body: Any, pointers: set[str]) -> None:
    reply = await rig.client.post("/key", json=body)
    assert problem(reply)[0] == 422
    assert {fault["pointer"] for fault in reply.json()["errors"]} == pointers
    assert not rig.service.keys.are_used


async def test_the_last_use_is_shown_and_stored(locked: Rig) -> None:
    headers = await locked.key("read")
    assert (await locked.service.keys.find_all())[0].last_used_at is None
    await locked.client.get("/task", headers=headers)
    assert (await locked.service.keys.find_all())[0].last_used_at == locked.clock.now()
    assert await locked.service.keys.record_uses() == 1
    assert await locked.service.keys.record_uses() == 0
    assert (await locked.engine.keys.find_all())[0].last_used_at == locked.clock.now()


class _Shared:
    """A store that another process also changes."""

    def __init__(self, engine: SqliteEngine) -> None:
        self._store = engine.keys
        self.reads = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def find_all(self) -> Any:
        self.reads += 1
        return await self._store.find_all()


async def test_keys_of_other_processes(rig: Rig) -> None:
    store: Any = _Shared(rig.engine)
    here, there = Keys(store, rig.clock, is_shared=True), rig.service.keys
    await here.refresh()
    key, shown = await there.create(NewKey(scopes=("read",)))
    for _ in range(100):
        found = await here.identify(shown)
        assert found is not None, "it is looked for"
        assert found[0] == key
    assert store.reads == 2, "once at first, once for the new key: a check reads nothing"
    await there.revoke(key.key_id)
    assert await here.refresh() == 1
    assert await here.identify(shown) is None
    reads = store.reads
    assert await here.identify("tsk_" + "a" * 12 + "_x") is None
    assert await here.refresh() == 0
    assert store.reads == reads, "nothing has changed"
    assert timedelta(seconds=2) >= REFRESH_KEYS_EVERY


async def test_too_many_wrong_keys_of_an_address(locked: Rig) -> None:
    good, wrong = await locked.key("read"), {"authorization": "Bearer wrong"}
    for _ in range(10):
        assert problem(await locked.client.get("/task", headers=wrong)) == (401, "unauthorized")
    reply = await locked.client.get("/task", headers=wrong)
    assert problem(reply) == (429, "rate-limited")
    assert reply.headers["retry-after"] == "6"
    assert (await locked.client.get("/task", headers=good)).status_code == 200
    assert problem(await locked.client.get("/task")) == (401, "unauthorized")
    assert (await locked.client.get("/livez", headers=wrong)).status_code == 200
    locked.clock.advance(timedelta(seconds=6))
    assert problem(await locked.client.get("/task", headers=wrong)) == (401, "unauthorized")
    assert problem(await locked.client.get("/task", headers=wrong)) == (429, "rate-limited")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("expires_at", "9999-12-31T23:59:59-12:00"), ("expires_at", "9999-12-31T23:59:59Z"),
        ("expires_at", "0001-01-01T00:00:00+14:00"), ("rate", 1e-320), ("rate", 0),
    ],
)  # fmt: skip
async def test_an_invalid_new_key_is_refused_and_not_stored(rig: Rig, field: str, value: Any) -> None:
    reply = await rig.client.post("/key", json={"scopes": ["read"], field: value})
    assert reply.status_code == 422
    assert [fault["pointer"] for fault in reply.json()["errors"]] == [f"/{field}"]
    assert (await rig.client.get("/key")).json()["items"] == []


async def test_only_who_may_cancel_may_replace(locked: Rig) -> None:
    submits, controls = await locked.key("submit", owner="bob"), await locked.key("submit", "control", owner="bob")
    body = {"type": "sum", "params": [4, 2], "unique_key": "job"}
    first = (await locked.client.post("/task", json=body, headers=submits)).json()["task_id"]
    replacing = {**body, "on_conflict": "replace"}
    assert problem(await locked.client.post("/task", json=replacing, headers=submits)) == (403, "forbidden")
    path = f"/task/{first[:-1]}{'0' if first[-1] != '0' else '1'}"
    assert problem(await locked.client.put(path, json=replacing, headers=submits)) == (403, "forbidden")
    batch = (await locked.client.post("/batch", json=[replacing, {**body, "unique_key": "x"}], headers=submits)).json()
    assert [item["status"] for item in batch["items"]] == [403, 202]
    for method, where in (("POST", "/task"), ("PUT", path)):
        checked = await locked.client.request(
            method, where, json=replacing, headers={**submits, "prefer": "handling=validate"}
        )
        assert problem(checked) == (403, "forbidden")
    other = (await locked.client.post("/task", json=replacing, headers=controls)).json()["task_id"]
    assert other != first
