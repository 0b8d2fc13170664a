"""POST /task/{task_id}/replay: a new task like another one, as it was or edited."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest

from tasker.rules.lifecycle import Cancelled, Failed, Outcome, Succeeded
from tasker.rules.lifecycle import problem as task_problem
from tests.api.conftest import Rig, problem

OPTIONS = {
    "queue": "q", "priority": 7, "timeout": 12.5, "retry": {"max_attempts": 4, "initial": 3, "jitter": False},
    "tags": ["a", "b"], "metadata": {"order": 5}, "delay": 60,
    "retention": 86400,
}  # fmt: skip


async def replay(rig: Rig, task_id: str, body: Any = None, **headers: str) -> httpx2.Response:
    return await rig.client.post(f"/task/{task_id}/replay", json=body, headers=headers)


async def claimed(rig: Rig, queue: str = "q") -> Any:
    [claim] = await rig.driver.claim(types=("sum", "echo", "named"), queues=(queue,))
    return claim


async def test_a_task_is_submitted_once_more(rig: Rig) -> None:
    first = await rig.submit(params={"a": 4, "b": 2}, **OPTIONS)
    reply = await rig.client.post(f"/task/{first}/replay")
    assert reply.status_code == 202
    task = reply.json()
    assert reply.headers["location"] == f"/task/{task['task_id']}"
    assert task["task_id"] != first
    assert task["replay_of"] == first
    assert (task["params"], task["queue"], task["priority"], task["tags"], task["metadata"], task["tries_left"]) == (
        {"a": 4, "b": 2}, "q", 7, ["a", "b"], {"order": 5}, 4,
    )  # fmt: skip
    assert (task["run_at"], task["reason"]) == (None, "queued"), "its time is not that of the first"
    assert (await rig.client.get(f"/task/{task['task_id']}")).json()["replay_of"] == first
    draft = await rig.engine.control.find_draft(UUID(task["task_id"]))
    assert draft is not None
    assert draft.retention == timedelta(days=1)
    policy = (await claimed(rig)).policy
    assert policy.timeout == timedelta(seconds=12.5)
    assert (policy.retry.max_attempts, policy.retry.initial, policy.retry.jitter) == (4, timedelta(seconds=3), False)


async def test_given_members_are_changed(rig: Rig) -> None:
    first = await rig.submit(**OPTIONS)
    edited = {"params": [1, 2], "queue": "other", "tags": [], "retry": {"initial": 9}, "delay": 5, "metadata": {"x": 1}}
    task = (await replay(rig, first, edited)).json()
    assert (task["params"], task["queue"], task["priority"], task["tags"], task["metadata"], task["reason"]) == (
        [1, 2], "other", 7, [], {"x": 1}, "scheduled",
    )  # fmt: skip
    rig.clock.advance(timedelta(seconds=5))
    policy = (await claimed(rig, "other")).policy
    assert (policy.retry.max_attempts, policy.retry.initial, policy.timeout) == (
        4, timedelta(seconds=9), timedelta(seconds=12.5),
    )  # fmt: skip
    task = (await replay(rig, first, {"params": None, "timeout": None, "priority": 0})).json()
    assert (task["params"], task["priority"]) == ([4, 2], 0)


async def test_retries_are_edited_in_part(rig: Rig) -> None:
    first = await rig.submit(queue="q", retry={"max_attempts": 4, "initial": 1000, "max": 2000})
    reply = await replay(rig, first, {"retry": {"initial": 2001}})
    assert reply.json()["errors"] == [{"pointer": "/retry/initial", "detail": "expected at most `max` (2,000 s)"}]
    again = (await replay(rig, first, {"retry": 7, "queue": "other"})).json()
    assert again["tries_left"] == 7
    policy = (await claimed(rig, "other")).policy.retry
    assert (policy.max_attempts, policy.initial, policy.max) == (7, timedelta(seconds=1000), timedelta(seconds=2000))


@pytest.mark.parametrize("outcome", [None, Succeeded(b"6"), Failed(task_problem("task-failed", "no")), Cancelled()])
async def test_a_task_in_any_status_is_replayed(rig: Rig, outcome: Outcome | None) -> None:
    first = await rig.submit()
    if outcome is not None:
        await rig.finish(outcome)
    before = (await rig.client.get(f"/task/{first}")).json()
    second = (await replay(rig, first)).json()["task_id"]
    third = (await replay(rig, second, {})).json()
    assert third["replay_of"] == second
    assert (await rig.client.get(f"/task/{first}")).json() == before
    await rig.finish()
    if outcome is not None:
        await rig.client.delete(f"/task/{first}")
        assert (await rig.client.get(f"/task/{second}")).json()["replay_of"] == first


@pytest.mark.parametrize(
    ("body", "expected", "pointers"),
    [
        ({"params": ["1"]}, "invalid-params", ["/params/0", "/params/1"]),
        ({"type": "sum"}, "unknown-field", ["/type"]),
        ({"task_id": "x"}, "unknown-field", ["/task_id"]),
        ({"priority": 500, "queue": ""}, "invalid-request", ["/priority", "/queue"]),
        ([4, 2], "invalid-request", [""]),
    ],
)
async def test_faults_are_those_of_a_submission(rig: Rig, body: Any, expected: str, pointers: list[str]) -> None:
    first = await rig.submit()
    reply = await replay(rig, first, body)
    assert problem(reply) == (422, expected)
    assert [fault["pointer"] for fault in reply.json()["errors"]] == pointers
    assert len((await rig.client.get("/task")).json()["items"]) == 1


async def test_there_must_be_such_a_task(rig: Rig) -> None:
    assert problem(await replay(rig, "0198f7a0-0000-7000-8000-000000000009")) == (404, "not-found")
    assert problem(await replay(rig, "nonsense")) == (404, "not-found")


async def test_the_same_request_again_is_one_task(rig: Rig) -> None:
    first, other = await rig.submit(), await rig.submit()
    replies = [await replay(rig, first, {"priority": 3}, **{"idempotency-key": "k"}) for _ in range(2)]
    assert replies[0].json() == replies[1].json()
    assert replies[1].headers["idempotency-replayed"] == "true"
    reply = await replay(rig, other, {"priority": 3}, **{"idempotency-key": "k"})
    assert problem(reply) == (422, "idempotency-key-reuse")
    reply = await rig.client.post("/task", json={"type": "sum", "params": [4, 2]}, headers={"idempotency-key": "k"})
    assert problem(reply) == (422, "idempotency-key-reuse")
    assert len((await rig.client.get("/task")).json()["items"]) == 3


async def test_a_replay_is_only_checked(rig: Rig) -> None:
    first = await rig.submit()
    reply = await replay(rig, first, {"priority": 3}, prefer="handling=validate")
    assert (reply.status_code, reply.headers["preference-applied"]) == (204, "handling=validate")
    assert len((await rig.client.get("/task")).json()["items"]) == 1


async def test_a_replay_is_waited_for(rig: Rig) -> None:
    reply = await replay(rig, await rig.submit(), prefer="wait=0")
    assert reply.headers["preference-applied"] == "wait=0"


async def test_a_replay_keeps_the_retention_forever(rig: Rig) -> None:
    for retention, expires in (("forever", False), (60, True)):
        body = {"type": "sum", "params": [4, 2], "retention": retention}
        original = (await rig.client.post("/task", json=body)).json()["task_id"]
        await rig.finish()
        replayed = (await rig.client.post(f"/task/{original}/replay")).json()["task_id"]
        await rig.finish()
        ended = (await rig.client.get(f"/task/{replayed}")).json()
        assert (ended["status"], ended["expires_at"] is not None) == ("completed", expires)
