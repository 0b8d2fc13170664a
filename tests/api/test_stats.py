"""GET /stats: what happened to tasks in a window of time, and how many are open."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from tasker.model.stats import WINDOWS
from tasker.rules.lifecycle import Failed, Succeeded
from tasker.rules.lifecycle import problem as task_problem
from tasker.service.stats import MOST_GROUPS
from tasker.testing import make_draft
from tests.api.conftest import Rig, problem


async def run(rig: Rig, seconds: float, *, fails: bool = False) -> None:
    """Run a `sum` that waits for 2 s and takes `seconds`."""
    await rig.submit("sum", [4, 2])
    rig.clock.advance(timedelta(seconds=2))
    claim = await rig.driver.claim_one(types=("sum",))
    rig.clock.advance(timedelta(seconds=seconds))
    outcome = Failed(task_problem("task-failed", "no")) if fails else Succeeded(b"6")
    assert await rig.driver.finish(claim, outcome)


async def stats(rig: Rig, query: str = "") -> dict[str, Any]:
    reply = await rig.client.get(f"/stats{query}")
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


async def test_a_window_has_totals_steps_times_and_open_tasks(rig: Rig) -> None:
    for seconds in (1, 1, 4):
        await run(rig, seconds)
    await run(rig, 1, fails=True)
    await rig.submit("sum", [4, 2])
    await rig.submit("sum", [4, 2], delay=60)
    body = await stats(rig)
    assert (body["window"], body["group"], body["step"], body["items"]) == ("1h", "none", 60, [])
    total = body["total"]
    assert [total[name] for name in ("submitted", "started", "completed", "failed", "cancelled", "retried")] == [
        6, 4, 3, 1, 0, 0,
    ]  # fmt: skip
    assert total["run"]["mean"] == 1.75
    assert 0.8 <= total["run"]["p50"] <= 1.4
    assert 2.6 <= total["run"]["p95"] <= 4.4
    assert total["wait"]["mean"] == 2
    assert body["before"]["submitted"] == 0
    assert body["before"]["run"] == {"mean": None, "p50": None, "p95": None}
    assert {name: len(steps) for name, steps in body["series"].items()} == dict.fromkeys(body["series"], 60)
    assert body["series"]["submitted"] == [0] * 59 + [6]
    assert body["series"]["run_p95"][:59] == [None] * 59
    oldest = body["open"].pop("oldest_due_at")
    assert body["open"] == {"pending": 1, "later": 1, "running": 0}
    assert datetime.fromisoformat(oldest) == rig.clock.now()


async def test_the_window_before_is_compared_with(rig: Rig) -> None:
    await run(rig, 1)
    rig.clock.advance(timedelta(hours=1))
    await run(rig, 1)
    body = await stats(rig, "?group=type")
    assert (body["total"]["completed"], body["before"]["completed"]) == (1, 1)
    [item] = body["items"]
    assert (item["name"], item["total"]["completed"], item["before"]["completed"]) == ("sum", 1, 1)
    assert sum(item["series"]["completed"]) == 1
    day = await stats(rig, "?window=24h")
    assert (day["step"], day["total"]["completed"], sum(day["series"]["completed"])) == (3600, 2, 2)


@pytest.mark.parametrize("window", WINDOWS)
async def test_every_window_ends_with_the_step_under_way(rig: Rig, window: str) -> None:
    await rig.submit("sum", [4, 2])
    body = await stats(rig, f"?window={window}")
    assert body["series"]["submitted"][-1] == 1
    assert body["from"] < rig.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ") < body["to"]


async def test_types_queues_and_owners_are_told_apart(rig: Rig) -> None:
    now = rig.clock.now()
    drafts = [make_draft(now, type=type_, queue=queue) for type_, queue in (("sum", "a"), ("sum", "b"), ("gpt", "b"))]
    await rig.engine.submit([structs.replace(drafts[0], owner="ada"), *drafts[1:]])
    by_queue = await stats(rig, "?group=queue&type=sum")
    assert [(item["name"], item["total"]["submitted"], item["open"]["pending"]) for item in by_queue["items"]] == [
        ("a", 1, 1), ("b", 1, 1),
    ]  # fmt: skip
    assert by_queue["total"]["submitted"] == by_queue["open"]["pending"] == 2
    own = await stats(rig, "?owner=ada&group=type")
    assert [(item["name"], item["open"]["pending"]) for item in own["items"]] == [("sum", 1)]
    assert (await stats(rig, "?queue=b"))["open"]["pending"] == 2
    assert (await stats(rig, "?owner=nobody"))["total"]["submitted"] == 0


async def test_the_busiest_groups_are_shown_and_all_are_counted(rig: Rig) -> None:
    names = [f"q{number:03}" for number in range(MOST_GROUPS + 5)]
    drafts = [make_draft(rig.clock.now(), queue=name) for name in (*names, *names[5:])]
    await rig.engine.submit(drafts)
    body = await stats(rig, "?group=queue")
    assert [item["name"] for item in body["items"]] == names[5:]
    assert body["total"]["submitted"] == body["open"]["pending"] == len(drafts)


@pytest.mark.parametrize(
    ("query", "name", "pointer"),
    [
        ("window=2h", "invalid-request", "/window"),
        ("group=owner", "invalid-request", "/group"),
        ("type=", "invalid-request", "/type"),
        ("since=1", "unknown-field", "/since"),
    ],
)
async def test_bad_queries_are_named(rig: Rig, query: str, name: str, pointer: str) -> None:
    reply = await rig.client.get(f"/stats?{query}")
    assert problem(reply) == (422, name)
    assert [fault["pointer"] for fault in reply.json()["errors"]] == [pointer]
