"""run, ls, get, healthcheck and version against a real service: standard output, standard error, exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from uuid import UUID

import pytest

from tasker.cli.exits import Exit
from tasker.cli.tasks import _lines
from tasker.client import Task
from tasker.model import Status
from tasker.release import release
from tests.cli.command import Done, on_terminal, tasker
from tests.client.scripted import Reply, play
from tests.server import Server, held_port, run_server

Run = Callable[..., Done]
NO_TASK = "01a20cbf-4de7-7f49-82b5-e8e26ef64288"
TOKEN = "a-token-for-this-test"


@pytest.mark.parametrize(
    ("args", "printed"),
    [
        (["sum", "4", "2"], "6\n"),
        (["sum", "-4", "2.5"], "-1.5\n"),
        (["reverse", "Hello Seemplicity"], "yticilpmeeS olleH\n"),
        (["sum", "a=4", "b=2", "more=[1.5]"], "7.5\n"),
        (["reverse", "text=abc"], "cba\n"),
        (["reverse", "text=123"], "321\n"),
        (["reverse", "123"], "321\n"),
        (["echo", "value:=null"], "null\n"),
        (["echo", 'value:={"a":1}'], '{"a": 1}\n'),
        (["echo", "--", "--not-an-option"], "--not-an-option\n"),
    ],
)
def test_run_prints_the_result_and_nothing_else(args: list[str], printed: str, run: Run) -> None:
    assert run("run", *args) == Done(0, printed, "")


def test_run_takes_params_from_standard_input(run: Run) -> None:
    assert run("run", "sum", "-", input="[1, 2, 3]").out == "6\n"
    assert run("run", "reverse", "-", input="abc").out == "cba\n"


def test_run_detached_prints_the_id_and_get_waits_for_it(run: Run) -> None:
    task_id = run("run", "sum", "4", "2", "--detach").out.strip()
    assert run("get", task_id, "--wait") == Done(0, "6\n", "")


def test_run_can_print_the_whole_task(run: Run) -> None:
    done = run("run", "echo", "x", "--json", "--queue", "q", "--priority", "3", "--tag", "a", "--tag", "b")
    task = json.loads(done.out)
    assert (task["status"], task["result"], task["queue"], task["priority"]) == ("completed", "x", "q", 3)
    assert task["tags"] == ["a", "b"]


def test_run_with_a_key_makes_one_task(run: Run) -> None:
    first, second = (run("run", "sum", "4", "2", "--detach", "--key", "cli-test-key") for _ in range(2))
    assert first.out == second.out != ""


def test_usage_by_type(run: Run) -> None:
    run("run", "sum", "4", "2")
    done = run("usage", "--group", "type", "--type", "sum")
    [row] = [line.split("\t") for line in done.out.splitlines()]
    assert (row[0], int(row[1]) > 0, row[-1]) == ("sum", True, "0.0000")
    assert "attempts, 0.0000 USD." in done.err
    told = json.loads(run("usage", "--from", "2026-01-01", "--to", "2026-01-01", "--json").out)
    assert (told["items"], told["total"]["attempts"], told["budget"]) == ([], 0, None)
    assert run("usage", "--group", "hour").code == run("usage", "--to", "soon").code == 2


def test_a_failed_task_is_exit_code_1(run: Run) -> None:
    done = run("run", "explode", "no \x1b[2J good")
    assert (done.code, done.out) == (1, "")
    assert r"ValueError: no \x1b[2J good" in done.err
    assert "More: tasker get " in done.err
    task_id = done.err.split()[2]
    assert run("get", task_id, "--wait").code == 1
    shown = run("get", task_id)
    assert shown.code == 0
    assert "sample_tasks.py" in shown.out


def test_a_failed_task_in_json_is_still_exit_code_1(run: Run) -> None:
    done = run("run", "fail", "so it is", "--json")
    assert done.code == 1
    assert json.loads(done.out)["error"]["detail"] == "so it is"


def test_a_cancelled_task_is_exit_code_1(run: Run, service: Server) -> None:
    from tasker.client import SubmitOptions, Tasker

    with Tasker(service.url) as client:
        handle = client.submit("sum", 4, 2, options=SubmitOptions(delay=3600))
        handle.cancel()
    done = run("get", str(handle.task_id), "--wait")
    assert (done.code, done.out) == (1, "")
    assert "was cancelled" in done.err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run", "sum", "a", "b"], "/params/1: expected number, got string"),
        (["run", "no_such_type"], "`tasker types` lists the types"),
        (["run", "no_such_type", "a=1"], "`tasker types` lists the types"),
        (["run", "sum", "a=1", "b=x"], "/params/b: expected number, got string"),
        (["run", "sum", "1", "2", "--priority", "1000"], "--priority: expected integer <= 100"),
        (["run", "sum", "1", "2", "--priorty", "4"], "Did you mean --priority?"),
        (["run"], "requires an argument"),
        (["rnu"], 'Did you mean "run"?'),
        (["run", "reverse", "@no-such-file"], "No such file"),
        (["ls", "--status", "done"], "expected pending"),
        (["ls", "--limit", "0"], "--limit"),
        (["get", "no-uuid"], "expected a UUID, got 'no-uuid'"),
        (["ls", "--url", "localhost"], "--url: expected a URL"),
        (["ls", "--url", "http://localhost:abc"], "--url: expected a URL"),
        (["ls", "extra"], "More: tasker ls --help"),
        (["schedule", "add", "a"], "More: tasker schedule add --help"),
        (["run", "reverse", "-x"], "After -- every word is a param"),
        (["run", "sum", "1", "2", "--timeout", "-1"], "Must be >= 0"),
        (["run", "sum", "1", "2", "--key", "ü"], "--key: expected visible ASCII characters, got 'ü'"),
        (["key", "create", "--scope", "write"], "--scope: expected submit, read, control, admin, or several with"),
        (["key", "create", "--scope", "read,"], "got ''"),
        (["schedule", "add", "a", "reverse", "b"], "give --cron"),
        (["schedule", "add", "a", "reverse", "b", "--every", "5m", "--cron", "0 0 * * *"], "and not both"),
        (["schedule", "add", "a", "reverse", "b", "--every", "5x"], "--every: expected seconds, or a duration (90s,"),
        (["queue", "set", "q", "--concurrency", "-1"], "/concurrency: expected integer >= 1"),
    ],
)
def test_usage_is_exit_code_2_and_says_what_is_wrong(args: list[str], said: str, run: Run) -> None:
    done = run(*args)
    assert (done.code, done.out) == (2, "")
    assert said in " ".join(done.err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"TASKER_TOKEN": "schlüssel"}, "TASKER_TOKEN: expected visible ASCII characters"),
        ({"TASKER_TOKEN": "key\nhost: other"}, "TASKER_TOKEN: expected visible ASCII characters"),
        ({"TASKER_PORT": "abc", "TASKER_URL": ""}, "TASKER_PORT: expected a URL with http:// or https://"),
        ({"TASKER_URL": "http://host:99999"}, "TASKER_URL: expected a URL"),
        ({"TASKER_DATA_DIR": "\udcff"}, "TASKER_DATA_DIR: expected text in UTF-8"),
    ],
)
def test_a_wrong_variable_is_named(env: dict[str, str], said: str, run: Run) -> None:
    done = run("ls", env=env)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_help_is_also_a_command() -> None:
    assert tasker("help") == tasker("--help")
    assert tasker("help", "run") == tasker("run", "--help")


def test_advice_for_what_does_not_exist_names_the_list(run: Run) -> None:
    assert "`tasker ls` lists the tasks." in run("get", NO_TASK).err
    assert "`tasker queue ls` lists them." in run("queue", "pause", "no-such-queue!").err


def test_a_task_that_does_not_exist_is_exit_code_3(run: Run) -> None:
    done = run("get", NO_TASK)
    assert (done.code, done.out) == (3, "")
    assert f"there is no task {NO_TASK}" in done.err


def test_no_service_is_exit_code_5() -> None:
    with held_port() as port:
        url = f"http://127.0.0.1:{port}"
        done = tasker("ls", "--url", url)
    assert (done.code, done.out) == (5, "")
    assert f"no answer from {url}" in done.err
    assert "tasker serve" in done.err


def test_a_wait_that_times_out_is_exit_code_124(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "content"
    done = run("run", "wait_for_file", str(file), "--timeout", "0")
    assert (done.code, done.out) == (124, "")
    task_id = done.err.split()[2]
    file.write_text("here")
    assert run("get", task_id, "--wait").out == "here\n"


def test_a_token_is_asked_for_and_used(tmp_path: Path) -> None:
    with run_server(tmp_path, env={"TASKER_TOKEN": TOKEN}) as server:
        done = tasker("ls", "--url", server.url)
        assert (done.code, "Set TASKER_TOKEN" in done.err) == (4, True)
        (tmp_path / ".env").write_text(f"TASKER_TOKEN={TOKEN}\nTASKER_PORT={server.port}\n")
        assert tasker("run", "sum", "4", "2", folder=tmp_path) == Done(0, "6\n", "")
        health = {"TASKER_PORT": str(server.port), "TASKER_HOST": "0.0.0.0"}
        assert tasker("healthcheck", env=health).code == 0


def test_ls_in_its_forms(run: Run) -> None:
    ids = [run("run", "echo", str(number), "--tag", "ls-test", "--detach").out.strip() for number in range(3)]
    for task_id in ids:
        run("get", task_id, "--wait")
    listed = run("ls", "--tag", "ls-test", "-q")
    assert listed.out.split() == ids[::-1]
    lines = run("ls", "--tag", "ls-test", "--limit", "2").out.splitlines()
    assert [line.split("\t")[:3] for line in lines] == [[task_id, "echo", "completed"] for task_id in ids[:0:-1]]
    tasks = json.loads(run("ls", "--tag", "ls-test", "--type", "echo", "--status", "completed", "--json").out)
    assert [task["result"] for task in tasks] == [2, 1, 0]
    nothing = run("ls", "--tag", "no-such-tag")
    assert nothing == Done(0, "", "No tasks.\n")
    assert run("ls", "--tag", "no-such-tag", "-q") == Done(0, "", "")
    assert run("ls", "--tag", "no-such-tag", "--json").out == "[]\n"


def test_ls_is_a_table_on_a_terminal(service: Server) -> None:
    env = {"TASKER_URL": service.url}
    tasker("run", "explode", "no \x1b[2J good", "--tag", "table", env=env)
    for words, more in ((["ls"], {"NO_COLOR": "1"}), (["--no-color", "ls"], {})):
        with on_terminal(*words, "--tag", "table", env={**env, **more}) as terminal:
            assert terminal.end() == 0
        assert "\x1b" not in terminal.shown
    header, row = terminal.shown.splitlines()
    assert header.split() == ["TASK", "TYPE", "STATUS", "ATTEMPT", "SUBMITTED", "DETAIL"]
    assert row.index("explode") == header.index("TYPE")
    assert r"no \x1b[2J good" in row
    assert "\x1b" not in terminal.shown


def test_a_result_cannot_move_the_cursor_of_a_terminal(service: Server) -> None:
    args = ["run", "echo", "\x1b[2Jtext\nmore"]
    with on_terminal(*args, env={"TASKER_URL": service.url, "TERM": "dumb"}) as terminal:
        assert terminal.end() == 0
    assert terminal.shown == "\\x1b[2Jtext\r\nmore\r\n"
    assert tasker(*args, env={"TASKER_URL": service.url}).out == "\x1b[2Jtext\nmore\n"


def test_ctrl_c_detaches_and_says_how_to_resume(service: Server, tmp_path: Path, run: Run) -> None:
    file = tmp_path / "content"
    with on_terminal("run", "wait_for_file", str(file), env={"TASKER_URL": service.url}) as terminal:
        terminal.wait_for("25% waiting for the file")
        assert "wait_for_file " in terminal.shown
        terminal.press("\x03")
        assert terminal.end() == 130
    command, task_id, flag = terminal.shown.split("Wait again: tasker ")[1].split()
    file.write_text("here")
    assert run(command, task_id, flag).out == "here\n"


def test_a_question_is_shown_once_while_one_waits_for_the_task(service: Server, run: Run) -> None:
    with on_terminal("run", "order", "5", env={"TASKER_URL": service.url}) as terminal:
        terminal.wait_for("It asks approve: Ship for 5? (tasker input ")
        task_id = terminal.shown.split("(tasker input ")[1].partition(")")[0]
        assert run("input", task_id, "approve", "ok=true", "by=ann").code == 0
        terminal.wait_for(f"It asks word: How? (tasker input {task_id})")
        assert run("input", task_id, "word", "slow").code == 0
        assert terminal.end() == 0
    assert terminal.shown.count("It asks ") == 2
    assert '["receipt of 5", "ann", "slow"]' in terminal.shown


@pytest.mark.parametrize(
    ("reason", "label"),
    [("retrying", "next try:"), ("sleeping", "goes on:"), ("input_required", "at latest:"), (None, "next try:")],
)
def test_the_next_attempt_is_named_by_what_the_task_waits_for(reason: str | None, label: str) -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    task = Task(task_id=UUID(NO_TASK), status=Status.PENDING, reason=reason, next_attempt_at=at)
    assert [line.split()[-2] for line in _lines(task) if line.startswith(label)] == [f"{at.astimezone():%Y-%m-%d}"]


def test_get_shows_a_task(run: Run) -> None:
    task_id = run("run", "sum", "4", "2", "--tag", "seen", "--detach").out.strip()
    run("get", task_id, "--wait")
    shown = run("get", task_id, "--attempts").out
    for line in (
        f"task:      {task_id}",
        "status:    completed",
        "params:    [4, 2]",
        "result:    6",
        'tags:      ["seen"]',
    ):
        assert line in shown.splitlines()
    assert "attempt 1: succeeded, " in shown
    task = json.loads(run("get", task_id, "--attempts", "--json").out)
    assert [attempt["ending"] for attempt in task["attempts"]] == ["succeeded"]


def test_a_task_asks_and_is_answered(run: Run) -> None:
    task_id = run("run", "order", "5", "--detach").out.strip()
    asked = _asked(run, task_id, "approve")
    assert [line.partition(":")[0] for line in asked] == ["name", "message", "members", "asked"]
    assert asked[1:3] == ["message:   Ship for 5?", "members:   ok (boolean), by (string)"]
    for words, said in (
        (["yes"], "/value: expected object, got string"),
        (["ok=perhaps"], "/value/by: `by` is missing"),
        (["ok=true", "ann"], "expected one value, or the members of an object"),
        ([], "VALUE: expected the answer to 'approve'"),
    ):
        done = run("input", task_id, "approve", *words)
        assert (done.code, done.out, said in done.err) == (Exit.USAGE, "", True), done.err
    assert run("input", task_id, "word", "fast").code == Exit.CONFLICT
    assert run("input", task_id, "approve", "ok=true", "by=ann").err.startswith("Answered; the task is ")
    assert "choices:   fast, slow" in _asked(run, task_id, "word")
    assert f"asks:      word: How? (tasker input {task_id})" in run("get", task_id).out.splitlines()
    assert json.loads(run("input", task_id, "word", "fast", "--json").out)["task_id"] == task_id
    assert run("get", task_id, "--wait").out == '["receipt of 5", "ann", "fast"]\n'
    assert run("input", task_id) == Done(0, "", "It asks nothing.\n")
    assert run("input", task_id, "word", "slow").code == Exit.CONFLICT
    assert run("input", NO_TASK, "word", "slow").code == Exit.NOT_FOUND
    assert run("input", "x").code == Exit.USAGE


def test_steps_and_children_are_shown(run: Run) -> None:
    task_id = run("run", "order", "5", "--detach").out.strip()
    _asked(run, task_id, "approve")
    lines = run("get", task_id, "--steps").out.splitlines()
    steps = [re.sub(r"(, \d{4}-| until ).*?(?=: |$)", "", line) for line in lines if line.startswith("step ")]
    assert steps == [
        "step 1: charge, step completed: receipt of 5",
        "step 2: echo, children completed: 1 of 1 have ended",
        "step 3: approve, input waiting",
    ]
    assert "children:  1 completed" in lines
    [child] = run("ls", "--parent", task_id, "-q").out.split()
    assert f"parent:    {task_id}" in run("get", child).out.splitlines()


def _asked(run: Run, task_id: str, name: str) -> list[str]:
    """Return what `tasker input` shows once the task asks this."""
    limit = monotonic() + 30
    while (lines := run("input", task_id).out.splitlines())[:1] != [f"name:      {name}"]:
        assert monotonic() < limit, lines
    return lines


def test_healthcheck(service: Server) -> None:
    done = tasker("healthcheck", env={"TASKER_PORT": str(service.port)})
    assert (done.code, json.loads(done.out)["ready"]) == (0, True)
    with held_port() as port:
        nobody = tasker("healthcheck", env={"TASKER_PORT": str(port)})
    assert (nobody.code, nobody.out) == (5, "")
    assert tasker("healthcheck", env={"TASKER_PORT": "tcp://10.0.0.1:5000"}).code == 5


def test_healthcheck_asks_with_an_allowed_host_name() -> None:
    with play(Reply(200, {"ready": True})) as script:
        port = script.url.rpartition(":")[2]
        assert tasker("healthcheck", env={"TASKER_PORT": port, "TASKER_ALLOWED_HOSTS": "tasks.example.org,x"}).code == 0
    assert script.asked[0].headers["Host"] == "tasks.example.org"


@pytest.mark.parametrize("args", [["version"], ["--version"]])
def test_version(args: list[str]) -> None:
    assert tasker(*args) == Done(0, f"{release()}\n", "")


def test_help_names_every_command_and_exit_code() -> None:
    done = tasker("--help")
    assert done.code == 0
    codes = " ".join(done.out.split()).partition("Exit codes: ")[2]
    assert [int(number) for number in re.findall(r"\b\d+\b", codes)] == [*Exit]
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    assert [int(number) for number in re.findall(r"^\| (\d+) \| ", page, re.MULTILINE)] == [*Exit]
    for word in ("serve", "run", "ls", "get", "model", "healthcheck", "version", "124 waiting took too long"):
        assert word in " ".join(done.out.split())
    assert "Ctrl-C stops the waiting, never the task" in " ".join(tasker("run", "--help").out.split())


def test_a_reader_that_has_gone_shows_only_in_the_exit_code(service: Server) -> None:
    import subprocess
    import sys

    from tests.server import clean_environment

    process = subprocess.Popen(
        [sys.executable, "-m", "tasker", "ls", "--json"],
        env=clean_environment(TASKER_URL=service.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), said) == (141, b"")
