"""Expired tasks: 410 everywhere, from that moment on, pruned or not."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from tasker.model.keeping import KEEP_TOMBSTONES_FOR
from tasker.model.keys import ANYBODY
from tasker.rules.lifecycle import Failed
from tasker.rules.lifecycle import problem as task_problem
from tests.api.conftest import Rig, problem

HOUR = timedelta(hours=1)
REQUESTS = [
    ("GET", ""), ("GET", "?include=attempts"), ("GET", "?wait=1"), ("GET", "/result"), ("GET", "/result?wait=1"),
    ("GET", "/events"), ("GET", "/events?after=1"), ("POST", "/cancel"), ("POST", "/retry"), ("POST", "/replay"),
    ("DELETE", ""),
]  # fmt: skip


async def prune(rig: Rig) -> None:
    while await rig.engine.prune(limit=100):
        pass


async def test_a_task_shows_until_when_it_is_kept(rig: Rig) -> None:
    task_id = await rig.submit(retention="PT1H")
    assert (await rig.client.get(f"/task/{task_id}")).json()["expires_at"] is None
    ended = await rig.finish()
    expires_at = (rig.clock.now() + HOUR).isoformat().replace("+00:00", "Z")
    assert (await rig.client.get(f"/task/{task_id}")).json()["expires_at"] == expires_at
    assert ended.expires_at == rig.clock.now() + HOUR


@pytest.mark.parametrize(("options", "kept_for"), [({}, timedelta(days=30)), ({"retention": "forever"}, None)])
async def test_a_month_by_default_or_forever(rig: Rig, options: dict[str, str], kept_for: timedelta | None) -> None:
    await rig.submit(**options)
    task = await rig.finish()
    assert task.expires_at == (None if kept_for is None else rig.clock.now() + kept_for)


@pytest.mark.parametrize(("method", "rest"), REQUESTS)
async def test_every_operation_on_an_expired_task_is_410(rig: Rig, method: str, rest: str) -> None:
    task_id = await rig.submit(retention=3600)
    await rig.finish(Failed(task_problem("task-failed", "no")))
    rig.clock.advance(HOUR - timedelta(microseconds=1))
    assert (await rig.client.get(f"/task/{task_id}")).status_code == 200
    rig.clock.advance(timedelta(microseconds=1))
    for _ in range(2):
        reply = await rig.client.request(method, f"/task/{task_id}{rest}")
        assert problem(reply) == (410, "expired")
        assert "was kept until 2026-01-02T04:04:05Z, and has expired" in reply.json()["detail"]
        await prune(rig)
    rig.clock.advance(KEEP_TOMBSTONES_FOR)
    assert problem(await rig.client.request(method, f"/task/{task_id}{rest}")) == (404, "not-found")


@pytest.mark.parametrize(("method", "rest"), REQUESTS)
async def test_an_erased_task_is_404(rig: Rig, method: str, rest: str) -> None:
    task_id = await rig.submit()
    await rig.finish()
    assert (await rig.client.delete(f"/task/{task_id}")).status_code == 204
    assert problem(await rig.client.request(method, f"/task/{task_id}{rest}")) == (404, "not-found")


async def test_lists_omit_expired_tasks(rig: Rig) -> None:
    await rig.submit(retention=60)
    await rig.finish()
    kept = await rig.submit(retention=120)
    await rig.finish()
    rig.clock.advance(timedelta(seconds=60))
    for query in ("", "?status=completed", "?type=sum"):
        items = (await rig.client.get(f"/task{query}")).json()["items"]
        assert [task["task_id"] for task in items] == [kept]


async def test_an_idempotency_key_submits_no_other_task_when_its_own_has_expired(rig: Rig) -> None:
    body, headers = {"type": "sum", "params": [4, 2], "retention": 60}, {"idempotency-key": "once"}
    assert (await rig.client.post("/task", json=body, headers=headers)).status_code == 202
    await rig.finish()
    rig.clock.advance(timedelta(seconds=60))
    for _ in range(2):
        assert problem(await rig.client.post("/task", json=body, headers=headers)) == (410, "expired")
        other = {**body, "params": [4, 3]}
        assert problem(await rig.client.post("/task", json=other, headers=headers)) == (422, "idempotency-key-reuse")
        await prune(rig)
    rig.clock.advance(timedelta(hours=24))
    assert (await rig.client.post("/task", json=body, headers=headers)).status_code == 202


async def test_a_clients_id_is_taken_until_its_tombstone_is_gone(rig: Rig) -> None:
    path, body = f"/task/{uuid4()}", {"type": "sum", "params": [4, 2], "retention": 60}
    assert (await rig.client.put(path, json=body)).status_code == 201
    await rig.finish()
    rig.clock.advance(timedelta(seconds=60))
    for _ in range(2):
        assert problem(await rig.client.put(path, json=body)) == (410, "expired")
        assert problem(await rig.client.put(path, json={**body, "params": [4, 3]})) == (410, "expired")
        await prune(rig)
    rig.clock.advance(KEEP_TOMBSTONES_FOR)
    assert (await rig.client.put(path, json=body)).status_code == 201


async def test_a_stream_ends_when_its_task_expires(rig: Rig) -> None:
    task_id = await rig.submit(retention=60)
    await rig.finish()
    follow = rig.service.following.follow(ANYBODY, UUID(task_id), after=3)
    rig.clock.advance(timedelta(seconds=60))
    async with asyncio.timeout(30):
        assert [events async for events in follow] == []


async def test_a_task_that_expires_meanwhile_is_not_shown_without_attempts(rig: Rig, monkeypatch) -> None:
    """If a task expires between the reads of it and of its attempts, no half task is shown."""
    task_id = await rig.submit(retention=60)
    await rig.finish()
    find_attempts = rig.engine.find_attempts

    async def late(task_id):
        rig.clock.advance(timedelta(seconds=60))
        return await find_attempts(task_id)

    monkeypatch.setattr(rig.engine, "find_attempts", late)
    assert problem(await rig.client.get(f"/task/{task_id}?include=attempts")) == (410, "expired")


async def test_a_type_shows_how_long_its_tasks_are_kept(rig: Rig) -> None:
    assert (await rig.client.get("/type/sum")).json()["retention"] == 30 * 86400
