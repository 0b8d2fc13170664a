"""logs, output, events, cancel, retry, replay, rm and the filters of ls, against a real service."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from tasker.cli import main
from tasker.cli.exits import Exit
from tests.cli.command import Done, on_terminal
from tests.server import Server, run_server

Call = Callable[..., Done]
NO_TASK = "01a20cbf-4de7-7f49-82b5-e8e26ef64288"
TYPES = Path(__file__).with_name("typed_tasks.py")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("control"), str(TYPES)) as server:
        yield server


@pytest.fixture
def call(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command in this process; `input` is its standard input."""
    monkeypatch.setenv("TASKER_URL", server.url)

    def run(*words: str, input: str = "") -> Done:
        monkeypatch.setattr("sys.stdin", io.StringIO(input))
        code = main(words)
        return Done(code, *capsys.readouterr())

    return run


def _scheduled(call: Call, *words: str) -> str:
    """Return the id of a task that waits for a day."""
    return call("run", "sum", "1", "2", "--delay", "1d", "-d", *words).out.strip()


def _cancelled(call: Call, *words: str) -> str:
    task_id = _scheduled(call, *words)
    assert call("cancel", task_id, "-q") == Done(0, f"{task_id}\n", "")
    return task_id


def _written(call: Call, *words: str) -> str:
    """Return the id of a task that has put out `one two` and logged a warning."""
    task_id = call("run", "write", 'words=["one ","two"]', "-d", *words).out.strip()
    assert call("get", task_id, "--wait").out == "one two\n"
    return task_id


@pytest.mark.parametrize("follow", [[], ["-f"]])
def test_what_a_task_has_told(follow: list[str], call: Call) -> None:
    task_id = _written(call)
    [line] = call("logs", task_id, *follow).out.splitlines()
    assert line.split("\t")[1:] == ["warning", 'nearly done {"left": 1}']
    assert call("logs", task_id, "--level", "error", *follow) == Done(0, "", "")
    assert json.loads(call("logs", task_id, "--json", *follow).out)["message"] == "nearly done"
    assert call("output", task_id, *follow).out.rstrip("\n") == "one two"
    assert [json.loads(line)["chunk"] for line in call("output", task_id, "--json").out.splitlines()] == ["one ", "two"]
    lines = [line.split("\t") for line in call("events", task_id, *follow).out.splitlines()]
    assert [line[3] for line in lines] == ["created", "started", "output", "log", "output", "completed"]
    assert {line[1] for line in lines} == {task_id}
    assert lines[-1][2:] == ["attempt 1", "completed", "one two"]
    some = call("events", task_id, "--event", "output,log", "--after", "3", "--json", *follow).out.splitlines()
    assert [json.loads(line)["type"] for line in some] == ["log", "output"]


def test_what_an_open_task_has_told_so_far(call: Call) -> None:
    task_id = _scheduled(call)
    assert call("output", task_id) == Done(0, "", "")
    assert call("events", task_id).out.split("\t")[3].strip() == "created"
    call("cancel", task_id)


def test_the_events_of_all_tasks(call: Call) -> None:
    task_id = _cancelled(call, "--tag", "of-all")
    found = [json.loads(line) for line in call("events", "--all", "--tag", "of-all", "--json").out.splitlines()]
    assert [(event["type"], event["task_id"]) for event in found] == [("created", task_id), ("cancelled", task_id)]
    after = call("events", "--all", "--tag", "of-all", "--after", found[0]["cursor"]).out
    assert after.split("\t")[3] == "cancelled"
    for words in ([], ["--all", task_id], [task_id, "--tag", "x"], [task_id, "--after", "x"]):
        assert call("events", *words).code == Exit.USAGE


def test_several_tasks_from_standard_input_and_the_worst_code(call: Call) -> None:
    first, second = _scheduled(call), _scheduled(call)
    done = call("cancel", first, "-", "nonsense", input=f"{second}\tsum\tpending\n\n{NO_TASK}\n")
    assert done.out == f"{first}\tcancelled\n{second}\tcancelled\n"
    assert done.code == Exit.NOT_FOUND
    assert f"{NO_TASK}:\ntasker: There is nothing here" in done.err
    assert "nonsense:\ntasker: TASK_ID: expected a UUID" in done.err
    assert call("cancel", first, second).code == Exit.CONFLICT
    assert call("cancel", "-") == Done(0, "", "No tasks.\n")
    again = call("retry", first, second, "--json").out.splitlines()
    assert [json.loads(line)["status"] for line in again] == ["pending", "pending"]


def test_retry_waits_if_asked_and_names_steps(call: Call) -> None:
    task_id = _cancelled(call)
    done = call("retry", task_id, "--from", "no-step")
    assert (done.code, "/from: " in done.err) == (Exit.USAGE, True)
    assert call("retry", task_id, "--forget", "a", "--forget", "b").code == Exit.USAGE
    assert call("retry", task_id, "--wait", "--timeout", "10") == Done(0, "3\n", "")


