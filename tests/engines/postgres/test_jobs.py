"""The job table and the truth about tasks: each due task has one job, and no other task has any."""

from __future__ import annotations

from datetime import timedelta

from tasker.engines.postgres import PostgresEngine, retention
from tasker.model import Status
from tasker.rules.lifecycle import Crashed, Failed, Released, Snoozed, Succeeded, problem
from tasker.testing import Driver, ManualClock, make_draft

MINUTE = timedelta(minutes=1)


async def test_only_due_tasks_are_queued(driver: Driver, clock: ManualClock, sql) -> None:
    now = await driver.submit()
    later = await driver.submit(make_draft(clock.now(), delay=MINUTE))
    assert await sql("SELECT dedupe_key FROM pgqueuer") == [(str(now),)]
    clock.advance(2 * MINUTE)
    assert [claim.task_id for claim in await driver.claim(10)] == [now, later]
    assert await sql("SELECT count(*) FROM pgqueuer WHERE status = 'picked'") == [(2,)]


async def test_no_job_is_left_when_all_tasks_have_ended(driver: Driver, clock: ManualClock, sql) -> None:
    for outcome in (Succeeded(b"6"), Failed(problem("task-failed", "no")), Crashed("gone")):
        await driver.submit(make_draft(clock.now(), on_crash="fail"))
        await driver.finish(await driver.claim_one(), outcome)
    await driver.engine.cancel(await driver.submit())
    assert await sql("SELECT * FROM pgqueuer") == []


async def test_a_snoozed_task_has_no_job_until_it_is_due(driver: Driver, clock: ManualClock, sql) -> None:
    task_id = await driver.submit()
    await driver.finish(await driver.claim_one(), Snoozed(MINUTE))
    assert await sql("SELECT * FROM pgqueuer") == []
    clock.advance(2 * MINUTE)
    assert (await driver.claim_one()).task_id == task_id


async def test_a_released_task_is_queued_behind_those_that_came_meanwhile(driver: Driver, clock: ManualClock) -> None:
    first = await driver.submit()
    claim = await driver.claim_one()
    clock.advance(timedelta(seconds=1))
    second = await driver.submit()
    clock.advance(timedelta(seconds=1))
    await driver.finish(claim, Released())
    assert [claim.task_id for claim in await driver.claim(2)] == [second, first]


async def test_a_sweep_queues_a_task_again_that_lost_its_job(driver: Driver, sql) -> None:
    lost = [await driver.submit() for _ in range(3)]
    kept = await driver.submit()
    await sql("DELETE FROM pgqueuer WHERE dedupe_key = ANY($1)", [str(task_id) for task_id in lost])
    assert await driver.engine.sweep(limit=100) == 3
    assert {claim.task_id for claim in await driver.claim(10)} == {*lost, kept}
    assert await driver.engine.sweep(limit=100) == 0


async def test_a_sweep_drops_jobs_without_an_open_task(driver: Driver, sql) -> None:
    gone = [await driver.submit() for _ in range(3)]
    kept = await driver.submit()
    await sql("DELETE FROM task WHERE task_id = ANY($1)", gone[:2])
    await sql("UPDATE task SET status = 'completed' WHERE task_id = $1", gone[2])
    assert await driver.engine.sweep(limit=100) == 3
    assert await sql("SELECT dedupe_key FROM pgqueuer") == [(str(kept),)]


async def test_sweeps_go_on_where_the_last_one_ended_and_begin_again(driver: Driver, sql) -> None:
    for _ in range(6):
        await driver.submit()
    await sql("DELETE FROM pgqueuer")
    found = [await driver.engine.sweep(limit=2) for _ in range(4)]
    assert sum(found) == 6
    assert max(found) == 2
    await sql("DELETE FROM pgqueuer WHERE id = (SELECT max(id) FROM pgqueuer)")
    assert sum([await driver.engine.sweep(limit=2) for _ in range(8)]) == 1, "the round begins again"


async def test_a_sweep_leaves_running_and_waiting_tasks_alone(driver: Driver, clock: ManualClock, sql) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    await driver.submit(make_draft(clock.now(), delay=MINUTE))
    assert await driver.engine.sweep(limit=100) == 0
    assert await sql("SELECT status::text FROM pgqueuer") == [("picked",)]
    assert await driver.finish(claim, Succeeded(b"6"))


