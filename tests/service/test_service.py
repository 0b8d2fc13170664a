"""The use cases, over the real engine."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import apsw
import msgspec
import pytest

from tasker.engines.sqlite import SqliteEngine
from tasker.errors import Conflict, Invalid, NotFound
from tasker.model import Policy, RetryPolicy, Status
from tasker.model.keys import ANYBODY
from tasker.rules.lifecycle import Succeeded
from tasker.service import Service, Submitted
from tasker.testing import Driver, ManualClock

HOUR = timedelta(hours=1)


async def submit(service: Service, key: str | None = None, **body: Any) -> Submitted:
    text = json.dumps({"type": "add", "params": [4, 2]} | body).encode()
    return await service.submissions.submit(ANYBODY, text, idempotency_key=key)


async def test_the_accepted_task_equals_the_stored_one(service: Service) -> None:
    """The reply to a submission is made without a read from the store: no field may differ."""
    for body in ({}, {"delay": 60}, {"tags": ["a", "b"], "metadata": {"x": [1]}, "queue": "q", "priority": -5}):
        task = (await submit(service, **body)).task
        assert msgspec.json.encode(await service.tasks.get(ANYBODY, task.task_id)) == msgspec.json.encode(task)


async def test_the_types_defaults_apply_to_what_the_client_leaves_out(service: Service, driver: Driver) -> None:
    task = (await submit(service)).task
    assert (task.queue, task.priority, task.tries_left) == ("numbers", 3, 4)
    claim = await driver.claim_one(types=["add"])
    assert claim.policy == Policy(retry=RetryPolicy(max_attempts=4), timeout=timedelta(seconds=7))


async def test_the_client_may_ask_for_another_policy(service: Service, driver: Driver) -> None:
    await submit(service, timeout=2, retry={"max_attempts": 9, "initial": 0.5, "jitter": False})
    retry = RetryPolicy(max_attempts=9, initial=timedelta(seconds=0.5), jitter=False)
    assert (await driver.claim_one(types=["add"])).policy == Policy(retry=retry, timeout=timedelta(seconds=2))


async def test_params_are_stored_as_sent(service: Service) -> None:
    text = b'{"type":"add","params":{"a": 9007199254740993,\n "b":-0}}'
    task = (await service.submissions.submit(ANYBODY, text)).task
    assert bytes((await service.tasks.get(ANYBODY, task.task_id)).params) == b'{"a": 9007199254740993,\n "b":-0}'


async def test_equal_requests_with_one_key_make_one_task(service: Service, clock: ManualClock) -> None:
    first = await submit(service, key="k")
    clock.advance(23 * HOUR)
    again = await submit(service, key="k")
    assert again.replayed
    assert not first.replayed
    assert msgspec.json.encode(again.task) == msgspec.json.encode(first.task)


async def test_an_equal_request_may_have_other_spacing(service: Service) -> None:
    first = await submit(service, key="k")
    again = await service.submissions.submit(ANYBODY, b'{"params":[4 , 2],"type":"add"}', idempotency_key="k")
    assert again.task.task_id == first.task.task_id


@pytest.mark.parametrize(
    "other", [{"params": [4, 3]}, {"queue": "q"}, {"metadata": {"a": 1}}, {"retry": {"factor": 3}}]
)
async def test_a_key_of_another_request_is_refused(service: Service, other: dict[str, Any]) -> None:
    first = await submit(service, key="k")
    with pytest.raises(Invalid, match=str(first.task.task_id)) as refused:
        await submit(service, key="k", **other)
    assert refused.value.kind.name == "idempotency-key-reuse"


async def test_a_key_is_free_again_after_a_day(service: Service, clock: ManualClock) -> None:
    first = await submit(service, key="k")
    clock.advance(24 * HOUR)
    second = await submit(service, key="k")
    assert not second.replayed
    assert second.task.task_id != first.task.task_id


async def test_a_key_whose_request_is_under_way_is_refused(service: Service, engine: SqliteEngine) -> None:
    holder = apsw.Connection(str(engine.path))
    holder.execute("BEGIN IMMEDIATE")  # nothing commits while another program has the write lock
    first = asyncio.create_task(submit(service, key="k"))
    await asyncio.sleep(0)
    with pytest.raises(Conflict) as refused:
        await submit(service, key="k")
    assert refused.value.kind.name == "idempotency-in-flight"
    assert refused.value.retry_after is not None
    holder.execute("ROLLBACK")
    holder.close()
    assert not (await first).replayed
    assert (await submit(service, key="k")).replayed


async def test_waiting_returns_the_end(service: Service, driver: Driver) -> None:
    task = (await submit(service)).task
    waiting = asyncio.create_task(service.following.wait(ANYBODY, task.task_id, HOUR))
    claim = await driver.claim_one(types=["add"])
    assert not waiting.done()
    await driver.finish(claim, Succeeded(b"6"))
    done = await asyncio.wait_for(waiting, 30)
    assert (done.status, done.result) == (Status.COMPLETED, msgspec.Raw(b"6"))


async def test_waiting_for_an_ended_task_returns_at_once(service: Service) -> None:
    task = (await submit(service)).task
    await service.tasks.cancel(ANYBODY, task.task_id)
    assert (await asyncio.wait_for(service.following.wait(ANYBODY, task.task_id, HOUR), 30)).status is Status.CANCELLED


async def test_waiting_times_out_and_leaves_nothing_behind(service: Service, hub: Any) -> None:
    task = (await submit(service)).task
    assert (await service.following.wait(ANYBODY, task.task_id, timedelta(milliseconds=1))).status is Status.PENDING
    assert hub.waiting == 0


async def test_stopping_ends_every_wait(service: Service) -> None:
    task = (await submit(service)).task
    waiting = asyncio.create_task(service.following.wait(ANYBODY, task.task_id, HOUR))
    await asyncio.sleep(0)
    service.stop()
    assert (await asyncio.wait_for(waiting, 30)).status is Status.PENDING
    assert (await asyncio.wait_for(service.following.wait(ANYBODY, task.task_id, HOUR), 30)).status is Status.PENDING


async def test_a_task_that_does_not_exist_is_not_found(service: Service) -> None:
    for call in (service.tasks.get, service.tasks.cancel, service.tasks.retry, service.tasks.delete):
        with pytest.raises(NotFound):
            await call(ANYBODY, uuid4())
    with pytest.raises(NotFound):
        await service.following.wait(ANYBODY, uuid4(), HOUR)


async def test_readiness_names_what_is_wrong(service: Service, engine: SqliteEngine) -> None:
    assert (await service.readiness.run()).ready
    service.stop()
    readiness = await service.readiness.run()
    assert not readiness.ready
    assert readiness.checks["service"] == "stopping"


async def test_a_store_that_takes_no_write_is_not_ready(service: Service, engine: SqliteEngine) -> None:
    holder = apsw.Connection(str(engine.path))
    holder.execute("BEGIN IMMEDIATE")
    readiness = await service.readiness.run()
    assert not readiness.ready
    assert "no write" in readiness.checks["store"]
    holder.execute("ROLLBACK")
    holder.close()
    assert (await service.readiness.run()).ready


async def test_a_good_check_of_the_store_is_kept_for_a_second(
    service: Service, engine: SqliteEngine, clock: ManualClock
) -> None:
    """Anybody may ask for readiness: it must not be a way to keep the disk busy."""
    await service.readiness.run()
    commits = engine.commits
    await service.readiness.run()
    assert engine.commits == commits
    clock.advance(timedelta(seconds=1))
    await service.readiness.run()
    assert engine.commits == commits + 1
