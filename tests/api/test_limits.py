"""The rate of a key, and the limit of pending tasks. Reference row 71."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

from tasker.api.limits import Bucket, Failures
from tasker.model.keys import ANYBODY
from tests.api.conftest import MakeRig, Rig, problem

SECOND = timedelta(seconds=1)


def test_a_bucket_fills_at_its_rate_up_to_its_size() -> None:
    bucket = Bucket(2.0, 3, 100.0)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert (bucket.left, bucket.seconds_to_next(), bucket.seconds_to_full()) == (0, 1, 2)
    assert [bucket.take(100.5), bucket.take(100.5)] == [True, False]
    assert not bucket.is_empty(1000.0)
    assert bucket.left == 3


def test_failures_of_many_addresses_take_bounded_memory() -> None:
    failures = Failures(10)
    for number in range(20_000):
        assert failures.count(str(number), 0.0) == 0
    assert len(failures._buckets) == 10_000


async def test_requests_over_a_keys_rate_are_refused(rig: Rig) -> None:
    headers, other = await rig.key("read", rate=2, burst=3), await rig.key("read")
    for left in (2, 1, 0):
        reply = await rig.client.get("/task", headers=headers)
        assert reply.status_code == 200
        assert reply.headers["ratelimit-policy"] == '"key";q=3;w=2'
        assert reply.headers["ratelimit"] == f'"key";r={left};t={[2, 1, 1][left]}'
    reply = await rig.client.get("/task", headers=headers)
    assert problem(reply) == (429, "rate-limited")
    assert (reply.headers["retry-after"], reply.headers["ratelimit"]) == ("1", '"key";r=0;t=2')
    unlimited = await rig.client.get("/task", headers=other)
    assert unlimited.status_code == 200
    assert "ratelimit" not in unlimited.headers
    assert (await rig.client.get("/livez", headers=headers)).status_code == 200
    rig.clock.advance(SECOND / 2)
    assert (await rig.client.get("/task", headers=headers)).status_code == 200
    assert problem(await rig.client.post("/key", headers=headers)) == (429, "rate-limited"), "whatever it asks"
    rig.clock.advance(SECOND / 2)
    refused = await rig.client.post("/key", headers=headers)
    assert problem(refused) == (403, "forbidden")
    assert "ratelimit" in refused.headers


async def test_a_stream_ends_with_its_key(rig: Rig) -> None:
    headers = await rig.key("submit", "read")
    task_id = (await rig.client.post("/task", json={"type": "sum", "params": [1, 2]}, headers=headers)).json()[
        "task_id"
    ]
    stream = asyncio.create_task(rig.client.get(f"/task/{task_id}/events", headers=headers))
    await asyncio.sleep(0.05)
    assert not stream.done()
    await rig.service.keys.revoke(headers["authorization"].split("_")[1])
    await rig.driver.claim_one()
    await rig.service.tasks.cancel(ANYBODY, UUID(task_id))
    reply = await asyncio.wait_for(stream, 30)
    assert "event: created" in reply.text
    assert "event: started" not in reply.text


async def test_a_full_service_refuses_submissions(make_rig: MakeRig) -> None:
    rig = await make_rig(max_pending=3)
    body = {"type": "sum", "params": [4, 2]}
    for delay in (0, 60, 0):
        assert (await rig.client.post("/task", json={**body, "delay": delay})).status_code == 202
    full = await rig.client.post("/task", json=body)
    assert problem(full) == (503, "queue-full")
    assert full.headers["retry-after"] == "10"
    assert "TASKER_MAX_PENDING" in full.json()["detail"]
    assert (await rig.client.get("/readyz")).status_code == 200
    assert problem(await rig.client.post("/batch", json=[body])) == (503, "queue-full")
    await rig.finish()
    assert problem(await rig.client.post("/task", json=body)) == (503, "queue-full"), "a count stands for a second"
    rig.clock.advance(SECOND)
    assert (await rig.client.post("/task", json=body)).status_code == 202
    assert problem(await rig.client.post("/task", json=body)) == (503, "queue-full")