async def test_a_claim_drops_a_job_whose_task_is_no_longer_pending(driver: Driver, sql) -> None:
    task_id = await driver.submit()
    await sql("UPDATE task SET status = 'cancelled' WHERE task_id = $1", task_id)
    assert await driver.claim(10) == []
    assert await sql("SELECT * FROM pgqueuer") == []
    assert (await driver.get(task_id)).status is Status.CANCELLED


async def test_a_job_that_another_worker_holds_is_left_to_it(driver: Driver, sql) -> None:
    """A cancel does not wait for the row that a claim holds: that claim finds the task cancelled and drops it."""
    task_id = await driver.submit()
    await sql("BEGIN")
    await sql("SELECT id FROM pgqueuer FOR UPDATE")
    assert (await driver.engine.cancel(task_id)).status is Status.CANCELLED
    await sql("ROLLBACK")
    assert await driver.claim(10) == []
    assert await sql("SELECT * FROM pgqueuer") == []


async def test_jobs_inserted_by_hand_do_no_harm(driver: Driver, sql) -> None:
    columns = "INSERT INTO pgqueuer (priority, status, entrypoint, dedupe_key) VALUES "
    await sql(columns + "(0, 'queued', 'mine', 'no-uuid'), (0, 'queued', 'a/b/c/d', NULL), "
              "(0, 'queued', 'x', '------------------------------------')")  # fmt: skip
    task_id = await driver.submit()
    assert (await driver.claim_one()).task_id == task_id
    assert await driver.engine.sweep(limit=100) == 3
    assert await sql("SELECT dedupe_key FROM pgqueuer") == [(str(task_id),)]


async def test_a_job_that_a_cancel_left_behind_is_no_obstacle_to_a_retry(driver: Driver, sql) -> None:
    """The claim that held it was undone: it never dropped it."""
    task_id = await driver.submit()
    await sql("BEGIN")
    await sql("SELECT id FROM pgqueuer FOR UPDATE")
    await driver.engine.cancel(task_id)
    await sql("ROLLBACK")
    assert (await driver.engine.retry(task_id)).status is Status.PENDING
    assert (await driver.claim_one()).task_id == task_id
    assert await sql("SELECT count(*) FROM pgqueuer") == [(1,)]


async def test_many_tasks_of_long_queue_names_come_due_together(driver: Driver, clock: ManualClock) -> None:
    """Their partitions are more than a notification holds."""
    for number in range(120):
        name = f"{number:03}".ljust(100, "q")
        await driver.submit(make_draft(clock.now(), queue=name, delay=MINUTE))
    clock.advance(MINUTE)
    assert len(await driver.claim(200)) == 120


async def test_pgqueuers_log_is_emptied_when_it_is_large(
    driver: Driver, engine: PostgresEngine, sql, monkeypatch
) -> None:
    await driver.submit()
    await engine.prune(limit=10)
    assert await sql("SELECT count(*) FROM pgqueuer_log") == [(1,)], "a small log is kept"
    monkeypatch.setattr(retention, "LARGEST_LOG", 0)
    await sql("BEGIN")
    await sql("INSERT INTO pgqueuer_log (job_id, status, priority, entrypoint) VALUES (0, 'queued', 0, 'x')")
    await engine.prune(limit=10)
    await sql("ROLLBACK")
    assert await sql("SELECT count(*) FROM pgqueuer_log") == [(1,)], "nobody waits for it while it is in use"
    await engine.prune(limit=10)
    assert await sql("SELECT count(*) FROM pgqueuer_log") == [(0,)]


async def test_the_job_table_keeps_no_triggers_that_notify(engine: PostgresEngine, sql) -> None:
    """PgQueuer's own would notify once for each row; those that lift jobs of older processes do not notify."""
    found = await sql("SELECT tgname::text, tgenabled::text FROM pg_trigger WHERE tgrelid = 'pgqueuer'::regclass")
    ours = {"lift_joining", "lift_moved"}
    assert ours <= {name for name, _ in found}
    assert [enabled for name, enabled in found if name not in ours] == ["D"]
