"""Limits on what one owner may have of each kind: nothing beyond the limit is stored, however it is submitted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from time import process_time
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from pydantic import SecretStr

from tasker.model import Status, TaskFilter
from tasker.model.webhooks import MAX_WEBHOOKS_OF_TASK
from tasker.rules.lifecycle import Succeeded
from tasker.service import keys, webhooks
from tests.api.conftest import TOKEN, MakeRig, Rig, problem
from tests.api.test_scopes import operations
from tests.cost import TRIES, grows, no_collector

__all__ = ["no_collector"]

FULL = (409, "limit-reached")
WEBHOOK = {"url": "https://example.org/hook"}
Case = Callable[[Rig], Awaitable[httpx2.Response]]


def sum_in(queue: str, **options: Any) -> dict[str, Any]:
    return {"type": "sum", "params": [4, 2], "queue": queue, **options}


def schedule(name: str, queue: str = "default", **fields: Any) -> dict[str, Any]:
    return {"name": name, "interval": 3600, "task": sum_in(queue)} | fields


async def fill_queues(rig: Rig) -> None:
    for queue in ("a", "b"):
        await rig.submit(queue=queue)


async def submit_task(rig: Rig) -> httpx2.Response:
    await fill_queues(rig)
    return await rig.client.post("/task", json=sum_in("c"))


async def submit_params(rig: Rig) -> httpx2.Response:
    await fill_queues(rig)
    return await rig.client.post("/type/sum/task", json=[4, 2])


async def put_task(rig: Rig) -> httpx2.Response:
    await fill_queues(rig)
    return await rig.client.put(f"/task/{uuid4()}", json=sum_in("c"))


async def submit_batch(rig: Rig) -> httpx2.Response:
    lines = [sum_in(queue) for queue in ("a", "b", "c", "a", "d")]
    return await rig.client.post("/batch", json=lines)


async def replay_task(rig: Rig) -> httpx2.Response:
    task_id = await rig.submit()
    await rig.finish()
    await fill_queues(rig)
    return await rig.client.post(f"/task/{task_id}/replay", json={"queue": "c"})


async def cancelled_in(rig: Rig, queue: str) -> str:
    task_id = await rig.submit(queue=queue)
    assert (await rig.client.post(f"/task/{task_id}/cancel")).status_code == 200
    return task_id


async def retry_task(rig: Rig) -> httpx2.Response:
    task_id = await cancelled_in(rig, "c")
    await fill_queues(rig)
    return await rig.client.post(f"/task/{task_id}/retry")


async def act_on_tasks(rig: Rig) -> httpx2.Response:
    await cancelled_in(rig, "c")
    await fill_queues(rig)
    return await rig.client.post("/bulk", json={"action": "retry", "filter": {"queue": "c"}})


async def trigger_schedule(rig: Rig) -> httpx2.Response:
    made = await rig.client.post("/schedule", json=schedule("s", "c"))
    await fill_queues(rig)
    return await rig.client.post(f"/schedule/{made.json()['schedule_id']}/trigger")


async def create_schedule(rig: Rig) -> httpx2.Response:
    assert (await rig.client.post("/schedule", json=schedule("one"))).status_code == 201
    return await rig.client.post("/schedule", json=schedule("two"))


async def change_schedule(rig: Rig) -> httpx2.Response:
    made = await rig.client.post("/schedule", json=schedule("one"))
    return await rig.client.patch(f"/schedule/{made.json()['schedule_id']}", json={"interval": 9})


async def create_webhook(rig: Rig) -> httpx2.Response:
    assert (await rig.client.post("/webhook", json=WEBHOOK)).status_code == 201
    return await rig.client.post("/webhook", json=WEBHOOK)


async def create_key(rig: Rig) -> httpx2.Response:
    return await rig.client.post("/key", json={"scopes": ["read"]})


async def change_queue(rig: Rig) -> httpx2.Response:
    for name in ("a", "b"):
        assert (await rig.client.patch(f"/queue/{name}", json={"paused": True})).status_code == 200
    return await rig.client.patch("/queue/c", json={"paused": True})


def per_line(reply: httpx2.Response) -> list[tuple[int, str]]:
    """Return the problems of the lines of a batch that exceed the limit."""
    refused = [item for item in reply.json()["items"] if item["status"] != 202]
    assert [item["index"] for item in refused] == [2, 4]
    return [(item["status"], item["problem"]["type"].removeprefix("/problems/")) for item in refused]


def skipped(reply: httpx2.Response) -> tuple[int, int]:
    return reply.json()["done"], reply.json()["skipped"]


CASES: dict[str, tuple[Case, Callable[[httpx2.Response], Any], Any]] = {
    "submit_task": (submit_task, problem, FULL),
    "submit_params": (submit_params, problem, FULL),
    "put_task": (put_task, problem, FULL),
    "submit_batch": (submit_batch, per_line, [FULL, FULL]),
    "replay_task": (replay_task, problem, FULL),
    "retry_task": (retry_task, problem, FULL),
    "act_on_tasks": (act_on_tasks, skipped, (0, 1)),
    "trigger_schedule": (trigger_schedule, problem, FULL),
    "create_schedule": (create_schedule, problem, FULL),
    "change_schedule": (change_schedule, problem, (422, "invalid-request")),
    "create_webhook": (create_webhook, problem, FULL),
    "create_key": (create_key, problem, FULL),
    "change_queue": (change_queue, problem, FULL),
}
"""By operation: a request that exceeds the limit, how to read its reply, and what it must say."""
MAKE_NOTHING = {
    "cancel_group": "a bulk action, which is erased after a while, as one that act_on_tasks makes",
    "stop_bulk": "a bulk action that is there",
    "undo_bulk": "a bulk action, which is erased after a while, as one that act_on_tasks makes",
    "cancel_task": "a task that is there",
    "answer_task": "a question that is there",
    "change_webhook": "a webhook that is there",
    "rotate_secret": "a webhook that is there, and two secrets at the most",
    "redeliver": "a delivery that is there",
}


async def test_every_operation_that_creates_something_has_a_case(rig: Rig) -> None:
    """This fails for a new one until it has a limit, and a case here."""
    making = {one.name for one in operations(rig) if one.method in ("POST", "PUT", "PATCH")}
    assert making == CASES.keys() | MAKE_NOTHING.keys()


@pytest.mark.parametrize("name", sorted(CASES))
async def test_nothing_is_stored_beyond_the_limit(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    rig = await make_rig(max_queues=2, max_schedules=1, min_interval=timedelta(seconds=10))
    monkeypatch.setattr(webhooks, "MAX_WEBHOOKS", 1)
    monkeypatch.setattr(keys, "MAX_KEYS", 0)
    case, read, expected = CASES[name]
    assert read(await case(rig)) == expected
    open_ = await rig.engine.find_many(TaskFilter(status=(Status.PENDING, Status.RUNNING)), limit=99)
    assert {task.queue for task in open_.items} <= {"a", "b"}
    page = await rig.engine.schedules.find_many(limit=9)
    assert [one.interval for one in page.items] in ([], [timedelta(hours=1)])
    assert len((await rig.engine.webhooks.find_many(owner=None, limit=9)).items) <= 1
    assert await rig.engine.keys.find_all() == []
    assert {state.settings.name for state in await rig.engine.queues.find_all()} <= {"a", "b"}


@pytest.mark.parametrize("name", ["submit_task", "put_task", "create_schedule", "change_queue"])
async def test_the_problem_names_the_setting(make_rig: MakeRig, name: str) -> None:
    rig = await make_rig(max_queues=2, max_schedules=1)
    detail = (await CASES[name][0](rig)).json()["detail"]
    assert ("TASKER_MAX_SCHEDULES" if "schedule" in name else "TASKER_MAX_QUEUES") in detail


async def test_a_tick_beyond_the_limit_is_skipped_with_a_reason(make_rig: MakeRig) -> None:
    rig = await make_rig(max_queues=2)
    made = (await rig.client.post("/schedule", json=schedule("s", "c"))).json()
    await fill_queues(rig)
    rig.clock.advance(timedelta(hours=1))
    await rig.service.schedules.run_once()
    skip = (await rig.client.get(made["links"]["self"])).json()["last_skip"]
    assert (skip["reason"], "TASKER_MAX_QUEUES" in skip["detail"]) == ("refused", True)
    assert (await rig.client.get("/task?queue=c")).json()["items"] == []


async def test_open_queues_accept_tasks_and_empty_queues_do_not_count(make_rig: MakeRig) -> None:
    rig = await make_rig(max_queues=2)
    await fill_queues(rig)
    await rig.submit(queue="b")
    assert problem(await rig.client.post("/task", json=sum_in("c"))) == FULL
    claims = await rig.driver.claim(9, queues=["a"])
    assert problem(await rig.client.post("/task", json=sum_in("c"))) == FULL  # what runs is open
    for claim in claims:
        await rig.driver.finish(claim, Succeeded(b"6"))
    await rig.submit(queue="c")
    assert problem(await rig.client.post("/task", json=sum_in("a"))) == FULL


async def test_concurrent_requests_do_not_exceed_the_limit(make_rig: MakeRig) -> None:
    """Requests in progress count, also while the store is being read."""
    rig = await make_rig(max_queues=5)
    replies = await asyncio.gather(*(rig.client.post("/task", json=sum_in(f"q{place % 40}")) for place in range(80)))
    accepted = [reply.json()["queue"] for reply in replies if reply.status_code == 202]
    assert len(set(accepted)) == 5
    assert {reply.status_code for reply in replies} == {202, 409}
    assert len((await rig.client.get("/queue")).json()["items"]) == 5


async def test_each_owner_has_a_limit_of_its_own(make_rig: MakeRig) -> None:
    rig = await make_rig(max_queues=2, max_schedules=1, token=SecretStr(TOKEN))
    alice, bob = [await rig.key("submit", "read", owner=name) for name in ("alice", "bob")]
    for who in (alice, bob):
        for queue in ("a", "b"):
            assert (await rig.client.post("/task", json=sum_in(queue), headers=who)).status_code == 202
        assert (await rig.client.post("/schedule", json=schedule("s"), headers=who)).status_code == 201
        assert problem(await rig.client.post("/schedule", json=schedule("t"), headers=who)) == FULL
        assert problem(await rig.client.post("/task", json=sum_in("z"), headers=who)) == FULL


async def test_an_idempotent_request_is_replayed_at_the_limit(make_rig: MakeRig) -> None:
    rig = await make_rig(max_queues=2)
    own_id, keyed = str(uuid4()), {"idempotency-key": "k"}
    first = await rig.client.post("/task", json=sum_in("c"), headers=keyed)
    assert (await rig.client.put(f"/task/{own_id}", json=sum_in("c"))).status_code == 201
    for _ in range(2):
        await rig.finish()
    await fill_queues(rig)
    again = await rig.client.post("/task", json=sum_in("c"), headers=keyed)
    assert (again.status_code, again.json()["task_id"]) == (202, first.json()["task_id"])
    assert (await rig.client.put(f"/task/{own_id}", json=sum_in("c"))).status_code == 200
    assert problem(await rig.client.post("/task", json=sum_in("c"), headers={"idempotency-key": "other"})) == FULL


async def test_the_shortest_interval_applies_to_cron_too(make_rig: MakeRig) -> None:
    rig = await make_rig(min_interval=timedelta(minutes=5))
    for cron, status in (("*/5 * * * *", 201), ("0,4 2 * * *", 422), ("30 2 * * *", 201)):
        body = {"name": cron, "cron": cron, "task": sum_in("default")}
        reply = await rig.client.post("/schedule", json=body)
        assert reply.status_code == status, reply.text
    reply = await rig.client.post("/schedule", json=schedule("i", interval=299))
    assert [error["pointer"] for error in reply.json()["errors"]] == ["/interval"]


async def test_the_webhooks_of_an_open_task_are_limited(rig: Rig) -> None:
    for place in range(MAX_WEBHOOKS_OF_TASK):
        body = sum_in("a", unique_key="u", webhook={"url": f"https://example.org/{place}"})
        assert (await rig.client.post("/task", json=body)).status_code == 202
    known = sum_in("a", unique_key="u", webhook={"url": "https://example.org/0"})
    assert (await rig.client.post("/task", json=known)).status_code == 202
    more = sum_in("a", unique_key="u", webhook={"url": "https://example.org/more"})
    assert problem(await rig.client.post("/task", json=more)) == FULL
    [task] = (await rig.engine.find_many(TaskFilter(), limit=9)).items
    assert len(await rig.engine.webhooks.find_subscriptions({task.task_id})) == MAX_WEBHOOKS_OF_TASK


async def queues_of(rig: Rig, number: int, start: int = 0) -> None:
    lines = [sum_in(f"q{start + place:06}") for place in range(number)]
    assert (await rig.client.post("/batch", json=lines)).json()["accepted"] == number


async def test_four_times_as_many_queues_take_four_times_as_long(make_rig: MakeRig, no_collector: None) -> None:
    """The cost of all pages is linear (by the square it were 16 times as much), and that of one page constant."""
    rigs = {number: await make_rig(max_queues=100_000) for number in (1000, 4000)}
    for number, rig in rigs.items():
        await queues_of(rig, number)

    async def read(number: int, pages: int) -> float:
        """Read at most so many pages; return the processor time that it took, in seconds."""
        count, path, begun = 0, "/queue?limit=500", process_time()
        while path and pages:
            reply = await rigs[number].client.get(path)
            count, pages = count + len(reply.json()["items"]), pages - 1
            path = reply.links.get("next", {}).get("url", "")
        assert path or count == number
        return process_time() - begun

    assert not await grows(lambda number: read(number, 99), 1000, 0)
    few = many = float("inf")
    for _ in range(TRIES):
        few, many = min(few, await read(1000, 1)), min(many, await read(4000, 1))
        if many < 2 * few:
            return
    pytest.fail(f"a page takes {many * 1e3:.1f} ms, with few queues {few * 1e3:.1f} ms")


async def test_pages_of_queues_hold_every_queue_once(make_rig: MakeRig) -> None:
    rig = await make_rig()
    await queues_of(rig, 7)
    await rig.driver.claim(9, queues=["q000003"])  # runs: nothing of it is pending
    await rig.client.patch("/queue/q0000025", json={"paused": True})  # has settings alone
    expected = sorted([*(f"q{place:06}" for place in range(7)), "q0000025"])
    names, path = [], "/queue?limit=3"
    while path:
        reply = await rig.client.get(path)
        names += [item["name"] for item in reply.json()["items"]]
        assert (reply.json()["next_cursor"] is None) == ("next" not in reply.links)
        path = reply.links.get("next", {}).get("url", "")
    assert names == expected
    assert problem(await rig.client.get("/queue?cursor=nonsense!")) == (422, "invalid-request")
