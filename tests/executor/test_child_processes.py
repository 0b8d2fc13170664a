"""The life of the child processes themselves: reuse, replacement, what they inherit, what they leave behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
import uvloop
from structlog.testing import capture_logs

from tasker.executor.child.runner import LOAD_AGAIN
from tasker.executor.pool import FIRST_PAUSE
from tasker.rules.lifecycle import Cancelled, Crashed, Released, Snoozed, Succeeded, TimedOut
from tests.executor.rig import TASKS, Rig, Vanishing, gone, open_rig, own_children


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with open_rig() as rig:
        yield rig


async def test_a_child_is_used_again(rig: Rig) -> None:
    assert len({await rig.value("get_pid") for _ in range(5)}) == 1


async def test_no_more_run_at_a_time_than_there_are_processes() -> None:
    async with open_rig(processes=2) as rig:
        first, second = (rig.start("stop_when_asked", "return") for _ in range(2))
        await asyncio.gather(first.recorder.heard(), second.recorder.heard())
        assert rig.free_children == 0
        first.stop.cancel()
        second.stop.cancel()
        await asyncio.gather(first.outcome(), second.outcome())
        assert rig.free_children == 2


async def test_an_isolated_function_has_a_child_of_its_own_that_ends_with_it(rig: Rig) -> None:
    shared = await rig.value("get_pid")
    running = rig.start("stop_when_asked", "return")
    await running.recorder.heard()
    alone = [await rig.value(name, isolate=True) for name in ("get_pid", "get_pid_async")]
    assert len({shared, os.getpid(), *alone}) == 4
    for pid in alone:
        await gone(pid)
    running.stop.cancel()
    await running.outcome()
    assert await rig.value("get_pid") == shared


async def test_a_child_is_replaced_after_max_tasks() -> None:
    async with open_rig(child_max_tasks=3) as rig:
        pids = [await rig.value("get_pid") for _ in range(7)]
    assert [len(set(pids[:3])), len(set(pids[3:6])), len(set(pids))] == [1, 1, 3]


async def test_a_child_that_holds_too_much_memory_after_a_task_is_replaced() -> None:
    async with open_rig(child_max_memory=150 * 2**20) as rig:
        first = await rig.value("hold_on", 10)
        assert await rig.value("hold_on", 200) == first
        assert await rig.value("hold_on", 10) != first


async def test_descendants_end_with_an_attempt_that_is_killed(rig: Rig) -> None:
    """Also those that have left the process group and their parent."""
    running = rig.start("start_and_hang", timeout=3)
    group = [Vanishing(int(pid)) for pid in await running.recorder.heard(3)]
    assert await running.outcome() == TimedOut(timedelta(seconds=3))
    for process in group:
        await process.gone()


async def test_descendants_that_a_finished_function_leaves_behind_end_with_its_child(rig: Rig) -> None:
    group = [Vanishing(pid) for pid in await rig.value("start_and_leave")]
    for process in group:
        await process.gone()
    assert await rig.run("add", 2, 3) == Succeeded(b"5")


async def test_a_function_that_waits_for_its_subprocesses_keeps_its_child(rig: Rig) -> None:
    first = await rig.value("get_pid")
    assert await rig.value("run_quickly") == "done\n"
    assert await rig.value("get_pid") == first


async def test_descendants_of_a_child_that_dies_end_as_well(rig: Rig) -> None:
    with capture_logs() as logs:
        assert isinstance(await rig.run("start_and_die"), Crashed)
    (pid,) = [int(line["event"]) for line in logs if line.get("source") == "stdout"]
    await gone(pid)


async def test_an_idle_child_that_dies_is_replaced(rig: Rig) -> None:
    first = await rig.value("get_pid")
    process = Vanishing(first)
    os.kill(first, signal.SIGKILL)
    await process.gone()
    async with asyncio.timeout(20):
        while rig.executor._pool._idle:
            await asyncio.sleep(0)
    assert await rig.value("get_pid") != first


async def test_printed_and_logged_lines_name_their_task(rig: Rig) -> None:
    with capture_logs() as logs:
        running = rig.start("print_lines", attempt=4)
        await running.outcome()
    lines = [(line["source"], line["event"], line["log_level"]) for line in logs]
    assert sorted(lines) == [
        ("mine", "between two levels", "info"),
        ("mine", "logged 1", "warning"),
        ("stderr", "to stderr", "info"),
        ("stdout", "bytes \\xff", "info"),
        ("stdout", "first line", "info"),
        ("stdout", "half", "info"),
    ]
    names = {(line["task_id"], line["attempt"], line["type"]) for line in logs}
    assert names == {(str(running.claim.task_id), 4, "print_lines")}
    printed = [("stderr", "to stderr"), ("stdout", "bytes \\xff"), ("stdout", "first line"), ("stdout", "half")]
    assert sorted(running.recorder.printed_lines) == printed, "not what it has logged"


async def test_endless_printing_is_cut_short_and_says_so(rig: Rig) -> None:
    with capture_logs() as logs:
        await rig.run("print_much", 50_000)
    assert 2000 <= len(logs) < 50_000
    dropped = [line["event"] for line in logs if line["source"] == "tasker"]
    assert dropped
    assert all("lines dropped: more than 500 a second" in event for event in dropped)


async def test_raw_output_names_its_task_too(rig: Rig) -> None:
    with capture_logs() as logs:
        running = rig.start("write_past_python", attempt=2)
        assert isinstance(await running.outcome(), Succeeded)
    assert [(line["source"], line["event"]) for line in logs] == [
        ("process", text)
        for text in ("raw to 2", "raw to 1, without an endfrom a program", "its complaint", "from a fork")
    ]
    names = {(line["task_id"], line["attempt"], line["type"]) for line in logs}
    assert names == {(str(running.claim.task_id), 2, "write_past_python")}


async def test_endless_raw_output_is_cut_short(rig: Rig) -> None:
    with capture_logs() as logs:
        await rig.run("write_much_past_python", 50_000)
    lines = [line["event"] for line in logs if line["source"] == "process"]
    dropped = [int(line["event"].split()[0].replace(",", "")) for line in logs if line["source"] == "tasker"]
    assert len(lines) >= 2000
    assert len(lines) + sum(dropped) == 50_000, "what is dropped is counted"


async def test_the_environment_is_passed_on_without_the_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKER_TOKEN", "secret")
    monkeypatch.setenv("PLAIN", "visible")
    async with open_rig(secrets={"TASKER_TOKEN", "NOT_SET"}) as rig:
        assert await rig.value("get_environment", ["TASKER_TOKEN", "PLAIN"]) == [None, "visible"]


async def test_a_child_is_set_up_apart_from_the_service(rig: Rig) -> None:
    assert await rig.value("look_around") == {"core": 0, "first_to_go": 500, "is_leader": True, "stdin": ""}


async def test_no_file_in_the_working_directory_replaces_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "socket.py").write_text("raise RuntimeError('shadowed')")
    monkeypatch.chdir(tmp_path)
    async with open_rig() as rig:
        assert await rig.run("add", 2, 3) == Succeeded(b"5")


async def test_children_that_cannot_load_the_tasks_crash_with_the_reason_and_start_at_growing_intervals(
    tmp_path: Path,
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("print('loading')\nraise KeyboardInterrupt('no database')")
    with capture_logs() as logs:
        async with open_rig(targets=[TASKS, str(broken)]) as rig:
            for _ in range(2):
                outcome = await rig.run("add", 2, 3)
                assert isinstance(outcome, Crashed)
                assert "no database" in outcome.detail
            assert "no database" in rig.executor.health()
            broken.write_text("from tasker import task\n@task\ndef mended() -> None: ...")
            assert await rig.run("add", 2, 3) == Succeeded(b"5")
            assert rig.executor.health() == "ok"
    pauses = [line["next_try_seconds"] for line in logs if line["event"] == "child.did_not_start"]
    assert pauses == [FIRST_PAUSE, 2 * FIRST_PAUSE]
    assert "loading" in [line["event"] for line in logs]


async def test_a_task_waits_while_the_file_of_its_type_is_broken(tmp_path: Path) -> None:
    """The service has loaded the file before it was broken."""
    file = tmp_path / "mytasks.py"
    good = "from tasker import task\n@task\ndef changed() -> int:\n    return 3\n"
    file.write_text(f"{good}1 / 0\n")

    def changed() -> int: ...  # type: ignore[empty-body]

    async with open_rig(targets=[TASKS, str(file)]) as rig:
        rig.registry.add(changed)
        with capture_logs() as logs:
            assert await rig.run("changed") == Snoozed(LOAD_AGAIN)
        assert "ZeroDivisionError" in "".join(line["event"] for line in logs if line["log_level"] == "error")
        assert await rig.run("add", 2, 3) == Succeeded(b"5")
        file.write_text(good)
        outcomes = [await rig.run("changed") for _ in range(2)]  # one child may have been started before that
        assert outcomes[-1] == Succeeded(b"3")


async def test_no_child_is_started_while_a_pause_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasker.executor.pool.FIRST_PAUSE", 600.0)
    monkeypatch.setattr("tasker.executor.pool.LONGEST_PAUSE", 600.0)
    broken = tmp_path / "broken.py"
    broken.write_text("raise KeyboardInterrupt")
    async with open_rig(targets=[TASKS, str(broken)]) as rig:
        assert isinstance(await rig.run("add", 2, 3), Crashed)
        while own_children():  # the one that did not start
            await asyncio.sleep(0)
        running = rig.start("add", 2, 3)
        for _ in range(20):
            await asyncio.sleep(0)
        assert own_children() == []
        running.stop.cancel()
        assert await running.outcome() == Cancelled()


async def test_params_and_results_larger_than_a_socket_buffer_pass(rig: Rig) -> None:
    assert await rig.value("reverse", "a" + "b" * 900_000) == "b" * 900_000 + "a"


def test_children_are_run_and_killed_under_the_services_loop_as_well() -> None:
    async def scenario() -> None:
        async with open_rig() as rig:
            assert await rig.run("add", 2, 3) == Succeeded(b"5")
            running = rig.start("start_and_hang")
            group = [Vanishing(int(pid)) for pid in await running.recorder.heard(3)]
            running.stop.abandon(Released())
            assert await running.outcome() == Released()
            for process in group:
                await process.gone()
            assert isinstance(await rig.run("die", "SIGKILL"), Crashed)

    uvloop.run(scenario())
    assert own_children() == []


@pytest.mark.long
async def test_200_tasks_leave_no_descriptor_and_no_zombie() -> None:
    async with open_rig(processes=2, child_max_tasks=20) as rig:
        await asyncio.gather(*(rig.run("add", 2, 3) for _ in range(10)))
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            await asyncio.gather(*(rig.run("add", 2, 3) for _ in range(18)), rig.run("die", "exit"), rig.run("get_pid"))
        await asyncio.gather(*(rig.run("get_pid") for _ in range(2)))
        children = own_children()
        assert len(os.listdir("/proc/self/fd")) <= before + 8  # a child takes three, and one may be starting
        assert all(child.status() != psutil.STATUS_ZOMBIE for child in children)
        assert len(children) <= 3
    assert own_children() == []
