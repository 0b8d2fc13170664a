"""Tasks with steps as a user runs them: a service, its API, `def` and `async def`, on both engines."""

from __future__ import annotations

from typing import Any

import pytest

from tests.steps.conftest import Opener

pytestmark = [pytest.mark.crash, pytest.mark.timeout(200)]

ONE_AT_A_TIME = {"TASKER_SLOTS": "1", "TASKER_PROCESSES": "1"}
ONBOARD = ["onboard", "onboard_in_child"]


def order(**more: Any) -> dict[str, Any]:
    return {"id": "o-1", "total": 30, "pages": [1, 2, 3, 4, 5], "pause": 1.5} | more


def endings(task: dict[str, Any]) -> list[str]:
    return [attempt["ending"] for attempt in task["attempts"]]


@pytest.mark.parametrize("type_", ONBOARD)
def test_every_call_of_a_function_that_waits(house: Opener, type_: str) -> None:
    made = house(**ONE_AT_A_TIME)
    with made.open() as (home, _):
        task_id = home.submit(type_, order())
        slept = home.until(task_id, lambda task: task.get("reason") == "sleeping")
        assert slept["status"] == "pending"
        asks = home.until(task_id, lambda task: task.get("input") and task["reason"] == "input_required")
        assert (asks["input"]["name"], asks["input"]["message"]) == ("approve", "Ship o-1?")
        refused = home.post(f"/task/{task_id}/input", {"name": "approve", "value": "maybe"})
        assert refused.status_code == 422, refused.text
        home.answer(task_id, "approve", True)
        done = home.end(task_id)
        assert done["status"] == "completed", done
        receipt = done["result"]
        late = home.end(receipt["archive"])
        done = home.get(task_id)
        children = home.children(task_id)
        log = home.events(task_id)
    [charged] = [line for line in made.effects() if line["what"] == "charge"]
    assert receipt["paid"] == f"30 by {charged['nonce']}"
    assert receipt["pages"] == [f"page {page}" for page in range(1, 6)]
    assert (receipt["mail"], receipt["approved"]) == ("sent", True)
    assert (late["status"], late["parent_id"], late["root_id"]) == ("completed", task_id, task_id)
    assert len(children) == 7
    assert done["children"]["completed"] == 7
    assert set(endings(done)[:-1]) == {"parked"}, "only parks came before the end"
    assert (endings(done)[-1], done["tries_left"]) == ("succeeded", 0)
    keys = [step["key"].removesuffix("_in_child") for step in done["steps"]]
    assert keys == ["charge", "render", "kill_in", "cool off", "approve", "archive"]
    kinds = [event["type"] for event in log]
    assert kinds.count("parked") == kinds.count("resumed") == len(done["attempts"]) - 1
    assert {"step_started", "step_completed", "input_required", "input_given"} <= set(kinds)


@pytest.mark.parametrize("type_", ["tree", pytest.param("tree_in_child", marks=pytest.mark.long)])
def test_parents_of_parents_need_one_slot(house: Opener, type_: str) -> None:
    with house(**ONE_AT_A_TIME).open() as (home, _):
        done = home.end(home.submit(type_, 3), limit=90)
    assert (done["status"], done["result"]) == ("completed", 8)
    assert done["tries_left"] == 0


def test_a_cancelled_root_leaves_no_child_open(house: Opener) -> None:
    """1,000 children, of which some run and the others are pending."""
    with house(TASKER_SLOTS="50").open() as (home, _):
        root = home.submit("parent_of", 1000)
        home.until(root, lambda task: task.get("reason") == "waiting_for_children")
        home.until(root, lambda task: task["children"]["running"] > 40)
        assert home.post(f"/task/{root}/cancel").status_code == 200
        done = home.end(root)
        ended = home.until(root, lambda task: task["children"]["cancelled"] == 1000)
        children = home.children(root)
    assert done["status"] == "cancelled"
    assert ended["children"] == {"pending": 0, "running": 0, "completed": 0, "failed": 0, "cancelled": 1000}
    assert {child["status"] for child in children} == {"cancelled"}
    assert len(children) == 1000
