"""Attempts with steps, over the real engine and the real executor: parking, drains, secrets, and what is counted."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec

from tasker.model import RetryPolicy, Status
from tasker.rules.secrets import hide
from tests.worker.rig import Rig

LONG = timedelta(seconds=30)


async def kinds(rig: Rig, task: object) -> list[str]:
    return [event.type for event in await rig.engine.find_events(task.task_id, limit=100)]  # type: ignore[attr-defined]


async def test_a_short_sleep_is_waited_for_in_memory(rig: Rig) -> None:
    done = await rig.end(await rig.submit("nap", b"[0.05]"))
    assert (done.status, done.result, done.attempt) == (Status.COMPLETED, msgspec.Raw(b'"slept"'), 1)
    assert await kinds(rig, done) == [
        "created", "started", "step_started", "step_completed", "step_started", "step_completed", "completed",
    ]  # fmt: skip
    [_, nap] = await rig.engine.steps.find(done.task_id)
    assert (nap.kind, nap.finished_at) == ("sleep", nap.until)


async def test_a_worker_that_drains_parks_what_waits(rig: Rig) -> None:
    task = await rig.submit("nap", b"[100]")
    await rig.stage.started.wait()
    begun = rig.clock.monotonic()
    assert await rig.worker.drain(LONG, asyncio.Event())
    assert rig.clock.monotonic() - begun < 0.9, "it was not waited for"
    parked = await rig.get(task)
    assert (parked.status, parked.reason, parked.tries_left) == (Status.PENDING, "sleeping", 1)
    assert parked.next_attempt_at is not None
    assert parked.next_attempt_at - datetime.now(UTC) > timedelta(seconds=90)
    assert [attempt.ending for attempt in await rig.engine.find_attempts(task.task_id)] == ["parked"]


async def test_an_attempt_after_a_failure_goes_on_after_its_steps(rig: Rig) -> None:
    retry = RetryPolicy(max_attempts=2, initial=timedelta(0))
    done = await rig.end(await rig.submit("second", retry=retry))
    assert (done.result, done.attempt) == (msgspec.Raw(b'"one of 1"'), 2)
    said = await kinds(rig, done)
    assert said[said.index("started", 2) + 1] == "resumed"
    assert said.count("step_completed") == 1
    assert rig.history.run_time("second") is None, "it is no whole run"


async def test_a_parked_attempt_is_counted_apart(rig: Rig) -> None:
    done = await rig.end(await rig.submit("nap", b"[1.2]"))
    attempts = await rig.engine.find_attempts(done.task_id)
    assert [attempt.ending for attempt in attempts] == ["parked", "succeeded"]
    assert (done.attempt, done.tries_left) == (2, 0)
    shown = rig.metrics.render([], rig.clock.now()).decode()
    assert 'tasker_attempts_total{ending="parked",type="nap"} 1.0' in shown
    assert 'tasker_attempt_run_seconds_count{type="nap"} 1.0' in shown
    assert rig.history.run_time("nap") is None
    assert rig.stage.runs == ["one of 1"] * 2, "the step ran once"


async def test_steps_show_no_secret_and_functions_get_it_back(rig: Rig) -> None:
    hidden = hide(b'["4242-4242"]', rig.registry.get("pay").secrets)  # type: ignore[arg-type]
    done = await rig.end(await rig.submit("pay", hidden.params, secrets=hidden.secrets))
    await rig.worker.drain(LONG, asyncio.Event())  # the secrets are erased after the end
    assert (done.status, done.result, done.attempt) == (Status.COMPLETED, msgspec.Raw(b'"has it"'), 2)
    stored = await rig.engine.steps.find(done.task_id)
    assert stored[0].value == b'{"card":"***","paid":true}'
    assert all(b"4242" not in (step.value or b"") for step in stored)
    assert not any(step.secret_value for step in stored), "erased with the task's other secrets"
