"""POST /bulk: counts first, then acts on what was counted, and on nothing by mistake."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec import Raw, structs
from pydantic import SecretStr
from structlog.testing import capture_logs

from tasker.engines.shared.looks import Bounds
from tasker.errors import NotFound, Unavailable
from tasker.model import TaskFilter
from tasker.model.bulk import HOLD, write_filter
from tasker.model.keys import ANYBODY, Caller
from tasker.rules.lifecycle import Failed
from tasker.rules.lifecycle import problem as task_problem
from tasker.service import Selection, bulk
from tests.api.conftest import TOKEN, Rig, problem
from tests.contract.bulk import make_bulk

ID = "01a20c8b-c777-7774-af49-131c21b859b2"


async def act(rig: Rig, action: str, **body: Any) -> tuple[Any, ...]:
    reply = await rig.client.post("/bulk", json={"action": action} | body)
    assert reply.status_code == 200, reply.text
    told = reply.json()
    assert ("bulk_id" in told) is not body.get("dry_run", False)
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


async def receipt(rig: Rig, bulk_id: str) -> dict[str, Any]:
    reply = await rig.client.get(f"/bulk/{bulk_id}")
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def work_little(monkeypatch: pytest.MonkeyPatch, at_once: int = 4) -> None:
    """Let every call and every turn of the chore do one small step."""
    monkeypatch.setattr(bulk, "WITHIN", 0.0)
    monkeypatch.setattr(bulk, "_TURN", 0.0)
    monkeypatch.setattr(bulk, "_IN_ONE_COMMIT", at_once)


async def begin(rig: Rig, action: str, **body: Any) -> dict[str, Any]:
    """Begin an action that does not end in the request."""
    reply = await rig.client.post("/bulk", json={"action": action} | body)
    assert reply.status_code == 202, reply.text
    return dict(reply.json())


async def test_a_long_action_goes_on_by_itself(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    work_little(monkeypatch)
    for _ in range(10):
        await rig.submit()
    begun = await begin(rig, "cancel", filter={"status": "pending"})
    assert [begun[name] for name in ("state", "matched", "done", "to_go", "next_cursor")] == ["running", 10, 4, 6, None]
    await rig.submit("echo", [])  # comes later, and is not touched
    assert await rig.service.bulk.run_once() == 1
    assert (await receipt(rig, begun["bulk_id"]))["done"] == 8
    assert await rig.service.bulk.run_once() == 1
    assert await rig.service.bulk.run_once() == 0
    told = await receipt(rig, begun["bulk_id"])
    assert told | {"started_at": 0, "ended_at": 0} == {
        "bulk_id": begun["bulk_id"], "state": "done", "matched": 10, "done": 10, "skipped": 0, "skips": {}, "to_go": 0,
        "action": "cancel", "filter": {"status": ["pending"]}, "given": None, "at_most": None, "owner": "",
        "key_id": None, "undo_of": None, "started_at": 0, "ended_at": 0, "links": {
            "self": f"/bulk/{begun['bulk_id']}", "tasks": f"/task?bulk={begun['bulk_id']}",
        },
    }  # fmt: skip
    assert await counted(rig) == {"sum cancelled": 10, "echo pending": 1}
    assert len((await rig.client.get(told["links"]["tasks"])).json()["items"]) == 10


async def test_an_earlier_versions_cursor_goes_on_there(rig: Rig) -> None:
    for _ in range(5):
        await rig.submit()
    before = (await rig.engine.control.choose(bulk.TaskFilter(), limit=2, cursor=None)).next_cursor
    cursor = (await rig.service.bulk._cursors.of("bulk")).close(before or "")
    assert await act(rig, "cancel", all=True, cursor=cursor) == (None, 3, 0, None)


async def test_an_action_up_to_a_dry_run_leaves_later_tasks(rig: Rig) -> None:
    for _ in range(3):
        await rig.submit()
    counts = (await rig.client.post("/bulk", json={"action": "cancel", "all": True, "dry_run": True})).json()
    await rig.submit("echo", [])
    assert await act(rig, "cancel", all=True, at_most=counts["matched"], up_to=counts["up_to"]) == (3, 3, 0, None)
    assert await counted(rig) == {"sum cancelled": 3, "echo pending": 1}


async def test_given_tasks_are_acted_on_and_no_others(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [await rig.submit() for _ in range(6)]
    assert (await rig.client.post(f"/task/{ids[0]}/cancel")).status_code == 200
    given = [*ids[:4], ids[1], str(uuid4())]
    assert await act(rig, "cancel", task_ids=given, dry_run=True) == (3, 0, 0, None)
    reply = await rig.client.post("/bulk", json={"action": "cancel", "task_ids": given, "at_most": 2})
    assert problem(reply) == (409, "conflict")
    work_little(monkeypatch, 2)
    begun = await begin(rig, "cancel", task_ids=given, at_most=3)
    for _ in range(2):
        await rig.service.bulk.run_once()
    told = await receipt(rig, begun["bulk_id"])
    assert (told["given"], told["matched"], told["done"]) == (5, 3, 3)
    assert told["skips"] == {"status": 1} or told["skips"] == {"status": 1, "gone": 1}
    assert await counted(rig) == {"sum cancelled": 4, "sum pending": 2}


async def test_an_action_can_be_stopped(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    work_little(monkeypatch)
    for _ in range(10):
        await rig.submit()
    begun = await begin(rig, "cancel", all=True)
    stopped = (await rig.client.post(begun["links"]["stop"])).json()
    assert (stopped["state"], stopped["done"], stopped["to_go"]) == ("stopped", 4, 6)
    assert stopped == (await rig.client.post(begun["links"]["stop"])).json() == await receipt(rig, begun["bulk_id"])
    assert await rig.service.bulk.run_once() == 0
    assert await counted(rig) == {"sum cancelled": 4, "sum pending": 6}


async def test_a_retry_can_be_undone(rig: Rig) -> None:
    """Tasks that have started since go on."""
    await fill(rig)
    done = (await rig.client.post("/bulk", json={"action": "retry", "filter": {"tag": "bad"}})).json()
    other = (await rig.client.post("/bulk", json={"action": "cancel", "filter": {"type": "echo"}})).json()
    await rig.driver.claim(1, types=("sum",))
    undone = await rig.client.post(done["links"]["undo"])
    assert undone.status_code == 200
    told = undone.json()
    assert (told["action"], told["done"], told["undo_of"], told["filter"]) == (
        "cancel", 2, done["bulk_id"], {"status": ["pending"], "bulk": done["bulk_id"]},
    )  # fmt: skip
    assert (await rig.client.post(done["links"]["undo"])).json()["done"] == 0
    assert problem(await rig.client.post(f"/bulk/{other['bulk_id']}/undo")) == (409, "conflict")


async def test_actions_are_listed(rig: Rig) -> None:
    ids = [(await rig.client.post("/bulk", json={"action": "cancel", "all": True})).json()["bulk_id"] for _ in range(3)]
    first = (await rig.client.get("/bulk?limit=2")).json()
    second = (await rig.client.get(f"/bulk?limit=2&cursor={first['next_cursor']}")).json()
    assert [item["bulk_id"] for item in (*first["items"], *second["items"])] == ids[::-1]
    assert first["items"][0] == await receipt(rig, ids[2])
    assert problem(await rig.client.get(f"/bulk/{uuid4()}")) == (404, "not-found")
    assert problem(await rig.client.post(f"/bulk/{uuid4()}/stop")) == (404, "not-found")


async def test_a_preview_counts_and_shows_the_newest(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(rig)
    newest = await rig.submit(queue="x")
    chosen = Selection(bulk.TaskFilter(types=("sum",)))
    shown = await rig.service.bulk.preview(ANYBODY, "cancel", chosen)
    assert (shown.matched, len(shown.newest), str(shown.newest[0].task_id)) == (4, 4, newest)
    later = await rig.submit()
    started = await rig.service.bulk.start(ANYBODY, "cancel", chosen, shown.matched, up_to=shown.up_to)
    assert started.done == 4
    assert (await rig.client.get(f"/task/{later}")).json()["status"] == "pending"
    given = await rig.service.bulk.preview(ANYBODY, "retry", Selection(task_ids=(UUID(newest), uuid4())))
    assert (given.matched, [str(one.task_id) for one in given.newest]) == (1, [newest])
    monkeypatch.setattr(bulk, "MOST_COUNTED", 2)
    look_at_few(rig, monkeypatch)
    assert (await rig.service.bulk.preview(ANYBODY, "retry", Selection())).matched is None


async def test_one_broken_action_does_not_stop_the_others(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither does one of a later version, whose filter has more members than are known here."""
    for _ in range(4):
        await rig.submit()
    work_little(monkeypatch, 1)
    begun = [await begin(rig, "cancel", filter={"type": "sum"}) for _ in range(3)]
    stored = [await rig.engine.bulk.find(UUID(one["bulk_id"])) for one in begun]
    assert None not in stored
    free = [structs.replace(one, selects=Raw(text)) for one, text in zip(stored[:2], (b"5", b'{"new":1}'), strict=True)]
    monkeypatch.setattr(rig.engine.bulk, "find_free", lambda **_: _soon([*free, stored[2]]))
    assert await rig.service.bulk.run_once() == 1
    assert [(await receipt(rig, one["bulk_id"]))["done"] for one in begun] == [1, 1, 2]


