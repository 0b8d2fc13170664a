"""The audit log."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tasker.errors import Unavailable
from tasker.service.audit import KEEP_AUDIT_FOR
from tests.api.conftest import TOKEN, Rig, problem

ADMIN = {"authorization": f"Bearer {TOKEN}"}
SUM = {"type": "sum", "params": [1, 2]}


async def recorded(rig: Rig) -> list[tuple[Any, ...]]:
    """Return the audit log, oldest first, as (owner, action, target, outcome)."""
    items = (await rig.client.get("/audit", headers=ADMIN)).json()["items"]
    return [(one["owner"], one["action"], one["target"], one["outcome"]) for one in reversed(items)]


async def test_only_control_operations_are_audited(locked: Rig) -> None:
    alice, reader = await locked.key("submit", "read", "control", owner="alice"), await locked.key("read", owner="bob")
    task_id = (await locked.client.post("/task", json=SUM, headers=alice)).json()["task_id"]
    for path in ("/task", f"/task/{task_id}", "/key", "/audit"):
        await locked.client.get(path, headers=ADMIN)
    await locked.client.post(f"/task/{task_id}/cancel", headers=alice)
    await locked.client.post(f"/task/{task_id}/cancel", headers=alice)
    await locked.client.post(f"/task/{task_id}/cancel", headers=reader)
    await locked.client.post(f"/task/{task_id}/cancel", headers={"authorization": "Bearer wrong"})
    await locked.client.delete("/task/none", headers=alice)
    made = (await locked.client.post("/key", json={"scopes": ["read"]}, headers=ADMIN)).json()
    await locked.client.post("/key", json={"scopes": ["nothing"]}, headers=ADMIN)
    await locked.client.delete(f"/key/{made['key_id']}", headers=ADMIN)
    assert await recorded(locked) == [
        ("alice", "cancel_task", task_id, 200), ("alice", "cancel_task", task_id, 409),
        ("bob", "cancel_task", task_id, 403), ("alice", "delete_task", "none", 404),
        ("", "create_key", made["key_id"], 201),
        ("", "create_key", "", 422), ("", "revoke_key", made["key_id"], 204),
    ]  # fmt: skip
    entry = (await locked.client.get("/audit", headers=ADMIN)).json()["items"][-1]
    assert (entry["key_id"], entry["address"]) == (alice["authorization"].split("_")[1], "127.0.0.1")
    assert (await locked.client.get("/audit", headers=alice)).status_code == 403


async def test_what_cannot_be_audited_is_not_done(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = await rig.submit()

    async def broken(_: Any) -> int:
        raise Unavailable("no")

    monkeypatch.setattr(rig.engine.audit, "begin", broken)
    assert problem(await rig.client.post(f"/task/{task_id}/cancel")) == (503, "unavailable")
    assert (await rig.client.get(f"/task/{task_id}")).json()["status"] == "pending"


async def test_an_internal_error_is_audited(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(rig.engine, "cancel", broken)
    await rig.client.post("/task/0198e000-0000-7000-8000-000000000000/cancel")
    [entry] = (await rig.client.get("/audit")).json()["items"]
    assert entry["outcome"] == 500


async def test_a_reply_is_sent_even_if_its_outcome_cannot_be_audited(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = await rig.submit()

    async def broken(*_: Any) -> None:
        raise Unavailable("no")

    monkeypatch.setattr(rig.engine.audit, "end", broken)
    assert (await rig.client.post(f"/task/{task_id}/cancel")).status_code == 200
    [entry] = (await rig.client.get("/audit")).json()["items"]
    assert entry["outcome"] is None


async def test_the_audit_log_has_pages(rig: Rig) -> None:
    for _ in range(3):
        await rig.client.delete("/task/none")
    reply = await rig.client.get("/audit?limit=2")
    cursor = reply.json()["next_cursor"]
    assert reply.headers["link"] == f'</audit?limit=2&cursor={cursor.replace("=", "%3D")}>; rel="next"'
    reply = await rig.client.get(f"/audit?limit=2&cursor={cursor}")
    assert (len(reply.json()["items"]), reply.json()["next_cursor"]) == (1, None)
    assert problem(await rig.client.get("/audit?cursor=x&limit=0")) == (422, "invalid-request")
    rig.clock.advance(KEEP_AUDIT_FOR + timedelta(seconds=1))
    assert await rig.service.audit.prune() == 3


async def test_the_audit_log_names_the_filter_of_a_bulk_action(rig: Rig) -> None:
    await rig.submit()
    for body in (
        {"action": "cancel", "filter": {"queue": "default"}, "dry_run": True},
        {"action": "delete", "all": True},
    ):
        assert (await rig.client.post("/bulk", json=body)).status_code == 200
    items = (await rig.client.get("/audit")).json()["items"]
    assert [one["target"] for one in reversed(items)] == ['cancel (dry run) {"queue":"default"}', "delete {}"]
