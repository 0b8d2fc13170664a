"""Each owner's things are visible only to that owner and to admins. Reference row 45."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tasker.api.app import make_operations
from tasker.metrics import Metrics
from tasker.model import WorkerInfo, new_task_id
from tasker.rules.lifecycle import Failed, problem
from tasker.testing import START
from tests.api.conftest import TOKEN, MakeRig, Rig
from tests.api.conftest import problem as problem_of
from tests.api.webhooks import tell_in_vain

ADMIN = {"authorization": f"Bearer {TOKEN}"}
ALL = ("submit", "read", "control")
SUM = {"type": "sum", "params": [4, 2]}


class People:
    """Alice, who has a failed task, and Bob, who tries to reach it."""

    def __init__(self, rig: Rig, alice: dict[str, str], bob: dict[str, str], task_id: str) -> None:
        self.rig = rig
        self.alice = alice
        self.bob = bob
        self.task_id = task_id

    async def ask(self, who: dict[str, str], method: str, path: str, **options: Any) -> Any:
        headers = {**who, "request-id": "r", **options.pop("headers", {})}
        return await self.rig.client.request(method, path, headers=headers, **options)


@pytest.fixture
async def people(locked: Rig) -> People:
    alice, bob = await locked.key(*ALL, owner="alice"), await locked.key(*ALL, owner="bob")
    reply = await locked.client.post("/task", json={**SUM, "tags": ["t"]}, headers=alice)
    await locked.finish(Failed(problem("task-raised", "no")))
    return People(locked, alice, bob, reply.json()["task_id"])


ON_A_TASK: list[tuple[str, str, Any]] = [
    ("GET", "/task/{}", None), ("HEAD", "/task/{}", None), ("GET", "/task/{}?include=attempts", None),
    ("GET", "/task/{}?wait=1", None), ("GET", "/task/{}/result", None), ("GET", "/task/{}/events", None),
    ("POST", "/task/{}/cancel", None), ("POST", "/task/{}/retry", None), ("DELETE", "/task/{}", None),
    ("GET", "/task/{}?include=steps,children", None), ("POST", "/task/{}/retry", {"forget": ["charge"]}),
    ("POST", "/task/{}/input", {"name": "approve", "value": "yes"}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), ON_A_TASK)
async def test_another_owners_task_is_not_found(people: People, method: str, path: str, body: Any) -> None:
    none = str(new_task_id(people.rig.clock.now()))
    missing = await people.ask(people.bob, method, path.format(none), json=body)
    anothers = await people.ask(people.bob, method, path.format(people.task_id), json=body)
    assert anothers.status_code == missing.status_code == 404
    assert anothers.text == missing.text.replace(none, people.task_id)
    assert anothers.headers == missing.headers
    theirs = await people.ask(people.alice, "GET", f"/task/{people.task_id}")
    assert (theirs.json()["status"], theirs.json()["owner"]) == ("failed", "alice"), "nothing has changed"
    assert (await people.ask(ADMIN, "GET", f"/task/{people.task_id}")).json() == theirs.json()


async def test_an_id_that_another_owner_chose_is_not_found(people: People) -> None:
    own = str(UUID(int=7, version=4))
    assert (await people.ask(people.alice, "PUT", f"/task/{own}", json=SUM)).status_code == 201
    missing = await people.ask(people.bob, "GET", f"/task/{own}")
    for body in (SUM, {"type": "sum", "params": [1, 1]}):
        taken = await people.ask(people.bob, "PUT", f"/task/{own}", json=body)
        assert (taken.status_code, taken.text) == (404, missing.text)
    assert (await people.ask(people.alice, "PUT", f"/task/{own}", json=SUM)).status_code == 200
    assert (await people.ask(people.alice, "PUT", f"/task/{own}", json={**SUM, "tags": ["x"]})).status_code == 409


async def test_lists_show_the_owners_tasks(people: People) -> None:
    mine = (await people.ask(people.bob, "POST", "/task", json=SUM)).json()["task_id"]

    async def ids(who: dict[str, str], query: str = "") -> list[str]:
        return [task["task_id"] for task in (await people.ask(who, "GET", f"/task{query}")).json()["items"]]

    assert await ids(people.bob) == [mine]
    assert await ids(people.alice) == [people.task_id]
    assert await ids(ADMIN) == [mine, people.task_id]
    assert await ids(people.bob, "?owner=alice") == []
    assert await ids(people.bob, "?owner=bob") == [mine]
    assert await ids(ADMIN, "?owner=alice") == [people.task_id]
    for query in ("?tag=t", "?status=failed", "?status=failed,completed", "?type=sum&status=failed", "?queue=default"):
        assert people.task_id not in await ids(people.bob, query), query
        assert people.task_id in await ids(people.alice, query), query


async def test_another_owners_cursor_reveals_nothing(people: People) -> None:
    for _ in range(3):
        await people.ask(people.alice, "POST", "/task", json=SUM)
    cursor = (await people.ask(people.alice, "GET", "/task?limit=1")).json()["next_cursor"]
    assert (await people.ask(people.bob, "GET", f"/task?cursor={cursor}")).json()["items"] == []
    assert len((await people.ask(people.alice, "GET", f"/task?cursor={cursor}")).json()["items"]) == 3


async def test_an_idempotency_key_is_its_owners(people: People) -> None:
    async def submit(who: dict[str, str], params: list[int]) -> Any:
        body = {"type": "sum", "params": params}
        return await people.ask(who, "POST", "/task", json=body, headers={"idempotency-key": "k"})

    first = await submit(people.alice, [1, 2])
    other = await submit(people.bob, [3, 4])
    assert (first.status_code, other.status_code) == (202, 202)
    assert "idempotency-replayed" not in other.headers
    again = await submit(people.bob, [3, 4])
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["task_id"] == other.json()["task_id"] != first.json()["task_id"]
    assert (await submit(people.bob, [1, 2])).status_code == 422
    assert first.json()["task_id"] not in (await submit(people.bob, [1, 2])).text


async def test_workers_show_only_the_owners_attempts(people: People) -> None:
    rig = people.rig
    mine = (await people.ask(people.bob, "POST", "/task", json=SUM)).json()["task_id"]
    await people.ask(people.alice, "POST", "/task", json=SUM)
    claims = await rig.driver.claim(2)
    assert len(claims) == 2
    info = WorkerInfo(
        worker_id=rig.driver.worker, host="h", pid=1, version="1", started_at=START, queues=None, types=("sum",),
        slots=2, processes=1,
    )  # fmt: skip
    await rig.engine.workers.announce(info)

    async def running(who: dict[str, str]) -> list[str]:
        [worker] = (await people.ask(who, "GET", "/worker")).json()["items"]
        return [one["task_id"] for one in worker["running"]]

    assert await running(people.bob) == [mine]
    assert len(await running(ADMIN)) == 2


async def test_tasks_without_keys_have_no_owner_and_are_for_admins(make_rig: MakeRig) -> None:
    rig = await make_rig()
    task_id = await rig.submit()
    assert "owner" not in (await rig.client.get(f"/task/{task_id}")).json()
    admin, reader = await rig.key("admin"), await rig.key("read")
    assert (await rig.client.get(f"/task/{task_id}", headers=admin)).status_code == 200
    assert (await rig.client.get(f"/task/{task_id}", headers=reader)).status_code == 404


async def test_no_read_is_added_where_no_keys_are_used(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = await rig.submit()
    reads = 0
    find = rig.engine.find

    async def counted(wanted: UUID) -> Any:
        nonlocal reads
        reads += 1
        return await find(wanted)

    monkeypatch.setattr(rig.engine, "find", counted)
    await rig.client.post(f"/task/{task_id}/cancel")
    assert reads == 0
    await rig.client.post(f"/task/{task_id}/retry")
    assert reads == 1  # in which queue it is open then


SCHEDULE = {"name": "s", "interval": 3600, "task": SUM}
WEBHOOK = {"url": "https://example.org/hook"}
BULK = {"action": "retry", "filter": {"tag": "none"}}


async def test_everything_with_an_id_belongs_to_its_owner(people: People) -> None:
    """Walks every operation with an id in its path, also those to come."""
    none = str(new_task_id(people.rig.clock.now()))
    theirs = {"task_id": people.task_id}
    makers = (("schedule_id", "/schedule", SCHEDULE), ("webhook_id", "/webhook", WEBHOOK), ("bulk_id", "/bulk", BULK))
    for name, path, body in makers:
        made = await people.ask(people.alice, "POST", path, json=body)
        assert made.is_success, made.text
        theirs[name] = made.json()[name]
    asked = set()
    operations = make_operations(people.rig.service, Metrics(), people.rig.clock, people.rig.settings)
    for operation in operations:
        names = [name for name in re.findall(r"{(\w+_id)}", operation.path) if name not in ("key_id", "delivery_id")]
        if not names or operation.scope == "admin" or operation.name == "put_task":  # that would make one
            continue
        path = operation.path.replace("{delivery_id}", none)
        body = {"json": {}} if operation.body is not None else {}
        missing = await people.ask(people.bob, operation.method, path.format(**dict.fromkeys(theirs, none)), **body)
        anothers = await people.ask(people.bob, operation.method, path.format(**theirs), **body)
        text = anothers.text
        for one in theirs.values():
            text = text.replace(one, none)
        assert (anothers.status_code, text) == (missing.status_code, missing.text), operation.name
        asked |= {*names}
    assert asked >= set(theirs)
    for name, one in theirs.items():
        path = f"/{name.removesuffix('_id')}/{one}"
        assert (await people.ask(people.alice, "GET", path)).status_code == 200
        assert (await people.ask(ADMIN, "GET", path)).status_code == 200


async def test_only_the_owner_repeats_a_delivery(people: People) -> None:
    made = (await people.ask(people.alice, "POST", "/webhook", json=WEBHOOK)).json()
    delivery = await tell_in_vain(people.rig)
    path = f"{made['links']['deliveries']}/{delivery.delivery_id}/redeliver"
    assert problem_of(await people.ask(people.bob, "POST", path)) == (404, "not-found")
    assert problem_of(await people.ask(people.bob, "GET", made["links"]["deliveries"])) == (404, "not-found")
    [shown] = (await people.ask(people.alice, "GET", made["links"]["deliveries"])).json()["items"]
    assert shown["status"] == "failed"
    assert (await people.ask(people.alice, "POST", path)).status_code == 202


async def test_a_webhook_that_came_with_a_task_is_its_owners_too(people: People) -> None:
    reply = await people.ask(people.alice, "POST", "/task", json={**SUM, "webhook": WEBHOOK})
    path = f"/webhook/{reply.json()['webhook']['webhook_id']}"
    assert (await people.ask(people.alice, "GET", path)).status_code == 200
    assert problem_of(await people.ask(people.bob, "GET", path)) == (404, "not-found")


@pytest.mark.parametrize(("path", "body"), [("/schedule", SCHEDULE), ("/webhook", WEBHOOK)])
async def test_other_lists_show_the_owners_things(people: People, path: str, body: Any) -> None:
    assert (await people.ask(people.alice, "POST", path, json=body)).status_code == 201
    assert (await people.ask(people.bob, "GET", path)).json()["items"] == []
    assert len((await people.ask(people.alice, "GET", path)).json()["items"]) == 1
    assert len((await people.ask(ADMIN, "GET", path)).json()["items"]) == 1


async def test_a_task_depends_only_on_its_owners_tasks(people: People) -> None:
    async def submit(who: dict[str, str], **options: Any) -> Any:
        return await people.ask(who, "POST", "/task", json={**SUM, **options})

    assert (await submit(people.bob, depends_on=[people.task_id])).status_code == 422
    for options in ({"unique_key": "u"}, {"cache": 60}):
        first = (await submit(people.alice, **options)).json()["task_id"]
        assert (await submit(people.alice, **options)).json()["task_id"] == first
        assert (await submit(people.bob, **options)).json()["task_id"] != first
    replaced = await submit(people.bob, unique_key="u", on_conflict="replace")
    assert replaced.status_code == 202
    still = (await people.ask(people.alice, "GET", "/task?status=pending")).json()["items"]
    assert "u" in [task.get("unique_key") for task in still]


async def test_another_owners_expired_task_is_not_found(people: People) -> None:
    reply = await people.ask(people.alice, "POST", "/task", json={**SUM, "retention": 60})
    task_id = reply.json()["task_id"]
    await people.rig.finish()
    people.rig.clock.advance(timedelta(seconds=61))
    assert (await people.ask(people.alice, "GET", f"/task/{task_id}")).status_code == 410
    none = str(new_task_id(people.rig.clock.now()))
    missing = await people.ask(people.bob, "GET", f"/task/{none}")
    anothers = await people.ask(people.bob, "GET", f"/task/{task_id}")
    assert (anothers.status_code, anothers.text) == (404, missing.text.replace(none, task_id))


async def test_only_an_admins_webhook_gets_events_of_all_owners(people: People) -> None:
    body = {"url": "https://example.com/", "all_owners": True}
    refused = await people.ask(people.bob, "POST", "/webhook", json=body)
    assert problem_of(refused) == (403, "forbidden")
    assert (await people.ask(people.bob, "POST", "/webhook", json={**body, "all_owners": False})).status_code == 201
    made = await people.ask(ADMIN, "POST", "/webhook", json=body)
    assert (made.status_code, made.json()["all_owners"]) == (201, True)
    own = (await people.ask(people.bob, "POST", "/webhook", json={"url": "https://example.com/"})).headers["location"]
    assert problem_of(await people.ask(people.bob, "PATCH", own, json={"all_owners": True})) == (403, "forbidden")
    changed = await people.ask(ADMIN, "PATCH", own, json={"all_owners": True})
    assert (changed.status_code, changed.json()["all_owners"]) == (200, True)
    changed = await people.ask(ADMIN, "PATCH", own, json={"all_owners": None})
    assert (changed.status_code, changed.json()["all_owners"]) == (200, False)


async def test_a_webhook_of_all_owners_needs_an_admin_even_if_its_own_key_made_it(people: People) -> None:
    """Its deliveries name all owners' tasks, and a change of its URL would redirect all events."""
    chief = await people.rig.key("admin", owner="bob")
    body = {"url": "https://example.com/", "all_owners": True}
    path = (await people.ask(chief, "POST", "/webhook", json=body)).headers["location"]
    asked = [("GET", path, None), ("PATCH", path, {"url": "https://bob.example.com/"}), ("DELETE", path, None),
             ("GET", f"{path}/deliveries", None), ("POST", f"{path}/rotate", {})]  # fmt: skip
    for method, where, sent in asked:
        reply = await people.ask(people.bob, method, where, json=sent)
        assert problem_of(reply) == (404, "not-found"), (method, where)
    assert (await people.ask(people.bob, "GET", "/webhook")).json()["items"] == []
    assert [one["links"]["self"] for one in (await people.ask(chief, "GET", "/webhook")).json()["items"]] == [path]
    assert (await people.ask(chief, "DELETE", path)).status_code == 204