SLOW = write_filter(TaskFilter(types=("slow",)))


@pytest.mark.parametrize(
    ("selects", "error"),
    [
        pytest.param(SLOW, RuntimeError("a bug"), id="raises"),
        pytest.param(SLOW, Unavailable("it takes too long"), id="too slow"),
        pytest.param(Raw(b'{"new":1}'), None, id="of a later version"),
    ],
)
async def test_many_actions_that_cannot_get_on_do_not_starve_another(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, selects: Raw, error: Exception | None
) -> None:
    """As many as are read together, which would be the first each time. Each is tried, and logged, once in a while."""
    choose = rig.engine.control.choose

    async def and_fail_if_slow(where: TaskFilter, **named: Any) -> Any:
        if where.types == ("slow",):
            assert error is not None
            raise error
        return await choose(where, **named)

    monkeypatch.setattr(rig.engine.control, "choose", and_fail_if_slow)
    for _ in range(20):
        await rig.engine.bulk.create(make_bulk("cancel", selects=selects, place="p"))
    rig.clock.advance(timedelta(seconds=1))
    good = make_bulk("cancel", [UUID(await rig.submit())])
    await rig.engine.bulk.create(good)
    rig.clock.advance(HOLD)
    with capture_logs() as logs:
        assert [await rig.service.bulk.run_once() for _ in range(3)] == [0, 1, 0]
        assert (await receipt(rig, str(good.bulk_id)))["state"] == "done"
        assert len(logs) == 20
        rig.clock.advance(HOLD)
        assert await rig.service.bulk.run_once() == 0
    assert len(logs) == 40, "they are tried again"


