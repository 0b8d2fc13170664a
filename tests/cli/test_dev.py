"""`tasker dev`: it reloads code without losing tasks, keeps the old code when the new one is broken, and debugs."""

from __future__ import annotations

import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx2
import pytest

from tasker.cli import main
from tasker.client import Tasker
from tests.cli.command import Terminal, on_terminal
from tests.cli.developing import LIMIT, Dev, developing
from tests.server import held_port

TASKS = """
import time
from tasker import task
from helper import OFFSET

@task
def total(a: int, b: int) -> int:
    return a + b + OFFSET

@task
def other() -> None:
    pass

@task
def linger(seconds: float) -> str:
    time.sleep(seconds)
    return "old"
"""
HELPER = "OFFSET = 0\n"


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    folder = tmp_path_factory.mktemp("dev")
    (folder / "mytasks.py").write_text(TASKS)
    (folder / "helper.py").write_text(HELPER)
    with developing(folder, "mytasks.py") as dev:
        yield dev


def begin(dev: Dev) -> None:
    """Have the code as it was at first."""
    kept = {file.name: file.read_text() for file in dev.folder.glob("*.py")}
    if kept.get("mytasks.py") != TASKS or kept.get("helper.py") != HELPER:
        dev.write("helper.py", HELPER)
        dev.write("mytasks.py", TASKS)
        dev.wait_for("reloaded")


def _wait_until_started(dev: Dev, handle: Any) -> None:
    for event in dev.client.events(handle.task_id):
        if event.type == "started":
            return


def test_a_change_is_reloaded_and_says_what_is_new_other_and_gone(dev: Dev) -> None:
    assert dev.client.run("total", 1, 2) == 3
    changed = TASKS.replace("a + b", "a * b").replace("def other", "def another")
    dev.write("mytasks.py", changed)
    line = dev.wait_for("reloaded")
    assert line.startswith("reloaded mytasks.py in ")
    assert line.endswith(" s: +another, ~total, -other")
    assert dev.client.run("total", 3, 4) == 12
    assert '{"timestamp"' not in dev.text(), "the log is text"


def test_broken_code_is_shown_with_its_line_while_the_old_code_goes_on(dev: Dev) -> None:
    answer = dev.client.run("total", 3, 4)
    dev.write("mytasks.py", TASKS.replace("return a + b + OFFSET", "return a +"))
    assert "not reloaded, the code from before goes on: mytasks.py:8: SyntaxError" in dev.wait_for("not reloaded")
    assert dev.client.run("total", 3, 4) == answer


@pytest.mark.long
def test_a_child_process_that_starts_anew_still_has_the_old_code(dev: Dev) -> None:
    begin(dev)
    (dev.folder / "helper.py").unlink()
    dev.wait_for("not reloaded")
    (dev.folder / "mytasks.py").unlink()
    dev.wait_for("not reloaded")
    first = dev.client.submit("linger", 30)
    _wait_until_started(dev, first)  # it has the only child that had started before
    assert dev.client.run("total", 1, 2) == 3
    dev.client.cancel(first.task_id)


def test_requests_wait_and_tasks_run_on_while_the_code_is_reloaded(dev: Dev) -> None:
    running = dev.client.submit("linger", 30)
    _wait_until_started(dev, running)
    done, failures, over = [], [], threading.Event()

    def submit_all_the_time() -> None:
        while not over.is_set():
            try:
                reply = httpx2.post(f"{dev.url}/task", json={"type": "sum", "params": [1, 2]}, timeout=LIMIT)
                task = reply.raise_for_status().json()
                assert task["reason"] != "restart", "it was taken by a service that does not run it any more"
                done.append(task["task_id"])
            except Exception as error:
                failures.append(repr(error))

    thread = threading.Thread(target=submit_all_the_time)
    thread.start()
    dev.write("mytasks.py", TASKS.replace("time.sleep(seconds)", "pass").replace('"old"', '"new"'))
    assert "~linger" in dev.wait_for("reloaded")
    over.set()
    thread.join()
    assert not failures
    assert {dev.client.wait(task_id).status for task_id in done} == {"completed"}
    task = dev.client.wait(running.task_id)
    assert (task.result, task.attempt) == ("new", 2)
    assert [one.ending for one in dev.client.get(running.task_id, attempts=True).attempts] == ["released", "succeeded"]


@pytest.mark.long
def test_what_was_missing_is_noticed_when_it_comes(dev: Dev) -> None:
    begin(dev)
    dev.write("mytasks.py", TASKS.replace("import OFFSET\n", "import OFFSET\nimport new_helper\n"))
    assert "mytasks.py:5: import failed: ModuleNotFoundError" in dev.wait_for("not reloaded")
    dev.write("new_helper.py", "1 / 0\n")  # what it lacked is there, and fails by itself
    assert "new_helper.py:1: import failed: ZeroDivisionError" in dev.wait_for("not reloaded")
    dev.write("new_helper.py", "\n")
    assert "new_helper.py" in dev.wait_for("reloaded")
    assert dev.client.run("total", 1, 2) == 3


