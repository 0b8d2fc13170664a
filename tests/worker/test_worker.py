"""The worker, over the real engine and the real executor."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

import apsw
import msgspec
import pytest
from msgspec import structs
from structlog.testing import capture_logs

from tasker.chores.reap import reap
from tasker.engines.sqlite.transaction import Transaction
from tasker.errors import Unavailable
from tasker.model import PartitionStats, RetryPolicy, Status
from tasker.model.usage import UsageFilter
from tasker.rules.lifecycle import Interrupted, Outcome, Succeeded, decide
from tasker.worker.attempts import AttemptRunner
from tests.executor.rig import make_claim
from tests.worker.rig import NOW, Rig

MINUTE = timedelta(minutes=1)


async def test_a_task_is_run_and_its_result_stored(rig: Rig) -> None:
    done = await rig.end(await rig.submit("add", b'{"a":4,"b":2}'))
    assert (done.status, done.result, done.attempt, done.tries_left) == (Status.COMPLETED, msgspec.Raw(b"6"), 1, 0)
    [attempt] = await rig.engine.find_attempts(done.task_id)
    assert (attempt.ending, attempt.worker) == ("succeeded", rig.worker.worker_id)


async def test_an_attempt_in_a_child_has_its_peak_memory(rig: Rig) -> None:
    done = await rig.end(await rig.submit("reverse", b'["abc"]'))
    [of_child] = await rig.engine.find_attempts(done.task_id)
    assert done.status is Status.COMPLETED
    assert 5 << 20 < (of_child.peak_memory or 0) < 200 << 20
    [on_loop] = await rig.engine.find_attempts((await rig.end(await rig.submit("add", b"[4,2]"))).task_id)
    assert on_loop.peak_memory is None


async def test_a_failure_has_its_attempt(rig: Rig) -> None:
    done = await rig.end(await rig.submit("fail"))
    assert done.status is Status.FAILED
    assert done.error is not None
    assert (done.error.type, done.error.detail, done.error.attempt) == ("/problems/task-failed", "it cannot work", 1)


async def test_a_retry_uses_up_tries_and_ends(rig: Rig) -> None:
    retry = RetryPolicy(max_attempts=3, initial=timedelta(0))
    done = await rig.end(await rig.submit("again", retry=retry))
    assert (done.status, done.attempt, done.tries_left) == (Status.FAILED, 3, 0)
    assert rig.stage.runs == ["again"] * 3
    attempts = await rig.engine.find_attempts(done.task_id)
    assert [(attempt.attempt, attempt.ending) for attempt in attempts] == [(1, "failed"), (2, "failed"), (3, "failed")]


async def test_a_snooze_uses_up_no_try(rig: Rig) -> None:
    done = await rig.end(await rig.submit("later"))
    assert (done.status, done.result, done.attempt) == (Status.COMPLETED, msgspec.Raw(b"2"), 2)
    assert [attempt.ending for attempt in await rig.engine.find_attempts(done.task_id)] == ["snoozed", "succeeded"]


async def test_no_more_run_at_a_time_than_there_are_slots(rig: Rig) -> None:
    tasks = [await rig.submit("hold") for _ in range(5)]
    for task in tasks[:3]:
        await rig.until(task, lambda found: found.status is Status.RUNNING)
    assert [(await rig.get(task)).status for task in tasks[3:]] == [Status.PENDING] * 2
    rig.stage.release.set()
    assert {(await rig.end(task)).status for task in tasks} == {Status.COMPLETED}


async def test_a_cancelled_task_is_stopped_at_once(rig: Rig) -> None:
    task = await rig.submit("hold")
    await rig.stage.started.wait()
    assert (await rig.engine.cancel(task.task_id)).status is Status.RUNNING
    assert (await rig.end(task)).status is Status.CANCELLED


async def test_reports_are_stored_while_the_attempt_runs(rig: Rig) -> None:
    task = await rig.submit("chatty")
    await rig.stage.started.wait()
    async with asyncio.timeout(30):
        while (running := await rig.get(task)).progress is None:
            await asyncio.sleep(0.01)
    assert running.status is Status.RUNNING
    assert running.progress is not None
    assert running.progress.fraction == 0.5
    rig.stage.release.set()
    done = await rig.end(task)
    assert msgspec.json.decode(done.usage) == {"tokens": 3, "seconds": 1}
    events = await rig.engine.find_events(task.task_id)
    chunks = [msgspec.json.decode(event.data)["chunk"] for event in events if event.type == "output"]
    assert "".join(chunks) == "one twothree"
    assert chunks[0] == "one two"  # output close together is one event
    log = next(msgspec.json.decode(event.data) for event in events if event.type == "log")
    assert log == {"level": "info", "message": "a line", "fields": {"colour": "red"}}


async def test_a_lost_lease_stops_the_attempt_and_its_result_is_ignored(rig: Rig) -> None:
    task = await rig.submit("hold")
    await rig.stage.started.wait()
    claim = structs.replace(make_claim("hold"), task_id=task.task_id)
    await rig.engine.complete(claim.lease, decide(Interrupted(), claim, rig.clock.now(), Random(0)))
    await rig.worker.leases.heartbeat()
    again = await rig.until(task, lambda found: found.attempt == 2)
    assert again.status is Status.RUNNING
    rig.stage.release.set()
    done = await rig.end(task)
    assert (done.status, done.attempt) == (Status.COMPLETED, 2)
    assert [attempt.ending for attempt in await rig.engine.find_attempts(task.task_id)] == ["interrupted", "succeeded"]


async def test_draining_lets_attempts_end(rig: Rig) -> None:
    task = await rig.submit("hold")
    await rig.stage.started.wait()
    draining = asyncio.create_task(rig.worker.drain(MINUTE, asyncio.Event()))
    late = await rig.submit("add", b"[1,2]")
    rig.stage.release.set()
    await asyncio.wait_for(draining, 30)
    assert (await rig.get(task)).status is Status.COMPLETED
    assert (await rig.get(late)).status is Status.PENDING


async def test_draining_gives_back_attempts_that_do_not_end(rig: Rig) -> None:
    task = await rig.submit("hold")
    await rig.stage.started.wait()
    await rig.worker.drain(NOW, asyncio.Event())
    found = await rig.get(task)
    assert (found.status, found.reason, found.attempt, found.tries_left) == (Status.PENDING, "queued", 1, 1)
    assert [attempt.ending for attempt in await rig.engine.find_attempts(task.task_id)] == ["released"]


async def test_a_second_signal_cuts_the_drain_short(rig: Rig) -> None:
    task = await rig.submit("hold")
    await rig.stage.started.wait()
    force = asyncio.Event()
    draining = asyncio.create_task(rig.worker.drain(MINUTE, force))
    await asyncio.sleep(0)
    force.set()
    await asyncio.wait_for(draining, 30)
    assert (await rig.get(task)).status is Status.PENDING


async def test_a_drain_returns_whether_every_end_was_stored(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasker.worker.worker._END_WITHIN", timedelta(seconds=0.1))
    task = await rig.submit("hold")
    await rig.stage.started.wait()
    with monkeypatch.context() as broken:
        broken.setattr(rig.engine, "complete", _away)
        assert not await rig.worker.drain(NOW, asyncio.Event())
    assert not await rig.worker.drain(NOW, asyncio.Event()), "a second drain does not forget it"
    assert (await rig.get(task)).status is Status.RUNNING


async def test_a_drain_returns_true_where_every_end_was_stored(rig: Rig) -> None:
    await rig.submit("hold")
    await rig.stage.started.wait()
    assert await rig.worker.drain(NOW, asyncio.Event())


async def _away(*_: object) -> bool:
    raise Unavailable("the store is away")


async def test_an_end_that_cannot_be_stored_now_is_stored_later(rig: Rig) -> None:
    """The work is done: its result must not be lost because the disk was full for a moment."""
    task = await rig.submit("hold")
    await rig.stage.started.wait()
    pages = rig.engine._commits._connection
    used = pages.pragma("page_count")
    big = "x" * 8000
    pages.pragma("max_page_count", used)
    rig.stage.release.set()
    refused = 0
    while not refused:  # until a write needs one page more than is free
        try:
            await rig.submit("add", b"[1,2]", tags=(big,))
        except Unavailable:
            refused += 1
    pages.pragma("max_page_count", used + 100_000)
    assert (await rig.end(task)).status is Status.COMPLETED


async def test_a_bug_of_ours_at_the_end_of_an_attempt_ends_it_as_crashed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("detail")

    monkeypatch.setattr(AttemptRunner, "_transition", broken)
    task = await rig.submit("fail")
    await rig.until(task, lambda task: task.error is not None)
    attempts = await rig.engine.find_attempts(task.task_id)
    assert attempts[0].ending == "crashed"


async def test_a_built_in_task_that_awaits_nothing_runs_without_an_asyncio_task(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.executor, "run", _away)
    done = await rig.end(await rig.submit("sum", b"[4,2]"))
    assert (done.status, done.result, done.attempt, done.tries_left) == (Status.COMPLETED, msgspec.Raw(b"6"), 1, 0)
    [attempt] = await rig.engine.find_attempts(done.task_id)
    assert (attempt.ending, attempt.worker) == ("succeeded", rig.worker.worker_id)
    failed = await rig.end(await rig.submit("sum", b"[1e308,1e308]"))
    assert (failed.status, failed.error and failed.error.attempt) == (Status.FAILED, 1)
    assert rig.worker.running == 0
    assert {pool.free for pool in rig.worker._pools} == {3, 1}


async def test_a_suspect_runs_in_a_child_even_if_it_awaits_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    isolated: asyncio.Queue[bool] = asyncio.Queue()

    async def run(*_: object, isolate: bool, stepper: object) -> Outcome:
        assert stepper is None
        isolated.put_nowait(isolate)
        return Succeeded(b"6")

    monkeypatch.setattr(rig.executor, "run", run)
    task = await rig.submit("sum", b"[4,2]", delay=MINUTE)

    def make_due_suspect(tx: Transaction) -> None:
        tx.execute("UPDATE task SET interruptions = 3, reason = 'queued', due_at = 1")
        tx.partitions.forget()

    await rig.engine._commits.run(make_due_suspect)
    assert (await rig.end(task)).result == msgspec.Raw(b"6")
    assert isolated.get_nowait()


class Ends:
    """Takes the ends of attempts instead of the engine, and passes each on when the test says so."""

    def __init__(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken: asyncio.Queue[tuple[asyncio.Future[bool], tuple[Any, ...]]] = asyncio.Queue()
        self._complete = rig.engine.complete
        monkeypatch.setattr(rig.engine, "complete", self.take)

    def take(self, *end: Any) -> asyncio.Future[bool]:
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.taken.put_nowait((answer, end))
        return answer

    async def refuse(self, error: Exception) -> None:
        answer, _ = await asyncio.wait_for(self.taken.get(), 30)
        answer.set_exception(error)

    async def store(self) -> None:
        answer, end = await asyncio.wait_for(self.taken.get(), 30)
        answer.set_result(await self._complete(*end))


async def test_the_end_of_a_task_that_ran_at_once_is_stored_later_if_it_cannot_be_now(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasker.worker.outages.Backoff.wait", lambda _: asyncio.sleep(0))
    ends = Ends(rig, monkeypatch)
    task = await rig.submit("sum", b"[4,2]")
    for _ in range(3):
        await ends.refuse(Unavailable("the store is away"))
    assert rig.worker.running == 1, "its lease is kept"
    await ends.store()
    assert (await rig.end(task)).result == msgspec.Raw(b"6")


async def test_draining_waits_for_the_end_of_a_task_that_ran_at_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends(rig, monkeypatch)
    task = await rig.submit("sum", b"[4,2]")
    while ends.taken.empty():
        await asyncio.sleep(0)
    draining = asyncio.create_task(rig.worker.drain(MINUTE, asyncio.Event()))
    await ends.refuse(Unavailable("the store is away"))
    await ends.store()
    assert await asyncio.wait_for(draining, 30)
    assert (await rig.get(task)).status is Status.COMPLETED


async def test_a_drain_says_that_the_end_of_a_task_that_ran_at_once_was_not_stored(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasker.worker.worker._END_WITHIN", timedelta(seconds=0.1))
    ends = Ends(rig, monkeypatch)
    task = await rig.submit("sum", b"[4,2]")
    while ends.taken.empty():
        await asyncio.sleep(0)
    assert not await rig.worker.drain(NOW, asyncio.Event())
    assert (await rig.get(task)).status is Status.RUNNING
    assert rig.worker.running == 0


async def test_an_end_that_comes_too_late_changes_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another attempt may have begun: the end of the first is not counted as one."""
    complete, ends = rig.engine.complete, Ends(rig, monkeypatch)
    task = await rig.submit("sum", b"[4,2]")
    while ends.taken.empty():
        await asyncio.sleep(0)
    claim = structs.replace(make_claim("sum"), task_id=task.task_id)
    await complete(claim.lease, decide(Interrupted(), claim, rig.clock.now(), Random(0)))
    with capture_logs() as logs:
        await ends.store()
        await ends.store()
        done = await rig.end(task)
    assert (done.status, done.attempt) == (Status.COMPLETED, 2)
    assert [line["attempt"] for line in logs if line["event"] == "task.attempt_superseded"] == [1]


