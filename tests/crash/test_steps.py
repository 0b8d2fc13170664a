"""Kill the service at every point of a function that waits, at random moments, and freeze it past its lease.

What a step did is a line in a file outside: once for each step, but for an attempt that died between the effect and the
store of its step.
"""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from time import sleep
from typing import Any

import httpx2
import pytest

from tests.postgres import Cluster
from tests.server import Server
from tests.steps.house import ENDED, Home, House, check_effects, until

KILLS = int(os.environ.get("TASKER_TEST_KILLS", "6"))
"""Random kills; half as many on PostgreSQL, where each starts four processes."""
ORDERS = 8 if KILLS < 20 else 2
"""Tasks submitted before each of them."""

pytestmark = [pytest.mark.crash, pytest.mark.timeout(280 if KILLS < 20 else 3600)]

SHORT = {"TASKER_LEASE": "2", "TASKER_HEARTBEAT": "0.5", "TASKER_DRAIN": "3", "TASKER_PROCESSES": "2"}
INSIDE = [
    "began", "step began", "effect done", "step stored", "child runs", "children done", "sleep parks", "slept",
    "question parks", "answered", "spawned",
]  # fmt: skip
"""Points at which the function kills its service."""
OUTSIDE = ["sleeping", "waiting_for_children", "input_required", "just answered"]
"""Points at which the test does it: while the task is parked, and as soon as its question is answered."""
POINTS = [*INSIDE, *OUTSIDE]
ON_SQLITE = [
    "effect done", "step stored", "child runs", "children done", "sleep parks", "question parks", "sleeping",
    "just answered",
]  # fmt: skip
ON_POSTGRES = ["effect done"]
"""Those that are tried by default: each takes several starts of the service. All of them: TASKER_TEST_KILLS=20."""
TRIED = [
    *(("sqlite", point) for point in (ON_SQLITE if KILLS < 20 else POINTS)),
    *(("postgres", point) for point in (ON_POSTGRES if KILLS < 20 else POINTS)),
]


@pytest.fixture(params=["sqlite", "postgres"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    cluster: Cluster | None = None if request.param == "sqlite" else request.getfixturevalue("cluster")
    return House(tmp_path, cluster, **SHORT)


@pytest.mark.parametrize(("house", "point"), TRIED, indirect=["house"])
def test_a_kill_at_any_point_changes_nothing(house: House, point: str) -> None:
    """The points take turns between `async def` and `def`, on one engine the other way round than on the other."""
    is_def = (POINTS.index(point) + house.is_shared) % 2
    type_ = "onboard_in_child" if is_def else "onboard"
    order = {"id": "o-1", "total": 30, "pages": [1, 2, 3], "pause": 1.2, "point": point}
    with house.open() as (home, service):
        task_id = home.submit(type_, order)
        if point in OUTSIDE:
            _drive(home, task_id, point)
            service.kill()
        else:
            _drive(home, task_id, None, service)
            assert service.process.wait(30) == -signal.SIGKILL
    with house.open() as (home, _):
        _drive(home, task_id, None)
        done = home.end(task_id)
        family = [done, *(home.get(child["task_id"]) for child in home.children(task_id))]
        for child in family[1:]:
            home.end(child["task_id"])
        family = [home.get(task["task_id"]) for task in family]
    effects = house.effects()
    charged = [line["nonce"] for line in effects if line["what"] == "charge"]
    assert done["status"] == "completed", done
    assert done["result"]["paid"] == f"30 by {charged[-1]}"
    assert done["result"]["pages"] == ["page 1", "page 2", "page 3"]
    assert done["result"]["approved"] is True
    assert len(family) == 6, "no child was started twice"
    assert {task["status"] for task in family} == {"completed"}
    check_effects(effects, {task["task_id"]: task for task in family})
    assert len(charged) == (2 if point == "effect done" else 1)
    assert done["tries_left"] == 0


def _drive(home: Home, task_id: str, point: str | None, service: Server | None = None) -> None:
    """Answer the task's question as soon as it asks; return at the point, once the task has ended, or the service."""

    def is_there() -> bool:
        try:
            return step()
        except httpx2.HTTPError:
            if service is None:
                raise
            return service.process.wait(30) is not None

    def step() -> bool:
        if service is not None and service.process.poll() is not None:
            return True
        task = home.get(task_id)
        if task["status"] in ENDED or (point is not None and task["reason"] == point):
            return True
        if task.get("input") and (task["status"] == "pending" or point != "input_required"):
            home.answer(task_id, "approve", True)
            return point == "just answered"
        return False

    until(is_there, f"{task_id} never came to {point or 'its end'}")


@pytest.mark.parametrize("house", ["sqlite", pytest.param("postgres", marks=pytest.mark.long)], indirect=True)
def test_random_kills_under_load_do_each_step_once(house: House) -> None:
    submitted: list[str] = []
    kinds = ["busy", "busy_in_child"]
    for _ in range(KILLS // 2 if house.is_shared else KILLS):
        with house.open() as (home, service):
            submitted += [home.submit(kinds[number % 2], number) for number in range(ORDERS)]
            sleep(random.uniform(0.05, 0.6))  # the moment is the point: no event stands for it
            service.kill()
    with house.open() as (home, _):
        roots = [home.end(task_id, limit=120) for task_id in submitted]
        children = [home.get(child["task_id"]) for root in roots for child in home.children(root["task_id"])]
    assert {task["status"] for task in (*roots, *children)} == {"completed"}
    assert len(children) == 4 * len(roots), "no child was started twice"
    effects = house.effects()
    tasks = {task["task_id"]: task for task in (*roots, *children)}
    again = check_effects(effects, tasks)
    last = {(line["task_id"], line["what"]): line["nonce"] for line in effects}
    assert len(last) == 4 * len(roots) + len(children), "each step has left its effect"
    for root in roots:
        assert set(root["result"]) <= set(last.values()), "a result is that of the attempt that stored it"
    assert any("interrupted" in _endings(task) for task in tasks.values()), "no attempt was cut off"
    print(f"{KILLS} kills, {len(tasks)} tasks, {len(effects)} effects, {again} repeated by attempts that died")


def _endings(task: dict[str, Any]) -> set[str]:
    return {attempt["ending"] for attempt in task["attempts"]}


def test_a_worker_frozen_past_its_lease_stores_no_step(tmp_path: Path, cluster: Cluster) -> None:
    """It holds a step; meanwhile another worker does the step, and is first to store it."""
    house = House(tmp_path, cluster, **SHORT)
    with house.open() as (home, frozen):
        task_id = home.submit("gated")
        until(lambda: len(house.effects()) == 1, "the step never began")
        os.kill(frozen.process.pid, signal.SIGSTOP)
        (tmp_path / f"{task_id}.1.open").touch()
        with house.worker("second"):
            until(lambda: len(house.effects()) == 2, "nobody took the task over")
            os.kill(frozen.process.pid, signal.SIGCONT)  # its step ends now, and so does its attempt
            until(lambda: "superseded" in frozen.text(), "the first worker never noticed", limit=20)
            assert home.get(task_id)["steps"] == [], "a late store has changed something"
            (tmp_path / f"{task_id}.2.open").touch()
            done = home.end(task_id)
    first, second = (line["nonce"] for line in house.effects())
    assert first != second
    assert (done["status"], done["result"], done["attempt"]) == ("completed", second, 2)
    assert [step["value"] for step in done["steps"]] == [second]
