"""Daily budgets: tasks that cost are refused once the budget is used up; pending ones continue the next day."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from msgspec import structs

from tasker import task
from tasker.errors import Unavailable
from tasker.model import Claim, Report
from tasker.rules.lifecycle import Snoozed, Succeeded
from tasker.service.budgets import KNOWN_FOR
from tasker.service.keys import NewKey
from tasker.testing import START, make_draft
from tests.api.conftest import MakeRig, Rig, problem

MIDNIGHT = datetime(2026, 1, 3, tzinfo=UTC)
TO_MIDNIGHT = 75355
"""Whole seconds from START on, rounded up."""


@task(costs=True)
async def poem(about: str) -> str:
    """Cost something."""
    return about


async def open_rig(make_rig: MakeRig, **settings: Any) -> Rig:
    rig = await make_rig(**settings)
    rig.service.registry.add(poem)
    return rig


async def ask(rig: Rig, type: str = "poem", **more: Any) -> httpx2.Response:
    params = {"poem": ["x"], "sum": [4, 2]}[type]
    return await rig.client.post("/task", json={"type": type, "params": params}, **more)


async def spend(rig: Rig, cost: float, owner: str = "") -> None:
    """Have a task of the owner cost this much, and expire the cached sum."""
    await rig.engine.submit([structs.replace(make_draft(rig.clock.now(), type="spend"), owner=owner)])
    claim = await rig.driver.claim_one(types=("spend",))
    await rig.driver.finish(claim, Succeeded(b"6"), Report(usage=json.dumps({"cost": cost}).encode()))
    rig.clock.advance(KNOWN_FOR)


async def test_what_costs_is_refused_when_the_budget_is_used_up(make_rig: MakeRig) -> None:
    rig = await open_rig(make_rig, daily_budget=1.5)
    await spend(rig, 1.25)
    assert (await ask(rig)).status_code == 202
    await spend(rig, 0.25)
    reply = await ask(rig)
    assert problem(reply) == (429, "budget-exhausted")
    assert reply.json()["detail"] == (
        "today's tasks have cost 1.5 USD of a daily budget of 1.5 USD: no poem task is taken until midnight UTC"
    )
    assert int(reply.headers["retry-after"]) == TO_MIDNIGHT - 2
    assert (await ask(rig, "sum")).status_code == 202, "what costs nothing is taken"
    path = "/task/01a20c8b-c8eb-779d-845c-fe9863a2b29d"
    put = await rig.client.put(path, json={"type": "poem", "params": ["x"]})
    assert problem(put) == (429, "budget-exhausted")
    usage = (await rig.client.get("/usage")).json()
    assert usage["budget"] == {"daily": 1.5, "spent": 1.5, "ends_at": "2026-01-03T00:00:00Z"}
    rig.clock.set(MIDNIGHT)
    assert (await ask(rig)).status_code == 202


async def test_idempotent_submits_are_replayed_when_over_budget(make_rig: MakeRig) -> None:
    """A client whose connection broke repeats its request: that costs nothing."""
    rig = await open_rig(make_rig, daily_budget=1)
    path, body = "/task/01a20c8b-c8eb-779d-845c-fe9863a2b29d", {"type": "poem", "params": ["x"]}
    lines = [{**body, "unique_key": "u"}, body]

    async def submit() -> list[httpx2.Response]:
        key = {"idempotency-key": "k"}
        posted = await rig.client.post("/task", json=body, headers=key)
        many = await rig.client.post("/batch", json=lines, headers=key)
        return [posted, await rig.client.put(path, json=body), many]

    first = await submit()
    assert [reply.status_code for reply in first] == [202, 201, 200]
    await spend(rig, 1)
    again = await submit()
    assert [reply.status_code for reply in again] == [202, 200, 200]
    assert [reply.json().get("task_id") for reply in again] == [reply.json().get("task_id") for reply in first]
    ids = [[item["task_id"] for item in reply.json()["items"]] for reply in (first[2], again[2])]
    assert ids[0] == ids[1]
    joined = await rig.client.post("/task", json=lines[0])
    assert joined.json()["task_id"] == ids[0][0]
    refused = await rig.client.post("/task", json=body, headers={"idempotency-key": "other"})
    assert problem(refused) == (429, "budget-exhausted")
    late = await rig.client.post("/batch", json=[{**body, "unique_key": "v"}])
    assert [item["status"] for item in late.json()["items"]] == [429]
    rig.clock.set(MIDNIGHT)
    taken = await rig.client.post("/task", json=body, headers={"idempotency-key": "other"})
    assert (taken.status_code, "idempotency-replayed" in taken.headers) == (202, False), "the refusal kept no key"


async def test_without_a_budget_nothing_is_read(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await open_rig(make_rig)
    await spend(rig, 1000)
    monkeypatch.setattr(rig.engine, "usage", None)
    assert (await ask(rig)).status_code == 202


async def test_a_budget_of_nothing(make_rig: MakeRig) -> None:
    rig = await open_rig(make_rig, daily_budget=0)
    assert problem(await ask(rig)) == (429, "budget-exhausted")


async def test_a_sum_is_known_for_a_second(make_rig: MakeRig) -> None:
    rig = await open_rig(make_rig, daily_budget=1)
    assert (await ask(rig)).status_code == 202
    await spend(rig, 1)
    rig.clock.advance(KNOWN_FOR)
    assert (await ask(rig)).status_code == 429


async def test_each_key_has_its_own(make_rig: MakeRig) -> None:
    rig = await open_rig(make_rig, daily_budget=5)
    small = await rig.key("submit", owner="me", daily_budget=1.0)
    large = await rig.key("submit", owner="me", daily_budget=3.0)
    default = await rig.key("submit", owner="you")
    await spend(rig, 2, owner="me")
    await spend(rig, 5, owner="you")
    assert problem(await ask(rig, headers=small)) == (429, "budget-exhausted")
    assert (await ask(rig, headers=large)).status_code == 202
    assert problem(await ask(rig, headers=default)) == (429, "budget-exhausted")


async def test_only_tasks_that_cost_are_refused_of_a_batch(make_rig: MakeRig) -> None:
    rig = await open_rig(make_rig, daily_budget=1)
    await spend(rig, 1)
    lines = [{"type": "sum", "params": [4, 2]}, {"type": "poem", "params": ["x"]}, {"type": "sum", "params": [1, 2]}]
    reply = await rig.client.post("/batch", json=lines)
    assert [item["status"] for item in reply.json()["items"]] == [202, 429, 202]
    assert reply.json()["items"][1]["problem"]["type"] == "/problems/budget-exhausted"


async def claimed(rig: Rig, owner: str) -> Claim:
    await rig.engine.submit([structs.replace(make_draft(rig.clock.now(), type="poem"), owner=owner)])
    return await rig.driver.claim_one(types=("poem",))


async def test_pending_tasks_are_held_until_the_next_day(make_rig: MakeRig) -> None:
    rig = await open_rig(make_rig, daily_budget=1)
    claim = await claimed(rig, "")
    assert await rig.service.budgets.hold(claim) is None
    await spend(rig, 1)
    held = await rig.service.budgets.hold(claim)
    assert held == Snoozed(MIDNIGHT - rig.clock.now(), "budget_exhausted")
    await rig.driver.finish(claim, held)
    body = (await rig.client.get(f"/task/{claim.task_id}")).json()
    assert (body["status"], body["reason"], body["tries_left"]) == ("pending", "budget_exhausted", 1)
    assert body["next_attempt_at"] == "2026-01-03T00:00:00Z"
    rig.clock.advance(MIDNIGHT - rig.clock.now())
    assert await rig.service.budgets.hold(await rig.driver.claim_one(types=("poem",))) is None


@pytest.mark.parametrize(
    ("default", "budgets", "is_held"),
    [
        (1, [], True), (None, [], False), (1, [None], True), (None, [None], False), (None, [1], True),
        (None, [1, 2], True), (None, [1, 3], False), (None, [1, None], False), (1, [3], False), (3, [1, None], False),
    ],
)  # fmt: skip
async def test_the_largest_budget_of_an_owners_keys_counts(
    make_rig: MakeRig, default: float | None, budgets: list[float | None], is_held: bool
) -> None:
    rig = await open_rig(make_rig, daily_budget=default)
    for budget in budgets:
        await rig.key("submit", owner="me", daily_budget=budget)
    revoked, _ = await rig.service.keys.create(NewKey(scopes=("submit",), owner="me", daily_budget=9.0))
    await rig.service.keys.revoke(revoked.key_id)
    await spend(rig, 2, owner="me")
    assert (await rig.service.budgets.hold(await claimed(rig, "me")) is not None) == is_held


async def test_budgets_know_whether_any_is_set(make_rig: MakeRig) -> None:
    assert (await open_rig(make_rig, daily_budget=0)).service.budgets.are_set
    rig = await open_rig(make_rig)
    await rig.key("submit")
    assert not rig.service.budgets.are_set
    key, _ = await rig.service.keys.create(NewKey(scopes=("submit",), owner="me", daily_budget=9.0))
    assert rig.service.budgets.are_set
    await rig.service.keys.revoke(key.key_id)
    assert not rig.service.budgets.are_set


async def test_a_task_waits_while_the_budget_cannot_be_read(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await open_rig(make_rig, daily_budget=1)
    claim = await claimed(rig, "")

    async def away(_: str) -> int:
        raise Unavailable("away")

    monkeypatch.setattr(rig.engine.usage, "spent_today", away)
    assert await rig.service.budgets.hold(claim) == Snoozed(timedelta(seconds=5))
    assert problem(await ask(rig)) == (503, "unavailable")


def test_the_day_of_the_tests() -> None:
    assert timedelta(seconds=TO_MIDNIGHT - 1) < MIDNIGHT - START <= timedelta(seconds=TO_MIDNIGHT)


async def test_what_a_budget_refuses_opens_no_queue(make_rig: MakeRig) -> None:
    """For each way to submit: a refused submission does not count against the limit of open queues."""
    rig = await open_rig(make_rig, daily_budget=1, max_queues=3)
    schedule = {"name": "s", "interval": 3600, "task": {"type": "poem", "params": ["x"], "queue": "q3"}}
    made = await rig.client.post("/schedule", json=schedule)
    await spend(rig, 1)

    def over(queue: str) -> dict[str, Any]:
        return {"type": "poem", "params": ["x"], "queue": queue}

    refused = [
        await rig.client.post("/task", json=over("q0")),
        await rig.client.post("/task", json=over("q0"), headers={"idempotency-key": "k"}),
        await rig.client.put("/task/01a20c8b-c8eb-779d-845c-fe9863a2b29d", json=over("q1")),
        await rig.client.post(f"{made.json()['links']['self']}/trigger"),
    ]
    assert [problem(reply) for reply in refused] == [(429, "budget-exhausted")] * 4
    batch = await rig.client.post("/batch", json=[over("q4"), over("q2")])
    assert [item["status"] for item in batch.json()["items"]] == [429, 429]
    for queue in ("a", "b", "c"):
        taken = await rig.client.post("/task", json={"type": "sum", "params": [4, 2], "queue": queue})
        assert taken.status_code == 202
    beyond = await rig.client.post("/task", json={"type": "sum", "params": [4, 2], "queue": "d"})
    assert problem(beyond) == (409, "limit-reached")
    both = await rig.client.post("/task", json=over("d"))
    assert problem(both) == (429, "budget-exhausted")
