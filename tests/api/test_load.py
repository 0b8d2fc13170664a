"""The load by everybody's tasks: shown only to admins, unless it is public."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from tasker.model.history import History
from tests.api.conftest import TOKEN, TYPES, MakeRig, Rig, announce
from tests.api.conftest import problem as problem_of

ADMIN = {"authorization": f"Bearer {TOKEN}"}
SUM = {"type": "sum", "params": [4, 2], "queue": "q"}


class Crowd:
    """Alice, whose tasks fill queue q and one of her own, and Bob, who has one task after them."""

    def __init__(self, rig: Rig, alice: dict[str, str], bob: dict[str, str]) -> None:
        self.rig = rig
        self.alice = alice
        self.bob = bob

    async def submit(self, who: dict[str, str], **options: Any) -> Any:
        return await self.rig.client.post("/task", json={**SUM, **options}, headers=who)

    async def get(self, who: dict[str, str], path: str) -> Any:
        return (await self.rig.client.get(path, headers=who)).json()


async def fill(rig: Rig) -> tuple[Crowd, str]:
    scopes = ("submit", "read", "control")
    crowd = Crowd(rig, await rig.key(*scopes, owner="alice"), await rig.key(*scopes, owner="bob"))
    await announce(rig)
    for _ in range(5):
        await crowd.submit(crowd.alice)
    await crowd.submit(crowd.alice, queue="alices")
    await rig.driver.claim(2, types=TYPES, queues=["q"])
    return crowd, (await crowd.submit(crowd.bob)).json()["task_id"]


@pytest.fixture
async def crowd(locked: Rig) -> tuple[Crowd, str]:
    return await fill(locked)


async def test_depths_are_those_of_ones_own_tasks(crowd: tuple[Crowd, str]) -> None:
    people, _ = crowd
    names = ("name", "pending", "running", "load")

    async def listed(who: dict[str, str]) -> list[tuple[Any, ...]]:
        return [tuple(one[name] for name in names) for one in (await people.get(who, "/queue"))["items"]]

    assert await listed(people.bob) == [("q", 1, 0, 1)]
    assert await listed(people.alice) == [("alices", 1, 0, 1), ("q", 3, 2, 5)]
    assert await listed(ADMIN) == [("alices", 1, 0, 1), ("q", 4, 2, 6)]
    one = await people.get(people.bob, "/queue/alices")
    assert (one["pending"], one["oldest_wait"]) == (0, None)
    people.rig.clock.advance(timedelta(minutes=5))
    assert (await people.get(people.bob, "/queue/q"))["oldest_wait"] == 300


async def test_a_place_in_line_is_that_among_ones_own_tasks(crowd: tuple[Crowd, str]) -> None:
    people, mine = crowd
    told = await people.get(people.bob, f"/task/{mine}")
    assert told["queue_position"] == 1
    assert told["waiting_for"] == "in line; of its owner's tasks it is the next"
    assert told.get("estimated_start_at") is None
    second = (await people.submit(people.bob)).json()["task_id"]
    told = await people.get(people.bob, f"/task/{second}")
    assert (told["queue_position"], told["waiting_for"]) == (2, "1 task of its owner is before it")
    first = (await people.submit(people.bob, priority=9)).json()["task_id"]
    assert (await people.get(people.bob, f"/task/{first}"))["queue_position"] == 1
    assert (await people.get(people.bob, f"/task/{second}"))["queue_position"] == 3
    admin = await people.get(ADMIN, f"/task/{second}")
    assert admin["queue_position"] == 6


@pytest.mark.parametrize("setting", [{"concurrency": 2}, {"rate": {"limit": 1, "per": 3600, "burst": 1}}])
async def test_other_owners_load_of_a_limited_queue_is_hidden(
    crowd: tuple[Crowd, str], setting: dict[str, Any]
) -> None:
    people, mine = crowd
    await people.rig.client.patch("/queue/q", json=setting, headers=ADMIN)
    await people.rig.driver.claim(1, types=TYPES, queues=["q"])
    told, admins = await people.get(people.bob, f"/task/{mine}"), await people.get(ADMIN, f"/task/{mine}")
    assert told["reason"] == "queued" != admins["reason"]
    assert told["queue_position"] == 1
    listed = {one["task_id"]: one["reason"] for one in (await people.get(people.bob, "/task"))["items"]}
    assert listed == {mine: "queued"}
    await people.rig.client.patch("/queue/q", json={"paused": True}, headers=ADMIN)
    assert (await people.get(people.bob, f"/task/{mine}"))["reason"] == "paused"
    [listed_one] = (await people.get(people.bob, "/task"))["items"]
    assert listed_one["reason"] == "paused"


async def test_retry_after_reveals_nothing_of_other_owners(crowd: tuple[Crowd, str]) -> None:
    people, mine = crowd
    history: History = people.rig.service.waiting._history
    history.note("sum", timedelta(seconds=40))
    first = await people.submit(people.bob)
    later = await people.rig.client.get(f"/task/{mine}", headers=people.bob)
    assert (first.headers["retry-after"], later.headers["retry-after"]) == ("1", "1")
    assert int((await people.rig.client.get(f"/task/{mine}", headers=ADMIN)).headers["retry-after"]) > 30
    people.rig.clock.advance(timedelta(seconds=100))
    again = await people.rig.client.get(f"/task/{mine}", headers=people.bob)
    assert again.headers["retry-after"] == "10"


async def test_metrics_and_checks_are_for_admins(crowd: tuple[Crowd, str]) -> None:
    people, _ = crowd
    refused = await people.rig.client.get("/metrics", headers=people.bob)
    assert problem_of(refused) == (403, "forbidden")
    assert 'queue="alices"' in (await people.rig.client.get("/metrics", headers=ADMIN)).text
    assert "checks" not in await people.get(people.bob, "/readyz")
    assert "checks" in await people.get(ADMIN, "/readyz")


async def test_a_full_service_does_not_say_how_full(make_rig: MakeRig) -> None:
    rig = await make_rig(token=SecretStr(TOKEN), max_pending=3)
    alice, bob = await rig.key("submit", owner="alice"), await rig.key("submit", owner="bob")
    for _ in range(3):
        await rig.client.post("/task", json=SUM, headers=alice)
    refused = [await rig.client.post("/task", json=SUM, headers=bob) for _ in range(2)]
    assert {problem_of(one) for one in refused} == {(503, "queue-full")}
    assert {one.json()["detail"] for one in refused} == {"the limit of 3 pending tasks is reached (TASKER_MAX_PENDING)"}


async def test_the_load_can_be_made_public(make_rig: MakeRig) -> None:
    rig = await make_rig(token=SecretStr(TOKEN), public_load=True)
    people, mine = await fill(rig)
    assert [one["name"] for one in (await people.get(people.bob, "/queue"))["items"]] == ["alices", "q"]
    assert (await people.get(people.bob, f"/task/{mine}"))["queue_position"] == 4
    assert (await rig.client.get("/metrics", headers=people.bob)).status_code == 200
    assert "checks" in await people.get(people.bob, "/readyz")
    assert [one["task_id"] for one in (await people.get(people.bob, "/task"))["items"]] == [mine], "numbers alone"