async def test_a_store_that_cannot_be_written_ends_the_turn(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: Any) -> Any:
        raise Unavailable("full")

    for _ in range(2):
        await rig.engine.bulk.create(make_bulk("cancel", [uuid4()]))
    rig.clock.advance(HOLD)
    monkeypatch.setattr(rig.engine.bulk, "step", fails)
    monkeypatch.setattr(rig.engine.bulk, "hold", fails)
    with pytest.raises(Unavailable):
        await rig.service.bulk.run_once()


async def _soon(value: Any) -> Any:
    return value


async def test_an_action_whose_store_fails_is_begun_and_goes_on(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.submit()
    real = rig.engine.bulk.step

    async def fails(*_: Any) -> Any:
        raise Unavailable("full")

    monkeypatch.setattr(rig.engine.bulk, "step", fails)
    begun = await begin(rig, "cancel", all=True)
    monkeypatch.setattr(rig.engine.bulk, "step", real)
    rig.clock.advance(HOLD)
    assert await rig.service.bulk.run_once() == 1
    assert (await receipt(rig, begun["bulk_id"]))["done"] == 1


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
        ({"action": "cancel", "task_ids": []}, "invalid-request", ["/task_ids"]),
        ({"action": "cancel", "task_ids": ["x", 5]}, "invalid-request", ["/task_ids/0", "/task_ids/1"]),
        ({"action": "cancel", "task_ids": [ID] * 1001}, "invalid-request", ["/task_ids"]),
        ({"action": "cancel", "task_ids": [ID], "all": True, "cursor": "x"}, "invalid-request",
         ["/task_ids", "/cursor"]),
        ({"action": "cancel", "task_ids": [ID], "filter": {"type": "sum"}}, "invalid-request", ["/task_ids"]),
        ({"action": "cancel", "all": True, "dry_run": True, "up_to": "x"}, "invalid-request", ["/up_to"]),
        ({"action": "cancel", "all": True, "up_to": "x"}, "invalid-request", ["/up_to"]),
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
    every = Selection()
    counts = [(await rig.service.bulk.count(who, "cancel", every)).matched for who in (mine, other, admin)]
    assert counts == [1, 2, 3]
    theirs = Selection(bulk.TaskFilter(owner="other"))
    counts = [(await rig.service.bulk.count(who, "cancel", theirs)).matched for who in (mine, other, admin)]
    assert counts == [0, 2, 2]
    started = await rig.service.bulk.start(mine, "cancel", every)
    assert (started.matched, started.done) == (1, 1)
    every_owners = await rig.service.bulk.start(admin, "cancel", every)
    assert every_owners.done == 2
    root = Caller("root", "k4", frozenset({"control", "read"}))
    for caller, seen in ((mine, [started]), (other, []), (root, []), (admin, [every_owners, started])):
        assert (await rig.service.bulk.find_many(caller, limit=9)).items == seen
    for caller, one in ((other, started), (mine, every_owners), (root, every_owners)):
        for ask in (rig.service.bulk.get, rig.service.bulk.stop, rig.service.bulk.undo):
            with pytest.raises(NotFound):
                await ask(caller, one.bulk_id)


async def test_other_owners_tasks_cannot_be_given(rig: Rig) -> None:
    mine, other = Caller("me", "k", frozenset({"control"})), Caller("other", "k2", frozenset({"control"}))
    task = (await rig.service.submissions.submit(other, b'{"type":"echo"}')).task
    chosen = Selection(task_ids=(task.task_id,))
    assert (await rig.service.bulk.count(mine, "cancel", chosen)).matched == 0
    preview = await rig.service.bulk.preview(mine, "cancel", chosen)
    assert (preview.matched, preview.newest) == (0, [])
    started = await rig.service.bulk.start(mine, "cancel", chosen)
    assert (started.matched, started.done, started.skips) == (0, 0, {"gone": 1})
    assert (await rig.service.bulk.start(other, "cancel", chosen)).done == 1


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
    monkeypatch.setattr(bulk, "COUNT_WITHIN", 0.0)
    look_at_few(rig, monkeypatch)
    for _ in range(6):
        await rig.submit()
    assert await act(rig, "cancel", all=True) == (None, 6, 0, None)


async def test_a_count_stops_where_it_is_no_longer_shown(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "MOST_COUNTED", 3)
    look_at_few(rig, monkeypatch)
    for _ in range(6):
        await rig.submit()
    assert await act(rig, "cancel", all=True) == (None, 6, 0, None)
    assert await act(rig, "retry", all=True, at_most=6) == (6, 6, 0, None), "a limit needs the whole count"
