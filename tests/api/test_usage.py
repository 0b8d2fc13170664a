"""GET /usage: what tasks used up."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec import structs

from tasker.model import Report
from tasker.model.keys import ANYBODY, Caller
from tasker.rules.lifecycle import Succeeded
from tasker.testing import make_draft
from tests.api.conftest import Rig, problem

NOTHING = {
    "attempts": 0, "completed": 0, "failed": 0, "cancelled": 0, "run_time": 0.0, "input_tokens": 0, "output_tokens": 0,
    "cached_tokens": 0, "cost": 0.0,
}  # fmt: skip


async def run(rig: Rig, type: str = "sum", usage: bytes = b"{}") -> None:
    params = {"sum": [4, 2], "reverse": ["Once"]}[type]
    await rig.submit(type, params)
    claim = await rig.driver.claim_one(types=(type,))
    rig.clock.advance(timedelta(seconds=1.5))
    assert await rig.driver.finish(claim, Succeeded(b"6"), Report(usage=usage))


async def test_by_day_owner_and_type(rig: Rig) -> None:
    await run(rig, "reverse", b'{"model":"m","input_tokens":7,"output_tokens":3,"cached_tokens":2,"cost":0.00125}')
    await run(rig)
    rig.clock.advance(timedelta(days=1))
    await run(rig)
    body = (await rig.client.get("/usage")).json()
    assert (body["from"], body["to"]) == ("2025-12-05", "2026-01-03"), "30 days, today is the last"
    one = NOTHING | {"attempts": 1, "completed": 1, "run_time": 1.5}
    gpt = one | {"input_tokens": 7, "output_tokens": 3, "cached_tokens": 2, "cost": 0.00125}
    assert body["items"] == [
        {"day": "2026-01-02", "owner": None, "type": "reverse", **gpt},
        {"day": "2026-01-02", "owner": None, "type": "sum", **one},
        {"day": "2026-01-03", "owner": None, "type": "sum", **one},
    ]
    assert body["total"] == gpt | {"attempts": 3, "completed": 3, "run_time": 4.5}


async def test_groups_and_filters(rig: Rig) -> None:
    await run(rig, "reverse", b'{"cost":1}')
    await run(rig)
    by_type = (await rig.client.get("/usage?group=type")).json()
    assert all("day" not in row and "owner" not in row for row in by_type["items"])
    assert [(row["type"], row["cost"]) for row in by_type["items"]] == [("reverse", 1), ("sum", 0)]
    only = (await rig.client.get("/usage?type=sum&group=day,owner&from=2026-01-02&to=2026-01-02")).json()
    assert [(row["day"], row["owner"], row["attempts"]) for row in only["items"]] == [("2026-01-02", None, 1)]
    assert (await rig.client.get("/usage?owner=nobody")).json()["total"] == NOTHING
    assert (await rig.client.get("/usage?from=2026-01-03")).json()["items"] == []
    assert (await rig.client.get("/usage?from=0001-01-01&to=0001-01-01")).json()["items"] == []
    assert (await rig.client.get("/usage?to=0001-01-01")).json()["from"] == "0001-01-01"
    assert (await rig.client.get("/usage?from=9999-12-31")).json()["to"] == "9999-12-31"


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("from=yesterday", "/from"), ("from=20260102", "/from"), ("from=2026-02-30", "/from"), ("to=", "/to"),
        ("from=2026-01-03&to=2026-01-02", "/from"), ("from=2024-01-01&to=2026-01-01", "/from"),
        ("group=hour", "/group"),        ("type=", "/type"),
    ],
)  # fmt: skip
async def test_wrong_queries_of_usage(rig: Rig, query: str, pointer: str) -> None:
    reply = await rig.client.get(f"/usage?{query}")
    assert problem(reply) == (422, "invalid-request")
    assert [fault["pointer"] for fault in reply.json()["errors"]] == [pointer]


async def test_more_rows_than_an_answer_has(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasker.service.usage.MAX_ROWS", 1)
    await run(rig, "reverse")
    await run(rig)
    reply = await rig.client.get("/usage")
    assert problem(reply) == (422, "invalid-request")
    assert (await rig.client.get("/usage?group=day")).status_code == 200


async def test_a_key_sees_its_own(rig: Rig) -> None:
    await run(rig)
    mine = Caller(owner="me", scopes=frozenset(("read",)))
    usage = rig.service.usage
    assert (await usage.find(mine, group=())).rows == []
    assert (await usage.find(mine, group=(), owner="you")).rows == []
    assert (await usage.find(ANYBODY, group=())).total.attempts == 1
    await rig.engine.submit([structs.replace(make_draft(rig.clock.now()), owner="me")])
    await rig.driver.finish(await rig.driver.claim_one(), Succeeded(b"6"))
    for asked in (None, "me"):
        assert (await usage.find(mine, group=(), owner=asked)).total.attempts == 1
    assert (await usage.find(ANYBODY, group=())).total.attempts == 2
