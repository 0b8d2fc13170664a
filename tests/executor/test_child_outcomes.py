"""How an attempt in a child process ends, whatever its function does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from tasker.rules.lifecycle import Crashed, Failed, Interrupted, Snoozed, Succeeded, TimedOut
from tests.executor.rig import Rig, open_rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with open_rig(max_result=100_000) as rig:
        yield rig


async def test_returns_the_result_as_json_text(rig: Rig) -> None:
    assert await rig.run("add", 2, 3) == Succeeded(b"5")


async def test_runs_the_built_in_types(rig: Rig) -> None:
    assert await rig.value("reverse", "abc") == "cba"
    assert await rig.value("sum", 1, 2, isolate=True) == 3


async def test_gpt_gets_its_settings_in_a_child_of_its_own(rig: Rig) -> None:
    outcome = await rig.run("gpt", "Once upon a time", isolate=True)
    assert isinstance(outcome, Failed)
    assert outcome.problem.type == "/problems/gpt-not-configured"
    assert "TASKER_GPT_PROVIDER is openai" in outcome.problem.detail


async def test_reports_of_the_function_reach_the_observer(rig: Rig) -> None:
    running = rig.start("say_everything", attempt=7)
    assert await running.outcome() == Succeeded(f'"7 {running.claim.task_id}"'.encode())
    said = running.recorder
    assert [(p.fraction, p.current, p.message) for p in said.progresses] == [(0.25, 1, "one")]
    assert "".join(said.chunks) == "a" * 40_000 + "b \\ud800"
    assert said.logs == [("warning", "note", {"big": 2**70, "odd": "<class 'set'>", "message": "field"})]
    assert said.used == {"tokens": 3}


@pytest.mark.parametrize(
    ("what", "problem", "detail", "retryable"),
    [
        ("ValueError", "task-raised", "ValueError: bad \\ud800 value", True),
        ("SystemExit", "task-raised", "SystemExit: 2", True),
        ("KeyboardInterrupt", "task-raised", "KeyboardInterrupt", True),
        ("MemoryError", "task-raised", "MemoryError", True),
        ("GeneratorExit", "task-raised", "GeneratorExit", True),
        ("Unprintable", "task-raised", "Unprintable: (its message cannot be shown)", True),
        ("Fail", "task-failed", "no use", False),
        ("Fail again", "task-failed", "not now", True),
        ("Fail odd", "task-failed", "odd", False),
        ("Retry", "task-failed", "later", True),
    ],
)
async def test_an_exception_is_a_failure(rig: Rig, what: str, problem: str, detail: str, retryable: bool) -> None:
    outcome = await rig.run("throw", what)
    assert isinstance(outcome, Failed)
    assert outcome.problem.type == f"/problems/{problem}"
    assert (outcome.problem.detail, outcome.problem.retryable) == (detail, retryable)
    assert await rig.run("add", 2, 3) == Succeeded(b"5")


async def test_an_exit_in_a_task_of_an_isolated_coroutine_is_its_failure(rig: Rig) -> None:
    outcome = await rig.run("exit_in_a_task", isolate=True)
    assert isinstance(outcome, Failed)
    assert (outcome.problem.detail, outcome.problem.retryable) == ("SystemExit: 2", True)


async def test_the_function_can_ask_for_a_delay(rig: Rig) -> None:
    assert await rig.run("throw", "Snooze") == Snoozed(timedelta(seconds=5))
    for what, seconds in (("Fail again", 7), ("Retry", 3)):
        outcome = await rig.run("throw", what)
        assert isinstance(outcome, Failed)
        assert outcome.after == timedelta(seconds=seconds)


async def test_an_exception_has_its_class_and_a_traceback_of_the_users_frames_only(rig: Rig) -> None:
    outcome = await rig.run("throw", "ValueError")
    assert isinstance(outcome, Failed)
    error = outcome.problem
    assert error.exception is not None
    assert error.exception.class_ == "ValueError"
    assert error.traceback is not None
    assert "sample_tasks.py" in error.traceback
    assert "tasker/executor" not in error.traceback


@pytest.mark.parametrize("what", ["RecursionError", "Long"])
async def test_long_messages_are_cut(rig: Rig, what: str) -> None:
    outcome = await rig.run("throw", what)
    assert isinstance(outcome, Failed)
    assert len(outcome.problem.detail) < 10_000
    assert len(outcome.problem.traceback or "") < 20_000


async def test_a_result_over_the_limit_fails_for_good(rig: Rig) -> None:
    assert isinstance(await rig.run("make_text", 99_998), Succeeded)
    outcome = await rig.run("make_text", 99_999)
    assert isinstance(outcome, Failed)
    assert outcome.problem.type == "/problems/result-too-large"
    assert "TASKER_MAX_RESULT" in outcome.problem.detail
    assert "100,001 bytes" in outcome.problem.detail
    assert not outcome.problem.retryable


async def test_a_result_that_json_cannot_hold_fails_for_good(rig: Rig) -> None:
    outcome = await rig.run("make_nan")
    assert isinstance(outcome, Failed)
    assert outcome.problem.type == "/problems/result-not-serializable"
    assert not outcome.problem.retryable


async def test_params_that_no_longer_fit_fail_for_good(rig: Rig) -> None:
    outcome = await rig.run("add", 2, "x")
    assert isinstance(outcome, Failed)
    assert outcome.problem.type == "/problems/invalid-params"
    assert "/1" in outcome.problem.detail
    assert not outcome.problem.retryable


async def test_a_type_that_the_child_does_not_know_fails(rig: Rig) -> None:
    def local() -> None: ...

    rig.registry.add(local)
    outcome = await rig.run("local")
    assert isinstance(outcome, Failed)
    assert outcome.problem.type == "/problems/unknown-type"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("SIGKILL", "killed by SIGKILL"),
        ("SIGTERM", "killed by SIGTERM"),
        ("segfault", "killed by SIGSEGV"),
        ("exit", "exit code 3"),
    ],
)
async def test_a_child_that_dies_has_crashed_and_is_replaced(rig: Rig, how: str, words: str) -> None:
    outcome = await rig.run("die", how)
    assert isinstance(outcome, Crashed)
    assert words in outcome.detail
    assert outcome.problem == "worker-crashed"
    assert await rig.run("add", 2, 3) == Succeeded(b"5")


@pytest.mark.parametrize(
    ("how", "words"),
    [("garbage", "cannot be read"), ("huge", "4,294,967,295 bytes"), ("close", "closed its connection")],
)
async def test_a_child_that_spoils_its_connection_is_killed(rig: Rig, how: str, words: str) -> None:
    outcome = await rig.run("disturb", how)
    assert isinstance(outcome, Crashed)
    assert words in outcome.detail
    assert await rig.run("add", 2, 3) == Succeeded(b"5")


@pytest.mark.parametrize("type_name", ["hang", "ignore_signals"])
async def test_a_function_is_killed_when_its_time_is_up(rig: Rig, type_name: str) -> None:
    assert await rig.run(type_name, timeout=0.3) == TimedOut(timedelta(seconds=0.3))
    assert await rig.run("add", 2, 3) == Succeeded(b"5")


async def test_memory_over_the_limit_ends_only_the_attempt(rig: Rig) -> None:
    assert await rig.value("hold_memory", 100) == 100 * 2**20
    outcome = await rig.run("hold_memory", 300)
    assert isinstance(outcome, Crashed)
    assert outcome.problem == "memory-limit"
    assert "more than 191 MiB" in outcome.detail
    assert await rig.run("add", 2, 3) == Succeeded(b"5")


async def test_memory_of_processes_that_the_function_starts_counts(rig: Rig) -> None:
    outcome = await rig.run("hold_memory_below")
    assert isinstance(outcome, Crashed)
    assert outcome.problem == "memory-limit"


async def test_each_attempt_has_its_own_peak_memory(rig: Rig) -> None:
    small, large, small_again = (rig.start("hold_memory", mebibytes) for mebibytes in (1, 120, 1))
    assert [type(await one.outcome()) for one in (small, large, small_again)] == [Succeeded] * 3
    peaks = [(one.recorder.peak or 0) / 2**20 for one in (small, large, small_again)]
    assert peaks[0] < peaks[2] + 20 < 110 < 120 < peaks[1] < 200, "one child ran all three"


async def test_a_killed_attempt_has_its_peak_memory(rig: Rig) -> None:
    running = rig.start("hold_memory", 155)
    await running.recorder.heard()
    running.stop.abandon(Interrupted())
    assert await running.outcome() == Interrupted()
    assert (running.recorder.peak or 0) > 155 * 2**20


async def test_a_forked_process_cannot_report_for_the_attempt(rig: Rig) -> None:
    running = rig.start("fork_and_talk")
    assert await running.outcome() == Succeeded(b'"0"')
    assert running.recorder.chunks == []


async def test_a_context_kept_by_a_function_cannot_report_for_the_next_attempt(rig: Rig) -> None:
    pid = await rig.value("keep_context")
    others = [rig.start("use_kept_contexts") for _ in range(3)]
    await asyncio.gather(*(other.outcome() for other in others))
    assert [other.recorder.chunks for other in others] == [[], [], []]
    assert [(await other.outcome()).result for other in others] == [b"1"] * 3  # type: ignore[union-attr]
    assert await rig.value("get_pid") == pid
