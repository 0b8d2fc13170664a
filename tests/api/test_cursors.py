"""The cursors of every list are sealed: they reveal nothing, and only their own list accepts them."""

from __future__ import annotations

import base64
import string
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from tasker.api.app import make_operations
from tasker.metrics import Metrics
from tasker.model import TaskFilter
from tasker.rules import lifecycle
from tasker.rules.lifecycle import Failed
from tests.api.conftest import Rig, problem
from tests.api.webhooks import tell_in_vain

SCHEDULE = {"interval": 3600, "task": {"type": "sum", "params": [4, 2]}}


async def three_tasks(rig: Rig) -> str:
    for _ in range(3):
        await rig.submit()
    return "/task"


async def three_schedules(rig: Rig) -> str:
    for name in "abc":
        assert (await rig.client.post("/schedule", json={"name": name, **SCHEDULE})).status_code == 201
    return "/schedule"


async def three_webhooks(rig: Rig) -> str:
    for _ in range(3):
        assert (await rig.client.post("/webhook", json={"url": "https://example.com/"})).status_code == 201
    return "/webhook"


async def three_deliveries(rig: Rig) -> str:
    path = (await rig.client.post("/webhook", json={"url": "https://example.com/"})).headers["location"]
    for _ in range(3):
        await tell_in_vain(rig)
    return f"{path}/deliveries"


async def three_deeds(rig: Rig) -> str:
    for _ in range(3):
        await rig.client.patch("/queue/q", json={})
    return "/audit"


async def three_bulk_actions(rig: Rig) -> str:
    for _ in range(3):
        assert (await rig.client.post("/bulk", json={"action": "cancel", "all": True})).status_code == 200
    return "/bulk"


async def three_failures(rig: Rig) -> str:
    for name in "abc":
        await rig.submit()
        await rig.finish(Failed(lifecycle.problem("task-failed", name)))
        rig.clock.advance(timedelta(seconds=1))
    return "/failure"


async def three_groups(rig: Rig) -> str:
    for name in "abc":
        await rig.submit(group=name)
    return "/group"


LISTS: dict[str, Callable[[Rig], Awaitable[str]]] = {
    "list_tasks": three_tasks, "list_schedules": three_schedules, "list_webhooks": three_webhooks,
    "list_deliveries": three_deliveries, "list_audit": three_deeds, "list_bulk": three_bulk_actions,
    "list_failures": three_failures, "list_groups": three_groups,
}  # fmt: skip
"""For each operation that takes a cursor: how to create three items, and where the list is."""


def test_every_list_has_a_case(rig: Rig) -> None:
    operations = make_operations(rig.service, Metrics(), rig.clock, rig.settings)
    taking = {one.name for one in operations if any(parameter.name == "cursor" for parameter in one.parameters)}
    assert taking == set(LISTS) | {"list_queues"}, "that of queues goes by names, which its page tells anyway"


def tells(cursor: str) -> bytes:
    """Return the bytes of a cursor."""
    return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))


def tampered(cursor: str) -> list[str]:
    """Return the cursor with another first, and every other last character: some of these decode to the same bytes."""
    others = string.ascii_letters + string.digits + "-_"
    first = "A" if cursor[0] != "A" else "B"
    return [first + cursor[1:], *(cursor[:-1] + other for other in others if other != cursor[-1])]


async def walk(rig: Rig, path: str) -> tuple[list[Any], list[str]]:
    """Page through a list one by one; return its items and the cursors between them."""
    items, cursors = [], []
    query = "?limit=1"
    while True:
        page = (await rig.client.get(path + query)).json()
        items += page["items"]
        if page["next_cursor"] is None:
            return items, cursors
        cursors.append(page["next_cursor"])
        query = f"?limit=1&cursor={cursors[-1]}"


@pytest.mark.parametrize("name", LISTS)
async def test_a_cursor_is_opaque_and_only_its_list_accepts_it(rig: Rig, name: str) -> None:
    path = await LISTS[name](rig)
    items, cursors = await walk(rig, path)
    assert items == (await rig.client.get(path)).json()["items"]
    assert len(cursors) == len(items) - 1 >= 2
    one, two = cursors[:2]
    close = sum(a == b for a, b in zip(tells(one), tells(two), strict=True))
    assert close < len(tells(one)) // 2, "neighbours have nothing in common"
    for bad in (*tampered(one), one[:-4], "x", "AAAAAAAAAAQ" + "A" * 5, "", "é", "=" * 5, "A" * 1000):
        assert problem(await rig.client.get(path, params={"cursor": bad})) == (422, "invalid-request"), bad
    for other, make in LISTS.items():
        if other != name:
            reply = await rig.client.get(await make(rig), params={"cursor": one})
            assert problem(reply) == (422, "invalid-request")
            assert [error["pointer"] for error in reply.json()["errors"]] == ["/cursor"]


async def test_a_cursor_of_the_engine_is_refused(rig: Rig) -> None:
    await three_tasks(rig)
    page = await rig.engine.find_many(TaskFilter(), limit=1)
    assert page.next_cursor is not None
    assert problem(await rig.client.get("/task", params={"cursor": page.next_cursor}))[0] == 422


async def test_an_event_has_one_opaque_id(rig: Rig) -> None:
    await three_tasks(rig)
    page = await rig.engine.journal.read()
    seal = await rig.service.feed.seal()
    sealed = [seal.close(entry.cursor) for entry in page.entries]
    assert [seal.open(one) for one in sealed] == [entry.cursor for entry in page.entries]
    assert sealed == [seal.close(entry.cursor) for entry in page.entries]
    assert len({one[:4] for one in sealed}) == len(sealed)
    for bad in (page.entries[0].cursor, *tampered(sealed[0]), "", "x"):
        reply = await rig.client.get("/events", params={"after": bad})
        assert problem(reply) == (422, "invalid-request"), bad
        assert [error["pointer"] for error in reply.json()["errors"]] == ["/after"]


async def test_the_id_of_a_heartbeat_reveals_nothing_of_other_owners(rig: Rig) -> None:
    seal = await rig.service.feed.seal()
    cursor = await rig.engine.journal.tail()
    lives = {seal.close(cursor, anew=True) for _ in range(5)}
    assert len(lives) == 5
    assert {len(one) for one in lives} == {len(seal.close(cursor))}
    assert {seal.open(one) for one in lives} == {cursor}


@pytest.mark.parametrize("name", ["cursor", "up_to"])
async def test_the_cursor_of_a_bulk_action_is_sealed(rig: Rig, name: str) -> None:
    await three_tasks(rig)
    body = {"action": "cancel", "all": True}
    cursor = (await rig.client.post("/bulk", json={**body, "dry_run": True})).json()["up_to"]
    await rig.submit()
    listed = (await rig.client.get("/task?limit=1")).json()["next_cursor"]
    for bad in (listed, *tampered(cursor), "x"):
        reply = await rig.client.post("/bulk", json={**body, name: bad})
        assert problem(reply) == (422, "invalid-request")
        assert [error["pointer"] for error in reply.json()["errors"]] == [f"/{name}"]
    assert (await rig.client.post("/bulk", json={**body, name: cursor})).json()["done"] == 3
