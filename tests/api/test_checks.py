"""Checks of task types: however long they take, other requests are answered meanwhile."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from tasker import task
from tasker.errors import Fault
from tasker.model import Status, TaskFilter
from tasker.model.keys import ANYBODY
from tests.api.conftest import MakeRig, Rig

NAME = "checked"


@dataclass
class Check:
    """A task type's check that blocks until released, if asked to, and yields the requested faults.

    on_spin: called before it computes for ever.
    """

    go: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    threads: set[str] = field(default_factory=set)
    calls: int = 0
    on_spin: Callable[[], None] = lambda: None

    def __call__(self, how: str) -> Iterator[Fault]:
        self.calls += 1
        self.threads.add(threading.current_thread().name)
        self.begun.set()
        if how == "wait":
            self.go.wait()
        if how == "spin":
            self.on_spin()
        while how == "spin":
            pass
        if how == "bad":
            yield Fault("/how", "is bad")


@pytest.fixture
async def check(rig: Rig) -> AsyncIterator[Check]:
    check = Check()

    async def checked(how: str) -> str:
        return how

    rig.service.registry.add(task(name=NAME, check=check, example=["good"])(checked))
    check.threads.clear()
    check.begun.clear()
    check.calls = 0
    yield check
    check.go.set()


def body(how: str) -> dict[str, Any]:
    return {"type": NAME, "params": [how]}


async def begun(check: Check) -> None:
    async with asyncio.timeout(30):
        while not check.begun.is_set():
            await asyncio.sleep(0.01)


async def send(rig: Rig, way: str, how: str) -> httpx2.Response:
    """Submit in one of the possible ways; return the reply."""
    client = rig.client
    match way:
        case "submit":
            return await client.post("/task", json=body(how))
        case "params":
            return await client.post(f"/type/{NAME}/task", json=[how])
        case "put":
            return await client.put("/task/01a228e5-1f5d-7343-a5a7-018951a81038", json=body(how))
        case "validate":
            return await client.post("/task", json=body(how), headers={"prefer": "handling=validate"})
        case "batch":
            return await client.post("/batch", json=[body(how)])
        case "lines":
            headers = {"content-type": "application/jsonl"}
            return await client.post("/batch", json=body(how), headers=headers)
        case "schedule":
            return await client.post("/schedule", json={"name": how, "interval": 60, "task": body(how)})
        case "patch":
            made = (await client.post("/schedule", json={"name": "n", "interval": 60, "task": body("good")})).json()
            return await client.patch(f"/schedule/{made['schedule_id']}", json={"task": body(how)})
        case _:
            task_id = (await client.post("/task", json=body("good"))).json()["task_id"]
            return await client.post(f"/task/{task_id}/replay", json={"params": [how]})


def problem_of(reply: httpx2.Response) -> Any:
    """Return why a submission was refused, by itself or in a batch."""
    found = json.loads(reply.text.splitlines()[0])
    return found.get("items", [found])[0].get("problem", found)


WAYS = ("submit", "params", "put", "validate", "batch", "lines", "schedule", "patch", "replay")


@pytest.mark.parametrize("way", WAYS)
async def test_other_requests_are_answered_during_a_slow_check(rig: Rig, check: Check, way: str) -> None:
    sending = asyncio.create_task(send(rig, way, "wait"))
    while not check.go.is_set():
        await begun(check)
        assert (await rig.client.get("/livez")).status_code == 200
        assert (await rig.client.post("/task", json={"type": "sum", "params": [4, 2]})).status_code == 202
        assert not sending.done()
        check.go.set()
    assert (await sending).is_success
    assert check.threads == {"tasker-check"}


async def test_a_request_runs_the_check_once(rig: Rig, check: Check) -> None:
    for way, calls in (("submit", 1), ("schedule", 1), ("patch", 2)):  # a patch follows the schedule that it changes
        check.calls = 0
        assert (await send(rig, way, "good")).is_success
        assert check.calls == calls


@pytest.mark.parametrize("way", WAYS)
async def test_faults_of_a_check_are_reported(rig: Rig, check: Check, way: str) -> None:
    reply = await send(rig, way, "bad")
    problem = problem_of(reply)
    assert problem["type"] == "/problems/invalid-params"
    assert problem["errors"][0]["detail"] == "is bad"


@pytest.mark.parametrize("way", WAYS)
async def test_a_check_times_out(rig: Rig, check: Check, way: str) -> None:
    """The others have as long as ever, for a machine may be busy."""
    threads = rig.service.submissions._reading.threads
    check.on_spin = lambda: setattr(threads, "within", 0.3)
    reply = await send(rig, way, "spin")
    threads.within = 30
    problem = problem_of(reply)
    assert (problem["type"], problem["status"]) == ("/problems/invalid-params", 422)
    [fault] = problem["errors"]
    place = {"params": "", "schedule": "/task/params", "patch": "/task/params"}.get(way, "/params")
    assert fault == {"pointer": place, "detail": "cannot be checked: that takes more than 0.3 s; send smaller ones"}
    assert (await send(rig, "submit", "good")).status_code == 202


async def test_another_owner_does_not_wait(make_rig: MakeRig) -> None:
    rig, check = await make_rig(), Check()

    async def checked(how: str) -> str:
        return how

    rig.service.registry.add(task(name=NAME, check=check, example=["good"])(checked))
    check.begun.clear()
    one, other = await rig.key("submit", owner="one"), await rig.key("submit", owner="other")
    slow = asyncio.create_task(rig.client.post("/task", json=body("wait"), headers=one))
    await begun(check)
    after = asyncio.create_task(rig.client.post("/task", json=body("good"), headers=one))
    assert (await rig.client.post("/task", json=body("good"), headers=other)).status_code == 202
    assert not after.done()
    check.go.set()
    assert [reply.status_code for reply in await asyncio.gather(slow, after)] == [202, 202]


async def test_a_trigger_checks_in_a_thread_too(rig: Rig, check: Check) -> None:
    made = (await send(rig, "schedule", "good")).json()
    check.threads.clear()
    assert (await rig.client.post(f"/schedule/{made['schedule_id']}/trigger")).status_code == 202
    assert check.threads == {"tasker-check"}


async def fired(rig: Rig) -> int:
    await rig.service.schedules.run_once()
    page = await rig.service.tasks.find_many(ANYBODY, TaskFilter(status=(Status.PENDING,)), limit=50, cursor=None)
    return len(page.items)


async def test_other_schedules_do_not_wait_for_a_slow_check(rig: Rig, check: Check) -> None:
    made = await rig.client.post(
        "/schedule", json={"name": "quick", "interval": 60, "task": {"type": "sum", "params": [4, 2]}}
    )
    assert made.status_code == 201
    sending = asyncio.create_task(send(rig, "schedule", "wait"))
    await begun(check)
    check.go.set()
    assert (await sending).status_code == 201
    check.go.clear()
    check.begun.clear()
    rig.clock.advance(timedelta(seconds=60))
    assert await fired(rig) == 1, "the one without a check"
    check.go.set()
    async with asyncio.timeout(30):
        while await fired(rig) == 1:
            await asyncio.sleep(0.01)
    assert await fired(rig) == 2
    assert check.threads == {"tasker-check"}


async def test_a_tick_whose_check_never_ends_is_refused(rig: Rig, check: Check) -> None:
    made = (await send(rig, "schedule", "good")).json()
    rig.service.submissions._reading.threads.within = 0.3
    stored = await rig.engine.schedules.find_many(owner=None, name=None, limit=1, cursor=None)
    assert str(stored.items[0].schedule_id) == made["schedule_id"]

    def spin(_self: Check, how: str) -> Iterator[Fault]:
        while True:
            pass
        yield Fault("", how)

    object.__setattr__(rig.service.registry.find(NAME), "_check", lambda how: spin(check, how))
    rig.clock.advance(timedelta(seconds=60))
    async with asyncio.timeout(30):
        while (skip := (await rig.client.get(f"/schedule/{made['schedule_id']}")).json()["last_skip"]) is None:
            await rig.service.schedules.run_once()
    assert skip["reason"] == "refused"
    assert "takes more than 0.3 s" in skip["detail"]


PLAIN_WAYS = {
    "schedule": ("POST", "/schedule", {"name": "t", "interval": 60, "task": {"type": "sum", "params": [1, 2]}}),
    "schedule of no type": ("POST", "/schedule", {"name": "u", "interval": 60, "task": {"type": "none"}}),
    "patch": ("PATCH", "/schedule/{schedule}", {"paused": True}),
    "patch of the task": ("PATCH", "/schedule/{schedule}", {"task": {"type": "sum", "params": [3, 4]}}),
    "replay": ("POST", "/task/{task}/replay", {}),
    "submit": ("POST", "/task", {"type": "sum", "params": [1, 2]}),
}


@pytest.mark.parametrize("way", PLAIN_WAYS)
async def test_types_without_a_check_need_no_thread(rig: Rig, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await rig.client.post(
        "/schedule", json={"name": "s", "interval": 60, "task": {"type": "sum", "params": [1, 2]}}
    )
    schedule_id, task_id = made.json()["schedule_id"], await rig.submit()

    async def full(*_: Any) -> Any:
        raise AssertionError("a thread was asked for")

    monkeypatch.setattr(rig.service.submissions._reading.threads, "run", full)
    method, path, given = PLAIN_WAYS[way]
    reply = await rig.client.request(method, path.format(schedule=schedule_id, task=task_id), json=given)
    if way == "schedule of no type":
        assert problem_of(reply)["errors"][0]["pointer"] == "/task/type"
    else:
        assert reply.is_success


async def test_large_bodies_waiting_for_checks_leave_buffers_to_other_owners(make_rig: MakeRig) -> None:
    rig, check = await make_rig(max_buffered=8 << 20), Check()

    async def checked(how: str, rest: str = "") -> str:
        return how

    rig.service.registry.add(task(name=NAME, check=lambda how, rest: check(how), example=["good"])(checked))
    check.begun.clear()
    one, other = await rig.key("submit", owner="one"), await rig.key("submit", owner="other")
    large = {"type": NAME, "params": ["wait", "x" * 900_000]}
    first = asyncio.create_task(rig.client.post("/task", json=large, headers=one))
    await begun(check)
    more = [asyncio.create_task(rig.client.post("/task", json=large, headers=one)) for _ in range(11)]
    done, _ = await asyncio.wait(more, return_when=asyncio.FIRST_COMPLETED)
    refused = done.pop().result()
    assert problem_of(refused)["type"] == "/problems/unavailable"
    assert "of the same owner" in problem_of(refused)["detail"]
    assert refused.headers["retry-after"] == "1"
    large = {"type": "reverse", "params": ["x" * 900_000]}
    assert (await rig.client.post("/task", json=large, headers=other)).status_code == 202
    check.go.set()
    statuses = [reply.status_code for reply in await asyncio.gather(first, *more)]
    assert sorted(statuses) == [202] * 4 + [503] * 8
