"""`tasker replay TASK --pdb`: a stored task runs here, with its stored steps, under the debugger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasker.cli import main
from tasker.client import Tasker
from tests.cli.command import on_terminal
from tests.server import Server, run_server

TASKS = """
from typing import Annotated
from tasker import Context, SyncContext, secret, task

def fetch(number: int) -> int:
    print("fetching")
    return number * 10

@task
def divide(context: SyncContext, number: int, by: int) -> float:
    large = context.step("fetch", fetch, number)
    context.progress(0.5, message="half way")
    return large / by

@task
async def divide_async(context: Context, number: int, by: int) -> float:
    large = await context.step("fetch", fetch, number)
    await context.sleep("a while", seconds=0.01)
    return large / by

@task
def sign_in(user: str, password: Annotated[str, secret]) -> str:
    raise RuntimeError(f"{user} has a wrong password")
"""


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("debug")
    (folder / "own.py").write_text(TASKS)
    with run_server(folder, "own.py") as server:
        yield server


@pytest.fixture
def client(failing: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tasker]:
    monkeypatch.setenv("TASKER_URL", failing.url)
    monkeypatch.chdir(failing.data_dir.parent)
    with Tasker(failing.url) as client:
        yield client


@pytest.mark.parametrize("name", ["divide", "divide_async"])
def test_it_raises_here_what_it_raised_there_and_repeats_no_stored_step(
    name: str, client: Tasker, capsys: pytest.CaptureFixture[str]
) -> None:
    task_id = client.submit(name, 5, 0).task_id
    before = client.wait(task_id)
    assert main(["replay", str(task_id), "--pdb", "--tasks", "own.py"]) == 1
    shown = capsys.readouterr()
    assert "ZeroDivisionError" in shown.err
    assert "return large / by" in shown.err
    assert "The debugger needs a terminal" in shown.err
    assert "fetching" not in shown.out, "the step's result is stored"
    assert client.get(task_id) == before, "nothing has changed there"


def test_corrected_code_prints_its_result(client: Tasker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task_id = client.submit("divide", 5, 0).task_id
    client.wait(task_id)
    (tmp_path / "corrected.py").write_text(TASKS.replace("large / by", "large / (by or 2)"))
    assert main(["replay", str(task_id), "--pdb", "--tasks", str(tmp_path / "corrected.py")]) == 0
    shown = capsys.readouterr()
    assert shown.out == "25.0\n"
    assert "progress: 50% half way" in shown.err


def test_a_secret_cannot_be_had_without_a_terminal(client: Tasker, capsys: pytest.CaptureFixture[str]) -> None:
    task_id = client.submit("sign_in", "ada", "not to be shown").task_id
    client.wait(task_id)
    assert main(["replay", str(task_id), "--pdb", "--tasks", "own.py"]) == 2
    assert "the secret params (1) are not shown by the service" in capsys.readouterr().err


def test_what_is_not_in_the_files_is_said(client: Tasker, capsys: pytest.CaptureFixture[str]) -> None:
    task_id = client.submit("divide", 5, 0).task_id
    assert main(["replay", str(task_id), "--pdb"]) == 2
    assert "'divide' is not in TASKER_TASKS: name the file of its function by --tasks" in capsys.readouterr().err


def test_the_debugger_opens_where_it_raised(client: Tasker, failing: Server) -> None:
    task_id = client.submit("sign_in", "ada", "wrong").task_id
    client.wait(task_id)
    place: dict[str, Any] = {"env": {"TASKER_URL": failing.url}, "folder": failing.data_dir.parent}
    with on_terminal("replay", str(task_id), "--pdb", "--tasks", "own.py", **place) as terminal:
        terminal.wait_for("which is secret (***): ")
        terminal.press("typed-here\n")
        terminal.wait_for("(Pdb) ")
        assert "typed-here" not in terminal.shown
        terminal.press("p len(password) * 1000\n")
        terminal.wait_for("10000")
        terminal.press("q\n")
        assert terminal.end() == 1
