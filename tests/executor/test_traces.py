"""Changes that an attempt makes to its process never reach the next attempt."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tasker.rules.lifecycle import Crashed, Failed, Snoozed, Succeeded
from tests.executor import trace_tasks
from tests.executor.rig import TASKS, Rig, open_rig

TRACES = str(Path(TASKS).with_name("trace_tasks.py"))


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with open_rig(targets=[TASKS, TRACES]) as rig:
        yield rig


@pytest.mark.parametrize("name", trace_tasks.RESTORED)
async def test_changes_that_can_be_undone_are_undone(rig: Rig, name: str) -> None:
    pid, clean = await rig.value("look", name)
    assert await rig.value("leave", name) == pid
    assert await rig.value("look", name) == [pid, clean]


@pytest.mark.parametrize("name", trace_tasks.REPLACED)
async def test_changes_that_cannot_be_undone_end_the_child(rig: Rig, name: str) -> None:
    if name == "user" and os.getuid() != 0:
        pytest.skip("only root may become somebody else")
    pid, clean = await rig.value("look", name)
    with capture_logs() as logs:
        assert await rig.value("leave", name) == pid
    assert "the child process ends with this task, which has left behind" in str(logs)
    other, value = await rig.value("look", name)
    assert (other != pid, value) == (True, clean)


async def test_a_changed_priority_is_put_back_or_ends_the_child(rig: Rig) -> None:
    await rig.value("add", 1, 2)
    assert await rig.value("be_nice") == 5
    assert await rig.value("get_niceness") == 0


async def test_output_goes_on_after_a_task_has_taken_its_buffer(rig: Rig) -> None:
    with capture_logs() as logs:
        assert await rig.run("print_anew") == Succeeded(b"null")
        assert await rig.run("print_line", "next") == Succeeded(b"null")
    lines = [(line["type"], line["source"], line["event"]) for line in logs]
    assert lines == [
        ("print_anew", "stdout", "kept"),
        ("print_anew", "stdout", "unended"),
        ("print_line", "stdout", "next"),
        ("print_line", "stderr", "next too"),
        ("print_line", "mine", "next as well"),
    ]


@pytest.mark.parametrize("name", ["closed output", "detached output", "other output", "descriptors", "no logging"])
async def test_reports_of_the_next_task_arrive(rig: Rig, name: str) -> None:
    await rig.value("leave", name)
    with capture_logs() as logs:
        await rig.run("print_line", "next")
    assert [line["event"] for line in logs] == ["next", "next too", "next as well"]


async def test_a_handler_that_raises_between_two_tasks_fails_only_its_own_task(rig: Rig) -> None:
    for _ in range(20):
        outcome = await rig.run("be_interrupted_often")
        assert isinstance(outcome, Succeeded | Failed)
        assert isinstance(outcome, Succeeded) or "TimeoutError: the alarm" in outcome.problem.detail
        assert await rig.run("add", 2, 3) == Succeeded(b"5")


async def test_leftovers_of_a_function_may_raise_in_the_childs_own_code(rig: Rig) -> None:
    pid = await rig.value("get_pid")
    outcome = await rig.run("raise_in_our_code")
    assert isinstance(outcome, Failed)
    assert outcome.problem.detail == "RuntimeError: of the profiler"
    assert await rig.value("get_pid") == pid


async def test_a_handler_may_print_while_its_task_does(rig: Rig) -> None:
    with capture_logs():
        assert await rig.run("log_from_a_handler") == Succeeded(b'"done"')


@pytest.mark.parametrize(
    ("how", "words"), [("shown", "ValueError: broken inside"), ("unshowable", "Unshowable"), ("exit", "SystemExit: 0")]
)
async def test_a_child_that_dies_of_an_exception_reports_it(rig: Rig, how: str, words: str) -> None:
    outcome = await rig.run("break_the_child", how)
    assert isinstance(outcome, Crashed)
    assert words in outcome.detail
    assert "SIGKILL" not in outcome.detail
    assert "memory" not in outcome.detail
    assert await rig.run("add", 2, 3) == Succeeded(b"5")


async def test_a_change_found_too_late_costs_the_next_task_no_try(rig: Rig) -> None:
    pid = await rig.value("spoil_what_is_put_back_later")
    declined = await rig.run("get_pid")
    assert isinstance(declined, Snoozed)
    assert declined.after.total_seconds() == 0
    assert await rig.value("get_pid") != pid


@pytest.fixture
def oom_kills(monkeypatch: pytest.MonkeyPatch) -> list[Iterator[int | None]]:
    """The values of the kernel's counter, one for each read."""
    counts: list[Iterator[int | None]] = [itertools.repeat(0)]
    monkeypatch.setattr("tasker.executor.process.count_oom_kills", lambda: next(counts[0]))
    return counts


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        (itertools.repeat(3), "the process of the task was killed by SIGKILL (not for lack of memory)"),
        (itertools.count(), "the process of the task was killed by SIGKILL (the system ran out of memory)"),
        (itertools.repeat(None), "the process of the task was killed by SIGKILL"),
    ],
)
async def test_memory_is_blamed_only_if_the_kernel_has_killed_for_it(
    oom_kills: list[Any], counts: Iterator[int | None], says: str
) -> None:
    oom_kills[0] = counts
    async with open_rig() as rig:
        assert await rig.run("die", "SIGKILL") == Crashed(says)