async def test_health_shows_a_worker_that_ended(rig: Rig) -> None:
    assert rig.worker.health([]) == {"worker": "ok", "line": "ok"}
    await rig.worker.drain(NOW, asyncio.Event())
    assert rig.worker.health([])["worker"] == "not running"


async def test_health_shows_tasks_that_wait_although_slots_are_free(rig: Rig) -> None:
    due_at = rig.clock.now() - MINUTE
    waiting = PartitionStats(queue="default", type="add", pending=1, oldest_due_at=due_at)
    assert "waited 60 s" in rig.worker.health([waiting])["line"]
    unknown = PartitionStats(queue="default", type="nobody_has_it", pending=1, oldest_due_at=due_at)
    assert rig.worker.health([unknown])["line"] == "ok"


@pytest.mark.parametrize("step", [timedelta(hours=1), timedelta(days=-3653)])
async def test_a_step_of_the_wall_clock_ends_no_attempt_and_is_not_taken_for_a_wait(rig: Rig, step: timedelta) -> None:
    """Nor is it counted in the attempt's run time."""
    held = await rig.submit("hold")
    await rig.stage.started.wait()
    due_at = rig.clock.now()
    rig.clock.ahead = step
    waiting = PartitionStats(queue="default", type="add", pending=1, oldest_due_at=due_at)
    assert rig.worker.health([waiting])["line"] == "ok"
    assert await rig.engine.find_expired(limit=10) == []
    rig.stage.release.set()
    task = await rig.end(held)
    assert (task.status, task.attempt) == (Status.COMPLETED, 1)
    [row] = await rig.engine.usage.find_many(UsageFilter(first=date.min, last=date.max), group=(), limit=1)
    assert 0 < row.run_time < 60_000_000


async def test_attempts_running_when_the_service_ended_run_again(tmp_path: Path) -> None:
    """The next process finds the attempt running, reaps it as interrupted and runs it again, with all its tries."""
    first = Rig(tmp_path)
    await first.open()
    task = await first.submit("hold")
    await first.stage.started.wait()
    copy = tmp_path / "after-the-end"
    copy.mkdir()
    target = apsw.Connection(str(copy / "tasker.db"))
    with target.backup("main", first.engine._points, "main") as backup:
        backup.step()
    target.close()
    await first.close()

    second = Rig(copy)
    await second.open()
    assert await reap(second.engine, second.clock, Random(0)) == 1
    second.stage.release.set()
    done = await second.end(task)
    assert (done.status, done.attempt, done.tries_left) == (Status.COMPLETED, 2, 0)
    endings = [attempt.ending for attempt in await second.engine.find_attempts(task.task_id)]
    assert endings == ["interrupted", "succeeded"]
    await second.close()
