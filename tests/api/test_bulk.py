"""POST /bulk: counts first, then acts on what was counted, and on nothing by mistake."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from tasker.engines.shared.looks import Bounds
from tasker.model.keys import Caller
from tasker.rules.lifecycle import Failed
from tasker.rules.lifecycle import problem as task_problem
from tasker.service import bulk
from tests.api.conftest import TOKEN, Rig, problem


async def act(rig: Rig, action: str, **body: Any) -> tuple[Any, ...]:
    reply = await rig.client.post("/bulk", json={"action": action} | body)
    assert reply.status_code == 200, reply.text
    told = reply.json()
    return told["matched"], told["done"], told["skipped"], told["next_cursor"]


async def counted(rig: Rig) -> dict[str, int]:
    items = (await rig.client.get("/task?limit=500")).json()["items"]
    return dict(Counter(f"{item['type']} {item['status']}" for item in items))


async def fill(rig: Rig) -> None:
    """Store three failed sums, a running one, two pending ones, and two pending echos."""
    for _ in range(3):
        await rig.submit(tags=["bad"])
        await rig.finish(Failed(task_problem("task-failed", "no")))
    await rig.submit()
    await rig.driver.claim_one()
    for type_ in ("sum", "sum", "echo", "echo"):
        await rig.submit(type_, [1, 2] if type_ == "sum" else [], queue=type_)


async def test_a_dry_run_only_counts(rig: Rig) -> None:
    await fill(rig)
    before = await counted(rig)
    assert await act(rig, "cancel", all=True, dry_run=True) == (5, 0, 0, None)
    assert await act(rig, "cancel", filter={"type": "echo"}, dry_run=True) == (2, 0, 0, None)
    assert await act(rig, "retry", filter={"tag": "bad"}, dry_run=True, at_most=1) == (3, 0, 0, None)
    assert await act(rig, "delete", filter={"status": ["failed", "pending"]}, dry_run=True) == (3, 0, 0, None)
    assert await counted(rig) == before


async def test_it_does_what_was_counted(rig: Rig) -> None:
    await fill(rig)
    assert await act(rig, "retry", filter={"tag": "bad", "status": "failed"}, at_most=3) == (3, 3, 0, None)
    assert await counted(rig) == {"sum pending": 5, "sum running": 1, "echo pending": 2}
    assert await act(rig, "cancel", filter={"queue": "echo"}) == (2, 2, 0, None)
    assert await act(rig, "cancel", filter={"type": "sum"}) == (6, 6, 0, None)
    assert await counted(rig) == {"sum cancelled": 5, "sum running": 1, "echo cancelled": 2}
    rig.clock.advance(timedelta(seconds=1))
    now = rig.clock.now().isoformat()
    assert await act(rig, "delete", filter={"created_after": now}) == (0, 0, 0, None)
    assert await act(rig, "delete", filter={"created_before": now}) == (7, 7, 0, None)
    assert await counted(rig) == {"sum running": 1}
    assert await act(rig, "delete", all=True) == (0, 0, 0, None)


async def test_more_than_was_expected_is_refused(rig: Rig) -> None:
    await fill(rig)
    before = await counted(rig)
    reply = await rig.client.post("/bulk", json={"action": "cancel", "filter": {"type": "sum"}, "at_most": 2})
    assert problem(reply) == (409, "conflict")
    assert "3 such tasks, more than 2" in reply.json()["detail"]
    assert await counted(rig) == before


async def test_a_long_action_continues_with_its_cursor(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "WITHIN", 0.0)
    monkeypatch.setattr(bulk, "_CHOSEN_AT_ONCE", 4)
    for _ in range(10):
        await rig.submit()
    asked = {"filter": {"status": "pending"}}
    first = await act(rig, "cancel", **asked)
    assert first[:3] == (10, 4, 0)
    await rig.submit("echo", [])  # comes later, and is not touched
    second = await act(rig, "cancel", **asked, cursor=first[3])
    assert second[:3] == (None, 4, 0)
    assert await act(rig, "cancel", **asked, cursor=second[3]) == (None, 2, 0, None)
    assert await counted(rig) == {"sum cancelled": 10, "echo pending": 1}


async def test_what_has_changed_since_it_was_chosen_is_skipped(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(rig)
    control, claimed = rig.engine.control, []
    choose = control.choose

    async def then_one_is_deleted(*arguments: Any, **options: Any) -> Any:
        chosen = await choose(*arguments, **options)
        claimed.append(chosen.tasks[0].task_id)
        await rig.engine.delete(chosen.tasks[0].task_id)
        return chosen

    monkeypatch.setattr(control, "choose", then_one_is_deleted)
    assert await act(rig, "retry", filter={"status": "failed"}) == (3, 2, 1, None)


@pytest.mark.parametrize(
    ("body", "expected", "pointers"),
    [
        ({"action": "cancel"}, "invalid-request", ["/filter"]),
        ({"action": "cancel", "filter": {}}, "invalid-request", ["/filter"]),
        ({"action": "cancel", "filter": {"type": None}, "all": False}, "invalid-request", ["/filter"]),
        ({"action": "cancel", "filter": {"type": "sum"}, "all": True}, "invalid-request", ["/all"]),
        ({"action": "cancel", "filter": {"status": "completed"}}, "invalid-request", ["/filter/status"]),
        ({"action": "retry", "filter": {"status": ["running"]}}, "invalid-request", ["/filter/status"]),
        ({"action": "delete", "all": True, "cursor": "x", "at_most": 1}, "invalid-request", ["/cursor"]),
        ({"action": "delete", "all": True, "cursor": "x"}, "invalid-request", ["/cursor"]),
        ({"action": "purge", "all": 1, "at_most": -1}, "invalid-request", ["/action", "/all", "/at_most"]),
        ({"filter": {"status": [], "typ": "x", "queue": 5, "created_after": "now"}}, "invalid-request",
         ["/filter/status", "/filter/typ", "/filter/queue", "/filter/created_after", "/action"]),
        ({"action": "cancel", "all": True, "x": 1}, "unknown-field", ["/x"]),
        ([], "invalid-request", [""]),
    ],
)  # fmt: skip
async def test_every_fault_is_named(rig: Rig, body: Any, expected: str, pointers: list[str]) -> None:
    await rig.submit()
    reply = await rig.client.post("/bulk", json=body)
    assert problem(reply) == (422, expected)
    assert [fault["pointer"] for fault in reply.json()["errors"]] == pointers
    assert await counted(rig) == {"sum pending": 1}


async def test_other_owners_tasks_are_out_of_reach(rig: Rig) -> None:
    """Only an admin's key reaches every owner's tasks."""
    mine, other = Caller("me", "k", frozenset({"control"})), Caller("other", "k2", frozenset({"control"}))
    admin = Caller("root", "k3", frozenset({"admin"}))
    for caller in (mine, other, other):
        await rig.service.submissions.submit(caller, b'{"type":"echo"}')
    every = bulk.TaskFilter()
    counts = [(await rig.service.bulk.count(who, "cancel", every)).matched for who in (mine, other, admin)]
    assert counts == [1, 2, 3]
    theirs = bulk.TaskFilter(owner="other")
    counts = [(await rig.service.bulk.count(who, "cancel", theirs)).matched for who in (mine, other, admin)]
    assert counts == [0, 2, 2]
    matched, acted = await rig.service.bulk.begin(mine, "cancel", every, None)
    assert (matched, acted.done) == (1, 1)
    assert (await rig.service.bulk.begin(admin, "cancel", every, None))[1].done == 2


async def test_it_needs_a_key_where_one_is_set(make_rig: Any) -> None:
    rig = await make_rig(token=SecretStr(TOKEN))
    assert problem(await rig.client.post("/bulk", json={"action": "cancel", "all": True})) == (401, "unauthorized")


def look_at_few(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.engine.control, "_bounds", Bounds(rows=4, first=2, seconds=60))


async def test_a_dry_run_counts_as_far_as_one_look_gets(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    look_at_few(rig, monkeypatch)
    for _ in range(10):
        await rig.submit()
    asked = {"filter": {"type": "sum"}, "dry_run": True}
    first = await act(rig, "cancel", **asked)
    second = await act(rig, "cancel", **asked, cursor=first[3])
    third = await act(rig, "cancel", **asked, cursor=second[3])
    assert (first[:3], second[:3], third) == ((4, 0, 0), (4, 0, 0), (2, 0, 0, None))
    assert await counted(rig) == {"sum pending": 10}
    reply = await rig.client.post("/bulk", json={"action": "cancel", "filter": {"type": "sum"}, "cursor": first[3]})
    assert problem(reply) == (422, "invalid-request"), "the cursor of a count is not one of an action"


async def test_an_action_counts_and_goes_on_over_any_number_of_looks(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.submit(queue="mine")
    for _ in range(10):
        await rig.submit()
    await rig.submit(queue="mine")
    look_at_few(rig, monkeypatch)
    asked = {"filter": {"type": "sum", "created_after": "2020-01-01T00:00:00Z"}}
    reply = await rig.client.post("/bulk", json={"action": "cancel", "at_most": 5, **asked})
    assert problem(reply) == (409, "conflict")
    assert "at least 8 such tasks, more than 5" in reply.json()["detail"]
    assert await act(rig, "cancel", filter={"tag": "none"}) == (0, 0, 0, None)
    assert await act(rig, "cancel", **asked, at_most=12) == (12, 12, 0, None)


async def test_a_count_that_takes_too_long_is_left_out(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "WITHIN", 0.0)
    look_at_few(rig, monkeypatch)
    for _ in range(6):
        await rig.submit()
    found = await act(rig, "cancel", all=True)
    done = found[1]
    assert found[0] is None
    while found[3] is not None:
        found = await act(rig, "cancel", all=True, cursor=found[3])
        done += found[1]
    assert done == 6