def test_replay_edits_params_and_options(call: Call) -> None:
    task_id = call("run", "thumbnail", "x", "--width", "3", "--queue", "q", "-d").out.strip()
    assert json.loads(call("replay", task_id).out)[:3] == ["x", 3, False]
    assert json.loads(call("replay", task_id, "--crop", "width=4").out)[:3] == ["x", 4, True]
    assert json.loads(call("replay", task_id, "y").out)[:2] == ["y", 200]
    copy = json.loads(call("replay", task_id, "--priority", "7", "--json").out)
    assert (copy["queue"], copy["priority"], copy["replay_of"]) == ("q", 7, task_id)
    done = call("replay", task_id, "--width", "x", "--keep-steps")
    assert (done.code, '--width: expected integer, got "x"' in done.err) == (Exit.USAGE, True)
    assert call("replay", NO_TASK).code == Exit.NOT_FOUND
    by_position = call("run", "sum", "1", "2", "3", "-d").out.strip()
    assert call("replay", by_position, "--b", "5").out == "9\n"


def test_replay_edits_a_member_of_an_object(call: Call) -> None:
    task_id = call("run", "thumbnail", "x", "--person.name", "Ann", "--person.age", "3", "-d").out.strip()
    copy = json.loads(call("replay", task_id, "--person.age", "4", "--json").out)
    assert copy["params"]["person"] == {"name": "Ann", "age": 4}
    copy = json.loads(call("replay", task_id, "--person", '{"name": "Bo"}', "--json").out)
    assert copy["params"]["person"] == {"name": "Bo"}


def test_replay_takes_the_begin_of_an_id_with_options_too_and_says_that_it_waits(call: Call) -> None:
    task_id = call("run", "thumbnail", "x", "--width", "3", "-d").out.strip()
    assert json.loads(call("replay", task_id[:28], "--width", "4", "--wait").out)[:2] == ["x", 4]
    assert UUID(call("replay", task_id[:28], "--detach").out.strip())
    assert call("replay", task_id, "--wait", "--detach").code == Exit.USAGE
    assert "give more digits" in call("get", task_id[:8]).err


def test_replay_does_not_send_the_mask_of_a_secret(call: Call) -> None:
    task_id = call("run", "thumbnail", "--url", "x", "--token", "abc", "-d").out.strip()
    assert call("get", task_id, "--wait").code == 0
    done = call("replay", task_id, "--width", "4")
    assert (done.code, "--token: it is secret" in done.err) == (Exit.USAGE, True)
    assert json.loads(call("replay", task_id, "--width", "4", "--token", "abcd").out)[-1] == 4


def test_rm_asks_on_a_terminal_and_needs_yes_elsewhere(call: Call, server: Server) -> None:
    task_id, other = _cancelled(call), _cancelled(call)
    done = call("rm", task_id)
    assert (done.code, done.out, "--yes" in done.err) == (Exit.USAGE, "", True)
    assert call("rm", task_id, "--yes") == Done(0, f"{task_id}\n", "")
    assert call("get", task_id).code == Exit.NOT_FOUND
    with on_terminal("rm", other, env={"TASKER_URL": server.url}) as terminal:
        terminal.wait_for("Erase 1 task, with the results and logs? [y/N]")
        terminal.press("y\n")
        assert terminal.end() == 0
    assert call("get", other).code == Exit.NOT_FOUND


def test_ls_filters(call: Call) -> None:
    task_id = _cancelled(call, "--group", "ls", "--tag", "ls", "--concurrency-key", "c")
    words = ["ls", "-q", "--tag", "ls"]
    for more in (
        ["--group", "ls"],
        ["--status", "cancelled,failed"],
        ["--type", "sum"],
        ["--created-after", "1h"],
        ["--ended-after", "5m", "--created-before", "2100-01-01"],
        ["--queue", "default"],
    ):
        assert (more, call(*words, *more).out) == (more, f"{task_id}\n")
    for more in (["--group", "no"], ["--created-before", "1h"], ["--ended-before", "1h"], ["--q", "no-such-text"]):
        assert (more, call(*words, *more).out) == (more, "")
    done = call("ls", "--created-after", "yesterday")
    assert (done.code, "--created-after: expected a time like" in done.err) == (Exit.USAGE, True)


def test_an_id_by_its_begin(call: Call) -> None:
    task_id = _cancelled(call)
    assert f"task:      {task_id}" in call("get", task_id[:24]).out
    assert f"task:      {task_id}" in call("get", task_id.replace("-", "")[:20]).out
    other = _cancelled(call)
    shared = next(task_id[:length] for length in range(36, 0, -1) if other.startswith(task_id[:length]))
    for begin in ("01a20cbf-4d", task_id[:7], shared):
        done = call("get", begin)
        assert (done.code, "`tasker ls -q` lists them" in done.err) == (Exit.USAGE, True)
