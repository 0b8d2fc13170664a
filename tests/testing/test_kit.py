"""The kit of `tasker.testing.run`: what runs when, what a test sees of it, and that nothing stays behind."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from tasker import SyncContext, task
from tasker.client import SubmitOptions
from tasker.client.errors import InvalidRequest, TaskFailed
from tasker.errors import Invalid, NoSuchTarget, RegistrationError
from tasker.service import schedules
from tasker.tasktypes import operations
from tasker.testing import START, Kit, StillOpen, TooManyRuns, client, run
from tests.testing import kit_tasks
from tests.testing.kit_tasks import boom, double, email, flaky, slowly_checked, try_steps


@pytest.fixture
def t(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    monkeypatch.setattr(operations, "PATIENCE", 600.0)  # a task that waits in memory is not waited for
    kit_tasks.SENT.clear()
    with run(kit_tasks) as kit:
        yield kit


# what runs when


def test_nothing_runs_until_it_is_drained(t: Kit) -> None:
    handle = t.submit("email", to="a@example.com")
    assert handle.status() == "pending"
    assert kit_tasks.SENT == []
    [ran] = t.drain()
    assert (ran.type, ran.task_id, ran.attempt, ran.status) == ("email", handle.task_id, 1, "completed")
    assert kit_tasks.SENT == ["a@example.com"]
    assert handle.result() == "Hello to a@example.com"
    assert t.drain() == []


def test_who_waits_for_a_task_lets_it_run(t: Kit) -> None:
    assert t.run(double, 4) == 8
    assert t.submit("email", "a@example.com").result() == "Hello to a@example.com"
    assert list(t.submit("reverse", "abc").output()) == []


def test_time_passes_only_when_the_test_moves_it(t: Kit) -> None:
    handle = t.submit("double", 1, options=SubmitOptions(delay=timedelta(hours=1)))
    assert t.drain() == []
    assert t.advance(minutes=59, seconds=59) == []
    assert [ran.type for ran in t.advance(timedelta(seconds=1))] == ["double"]
    assert t.now == START + timedelta(hours=1)
    assert handle.get().finished_at == t.now


def test_retries_run_at_their_times(t: Kit) -> None:
    handle = t.submit(flaky)
    ran = t.advance(hours=2)
    assert [(one.attempt, one.status) for one in ran] == [(1, "pending"), (2, "pending"), (3, "completed")]
    assert handle.get().finished_at == START + timedelta(minutes=20)
    assert t.now == START + timedelta(hours=2)


def test_sleeps_children_and_questions_are_gone_through(t: Kit) -> None:
    handle = t.submit("welcome", "eve")
    t.drain()
    assert (handle.get().reason, handle.get().run_at) == ("sleeping", None)
    t.advance(days=1)
    t.assert_submitted("double", times=3)
    t.assert_submitted("email", to="eve@example.com")
    assert handle.get().reason == "input_required"
    with pytest.raises(StillOpen, match="answer its question"):
        handle.result()
    handle.input("is it right", True)
    assert handle.result() == [[2, 4, 6], "Hello to eve@example.com", True]


def test_the_time_of_a_question_is_over_after_it(t: Kit) -> None:
    handle = t.submit("welcome", "eve")
    t.advance(days=4)
    assert handle.result() == [[2, 4, 6], "Hello to eve@example.com", False]


def test_a_schedule_fires_at_each_of_its_ticks(t: Kit) -> None:
    t.client.schedules.create(name="often", cron="* * * * *", task={"type": "double", "params": [1]})
    ran = t.advance(hours=2)
    assert len(ran) == 120
    found = t.submitted(double)
    assert [task.created_at for task in found] == [
        START.replace(second=0, microsecond=0) + timedelta(minutes=minutes) for minutes in range(1, 121)
    ]


def test_a_schedule_whose_check_takes_long_fires_in_time(t: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "_PATIENCE", 0.0)
    t.client.schedules.create(name="slow", cron="0 * * * *", task={"type": "slowly_checked", "params": [1]})
    t.advance(hours=2)
    assert [(task.created_at.hour, task.created_at.second) for task in t.submitted(slowly_checked)] == [(4, 0), (5, 0)]


def test_schedules_fire_and_nothing_runs_while_there_is_no_worker(t: Kit) -> None:
    t.client.schedules.create(name="often", cron="0 * * * *", task={"type": "double", "params": [1]})
    assert t.advance(hours=3, run=False) == []
    assert [task.status for task in t.submitted(double)] == ["pending"] * 3
    assert len(t.drain()) == 3


def test_a_deadline_passes(t: Kit) -> None:
    handle = t.submit("double", 1, options=SubmitOptions(deadline=START + timedelta(hours=1)))
    t.advance(hours=2, run=False)
    with pytest.raises(TaskFailed, match="no attempt could start before"):
        handle.result()


def test_dependants_and_limits_of_queues_are_kept(t: Kit) -> None:
    t.client.queues.change("slow", rate={"limit": 1, "per": 60})
    first = [t.submit("double", number, options=SubmitOptions(queue="slow")) for number in range(3)]
    last = t.submit("double", 9, options=SubmitOptions(depends_on=[handle.task_id for handle in first]))
    assert [ran.type for ran in t.drain()] == ["double"]
    t.advance(minutes=5)
    assert last.result() == 18
    ended = [handle.get().finished_at or START for handle in first]
    assert [late - early for early, late in pairwise(ended)] == [timedelta(minutes=1)] * 2


def test_a_task_that_never_ends_ends_the_drain(t: Kit) -> None:
    t.submit("snooze_for_ever")
    with pytest.raises(TooManyRuns, match=r"more than 30 attempts ran: snooze_for_ever \(pending\) 31 times"):
        t.drain(limit=30)


def test_a_schedule_that_fires_more_often_than_meant_ends_the_time(t: Kit) -> None:
    t.client.schedules.create(name="often", cron="* * * * *", task={"type": "double", "params": [1]})
    with pytest.raises(TooManyRuns, match=r"more than 5 attempts ran: double \(completed\) 6 times"):
        t.advance(hours=1, limit=5)


def test_a_wait_for_what_is_not_due_says_when_it_is(t: Kit) -> None:
    handle = t.submit("double", 1, options=SubmitOptions(delay=1_209_600))
    with pytest.raises(StillOpen, match=r"it is due in 14 days, 0:00:00: advance\(days=14\)"):
        handle.result()
    with pytest.raises(StillOpen, match="is pending"):
        list(handle.events())


def test_the_pauses_of_a_step_take_no_time(t: Kit) -> None:
    assert t.run(try_steps) == 3


def test_time_does_not_run_backwards(t: Kit) -> None:
    with pytest.raises(ValueError, match="backwards"):
        t.advance(seconds=-1)


# what a test sees


def test_what_a_function_raised_is_the_cause(t: Kit) -> None:
    with pytest.raises(TaskFailed) as failed:
        t.run(boom, "nowhere")
    cause = failed.value.__cause__
    assert isinstance(cause, LookupError)
    assert cause.__traceback__ is not None
    assert failed.value.type == "LookupError"
    with pytest.raises(TaskFailed) as again:
        t.submit(boom, "twice").result()
    assert isinstance(again.value.__cause__, LookupError)


def test_logs_output_and_prints_are_the_task_s(t: Kit) -> None:
    handle = t.submit("welcome", "eve")
    t.drain()
    assert [entry.message for entry in handle.logs()] == ["welcome eve"]
    other = t.submit("submit_more")
    t.drain()
    assert [(entry.level, entry.message) for entry in other.logs()] == [("error", "giving up")]


def test_params_are_checked_as_in_a_service(t: Kit) -> None:
    with pytest.raises(InvalidRequest, match="expected an address"):
        t.submit("email", to="nobody")
    with pytest.raises(InvalidRequest, match="did you mean"):
        t.submit("emial", to="a@example.com")


def test_submissions_are_asserted_by_some_of_their_params(t: Kit) -> None:
    t.submit("email", "a@example.com", "Bye")
    t.submit("email", to="b@example.com")
    t.assert_submitted("email", times=2)
    [task] = t.assert_submitted(email, to="a@example.com", times=1)
    assert task.type == "email"
    t.assert_submitted("email", "a@example.com")
    t.assert_submitted("email", "b@example.com")
    t.assert_submitted("email", subject="Bye")
    t.assert_not_submitted("email", to="c@example.com")
    t.assert_not_submitted("email", subject="Hello")  # a default that nobody gave
    t.assert_not_submitted("double")


def test_a_failed_assertion_lists_what_was_submitted(t: Kit) -> None:
    t.run("double", 2)
    t.submit("email", to="a@example.com")
    with pytest.raises(AssertionError) as failed:
        t.assert_submitted("email", to="b@example.com")
    assert str(failed.value).splitlines() == [
        "expected a submission of email(to='b@example.com'), got 0; submitted:",
        "  double(2): completed",
        "  email(to='a@example.com'): pending",
    ]
    with pytest.raises(AssertionError, match=r"expected 0 submissions of email\(\), got 1"):
        t.assert_not_submitted("email")
    with pytest.raises(Invalid, match="did you mean 'email'"):
        t.assert_submitted("emial")


def test_attempts_fail_on_demand(t: Kit) -> None:
    t.fail_next("email", OSError("no server"), times=2)
    options = SubmitOptions(retry={"max_attempts": 3, "initial": 60, "jitter": False})
    handle = t.submit("email", "a@example.com", options=options)
    ran = t.advance(hours=1)
    assert [one.status for one in ran] == ["pending", "pending", "completed"]
    errors = [attempt.error.detail for attempt in handle.get(attempts=True).attempts or () if attempt.error]
    assert errors == ["OSError: no server", "OSError: no server"]
    assert kit_tasks.SENT == ["a@example.com"]


def test_attempts_crash_and_time_out_on_demand(t: Kit) -> None:
    t.fail_next(double, "timeout")
    with pytest.raises(TaskFailed) as failed:
        t.run(double, 1)
    assert failed.value.type == "timed-out"
    t.fail_next("double", "crash", times=3)
    handle = t.submit("double", 1)
    t.advance(hours=1)
    with pytest.raises(TaskFailed) as failed:
        handle.result()
    assert failed.value.type == "worker-crashed"
    t.fail_next("sum")  # a function that the service runs at once
    with pytest.raises(TaskFailed, match="fail_next made this attempt fail"):
        t.run("sum", 1, 2)
    with pytest.raises(Invalid, match="did you mean"):
        t.fail_next("emial")


def test_gpt_answers_what_the_test_sets(t: Kit) -> None:
    t.gpt.reply("Once upon a time.", {"name": "Ada"}, always=str.upper)
    handle = t.submit("gpt", "a story")
    assert handle.result() == "Once upon a time."
    assert "".join(handle.output()) == "Once upon a time."
    usage = handle.get().usage
    assert (usage["output_tokens"], usage["provider"]) == (4, "fake")
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    assert t.run("gpt", prompt="who", schema=schema) == {"name": "Ada"}
    assert t.run("gpt", "again") == "AGAIN"
    assert t.gpt.prompts == ["a story", "who", "again"]


def test_gpt_says_that_no_text_is_set(t: Kit) -> None:
    with pytest.raises(TaskFailed, match=r"no text for the prompt 'hi': call gpt.reply"):
        t.run("gpt", "hi")


def test_a_task_is_cancelled_retried_and_replayed(t: Kit) -> None:
    handle = t.submit("double", 1, options=SubmitOptions(delay=60))
    assert handle.cancel().status == "cancelled"
    assert handle.retry().status == "pending"
    t.drain()
    assert handle.result() == 2
    assert t.client.replay(handle.task_id, [5]).result() == 10


def test_bulk_actions_and_statistics_work(t: Kit) -> None:
    for number in range(3):
        t.submit("double", number, options=SubmitOptions(delay=60))
    t.client.bulk.cancel(type="double")
    t.drain()
    assert {task.status for task in t.submitted("double")} == {"cancelled"}
    assert t.run("double", 3) == 6
    total = t.client.stats().total
    assert (total.cancelled, total.completed) == (3, 1)


# what it runs


def test_files_modules_and_functions_are_run(tmp_path: Path) -> None:
    file = tmp_path / "mytasks_of_kit.py"
    file.write_text("from tasker import task\n\n\n@task\ndef greet(name: str) -> str:\n    return f'Hi {name}'\n")
    with run(file, double) as t:
        assert t.run("greet", "Ada") == "Hi Ada"
        assert t.run(double, 2) == 4
    with run(str(file)) as t:
        assert t.run("greet", name="Bo") == "Hi Bo"


def test_a_file_that_the_test_has_imported_is_that_module(t: Kit) -> None:
    assert kit_tasks.__file__ is not None
    with run(kit_tasks.__file__) as other:
        kit_tasks.SENT.clear()
        other.run("email", "a@example.com")
        assert kit_tasks.SENT == ["a@example.com"]


def test_what_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken_of_kit.py").write_text("from tasker import task\nraise OSError('no')\n")
    with pytest.raises(RegistrationError, match=r"broken_of_kit.py:2.*OSError: no"), run(tmp_path / "broken_of_kit.py"):
        pass
    with pytest.raises(NoSuchTarget), run("nowhere_at_all.py"):
        pass


def test_settings_start_and_token_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKER_TOKEN", "of the machine, not ours")
    start = datetime(2030, 5, 6, tzinfo=UTC)
    with run(start=start, max_result=1024) as t:
        assert t.now == start
        with pytest.raises(TaskFailed, match="TASKER_MAX_RESULT"):
            t.run("reverse", "x" * 2000)
    with run(token="a-token-of-the-kit") as t:
        assert t.run("sum", 1, 2) == 3


@task
def use_the_client(context: SyncContext) -> int:
    """A task that submits another one by the client, and waits for it."""
    result: int = KITS[-1].run("double", 21)
    return result


KITS: list[Kit] = []


def test_a_task_may_wait_for_another_one_by_the_client() -> None:
    with run(use_the_client, double) as t:
        KITS.append(t)
        assert t.run(use_the_client) == 42


def test_another_client_reaches_the_kit(t: Kit) -> None:
    with client(t) as other:
        assert other.run("double", 2) == 4


def test_the_store_is_the_kit_s_own(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="leave out data_dir"), run(data_dir=tmp_path):
        pass


def test_a_kit_that_has_ended_says_so() -> None:
    with run(double) as t:
        pass
    with pytest.raises(RuntimeError, match="the kit has ended"):
        t.drain()


def test_two_kits_at_once_are_apart() -> None:
    with run(double) as one, run(double) as other:
        one.submit("double", 1)
        assert other.drain() == []
        assert len(one.drain()) == 1


async def test_it_works_where_a_loop_runs() -> None:
    with run(double) as t:
        assert t.run("double", 2) == 4


def test_nothing_stays_behind() -> None:
    with run(kit_tasks):
        pass  # what is made once for all kits
    before = {thread.name for thread in threading.enumerate()}
    files, streams = len(os.listdir("/proc/self/fd")), (sys.stdout, sys.stderr)
    children = psutil.Process().children()
    for _ in range(3):
        with run(kit_tasks) as t:
            t.run("double", 1)
            t.run("email", "a@example.com")
            assert sys.stdout is streams[0]
    assert {thread.name for thread in threading.enumerate()} <= before
    assert len(os.listdir("/proc/self/fd")) == files
    assert psutil.Process().children() == children
    assert (sys.stdout, sys.stderr) == streams