@pytest.mark.long
def test_a_burst_of_saves_and_one_during_the_reload_end_with_the_last_code(dev: Dev) -> None:
    begin(dev)
    for offset in range(1, 6):
        dev.write("helper.py", "")
        dev.write("helper.py", f"OFFSET = {offset}\n")
    dev.wait_for("reloaded")
    dev.write("helper.py", "OFFSET = 6\n")
    sleep(0.2)  # the load has begun, or not: either way the last save counts
    dev.write("helper.py", "OFFSET = 7\n")
    limit = monotonic() + LIMIT
    while dev.client.run("total", 0, 0) != 7:
        assert monotonic() < limit
    assert "not reloaded" not in dev.text()[dev._seen :]


@pytest.mark.long
def test_a_save_without_a_change_reloads_nothing(dev: Dev) -> None:
    begin(dev)
    before = dev.text().count("reloaded ")
    dev.write("mytasks.py", TASKS)
    dev.write("test_mytasks.py", "what nobody imports\n")
    dev.write("helper.py", "OFFSET = 0 \n")  # a comparison shows that it looks
    dev.wait_for("reloaded helper.py")
    assert dev.text().count("reloaded ") == before + 1
    dev.write("helper.py", "OFFSET = 0\n")
    dev.wait_for("reloaded helper.py")


@pytest.mark.long
def test_without_a_debugger_a_breakpoint_is_passed_over(dev: Dev) -> None:
    begin(dev)
    dev.write("mytasks.py", TASKS.replace("    return a + b", "    breakpoint()\n    return a + b"))
    dev.wait_for("reloaded")
    assert dev.client.run("total", 1, 2) == 3
    assert "start `tasker dev --in-process`" in dev.wait_for("passed over")


@pytest.mark.long
def test_a_wrong_setting_is_named_and_the_service_goes_on_until_its_supervisor_is_killed(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TASKER_HOST=0.0.0.0\nTASKER_AUTH=off\n")  # a server's; dev listens here alone
    with developing(tmp_path) as dev:
        assert f"runs at {dev.url}" in dev.text()
        dev.write(".env", "TASKER_SLOTS=many\n")
        assert "TASKER_SLOTS (in .env): expected a whole number" in dev.wait_for("TASKER_SLOTS")
        dev.write(".env", "TASKER_SLOTS=7\n")
        dev.wait_for("reloaded .env")
        assert dev.client.run("sum", 1, 2) == 3
        dev.process.kill()  # the service notices, and ends too
        dev.process.wait()
        limit = monotonic() + LIMIT
        while (dev.folder / ".tasker" / "tasker.lock").read_text():
            assert monotonic() < limit, "the service still has the data folder"
            sleep(0.02)


def test_a_target_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dev", "nosuch.py", "--port", "0"]) == 2
    assert "nosuch.py: there is no such file" in capsys.readouterr().err


@pytest.mark.long
def test_code_that_is_broken_at_first_and_a_service_that_crashes_go_on_with_the_next_change(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from tasker import task\n@task\ndef crash() -> int\n    return 1\n")
    with developing(tmp_path, "own.py", "--in-process") as dev:
        assert "NOT LOADED" in dev.text()
        assert dev.client.run("sum", 1, 2) == 3
        dev.write("own.py", "from tasker import task\n@task\ndef crash() -> int:\n    import os; os._exit(3)\n")
        assert dev.wait_for("reloaded").endswith(": +crash")
        task = dev.client.submit("crash")
        assert "exit code 3" in dev.wait_for("the service has ended by itself")
        dev.write("own.py", "from tasker import task\n@task\ndef crash() -> int:\n    return 1\n")
        dev.wait_for("reloaded")
        assert dev.client.wait(task.task_id).result == 1


BROKEN_INTO = """
from tasker import task

@task
def halve(number: int) -> int:
    half = number // 2
    breakpoint()
    return half

@task
async def ahalve(number: int) -> int:
    breakpoint()
    return number // 2
"""


def test_a_breakpoint_opens_the_debugger_on_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "mytasks.py").write_text(BROKEN_INTO)
    with (
        held_port() as port,
        on_terminal("dev", "mytasks.py", "--in-process", "--port", str(port), folder=tmp_path) as terminal,
        Tasker(f"http://127.0.0.1:{port}", timeout=LIMIT) as client,
    ):
        terminal.wait_for("stop: Ctrl-C")
        usual = termios.tcgetattr(terminal.screen)
        task = client.submit("halve", 10)
        _debug(terminal)
        done = client.wait(task.task_id)
        assert (done.result, done.attempt) == (5, 1)
        assert not [*client.handle_of(task.task_id).logs()], "the debugger's words are none of the task's"
        client.submit("ahalve", 12)
        terminal.shown = terminal.wait_for("breakpoint in task ahalve (").partition("ahalve")[2]
        terminal.wait_for("(Pdb) ")  # not the prompt at which the first one was left
        terminal.press("\x03")
        assert terminal.end() == 0
        assert termios.tcgetattr(terminal.screen) == usual, "the debugger had switched off the echo"


def _debug(terminal: Terminal) -> None:
    assert "breakpoint in task halve" in terminal.wait_for("(Pdb) ")
    terminal.press("p half * 1000\n")
    terminal.wait_for("5000")
    terminal.shown = ""
    terminal.press("c\n")
