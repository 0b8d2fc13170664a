"""`tasker run` with a type's own flags, and what it shows live on a terminal, against a real service."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasker.cli import main
from tasker.cli.exits import Exit
from tests.cli.command import Done, on_terminal, tasker
from tests.client.scripted import TASK_ID, Reply, play, problem
from tests.server import Server, run_server

Call = Callable[..., Done]
TYPES = Path(__file__).with_name("typed_tasks.py")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("run"), str(TYPES)) as server:
        yield server


@pytest.fixture
def call(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command in this process."""
    monkeypatch.setenv("TASKER_URL", server.url)

    def run(*words: str) -> Done:
        code = main(words)
        return Done(code, *capsys.readouterr())

    return run


def _result(call: Call, *words: str) -> list[object]:
    done = call("run", *words)
    assert (done.code, done.err) == (0, "")
    found: list[object] = json.loads(done.out)
    return found


def test_flags_words_and_positions_go_together(call: Call) -> None:
    assert _result(call, "thumbnail", "--url", "x")[:2] == ["x", 200]
    assert _result(call, "thumbnail", "x", "--width", "3", "size=large", "--crop")[:6] == [
        "x", 3, True, None, [], "large",
    ]  # fmt: skip
    words = ["--tags", "a", "--tags", "b", "--sizes", "1", "--person.name", "A", "--labels.x", "2", "--token", "abc"]
    assert _result(call, "thumbnail", "x", *words)[3:] == [["a", "b"], [1], "small", ["A", 0], {"x": 2}, 1.5, 3]
    assert call("run", "sum", "1", "--b", "2", "more=[3]").out == "6\n"


def test_a_param_goes_before_an_option_of_the_same_name(call: Call, server: Server) -> None:
    assert _result(call, "--url", server.url, "thumbnail", "--url", "http://a/", "--timeout", "7")[::8] == [
        "http://a/",
        7,
    ]
    assert call("run", "sum", "1", "2", "--url", server.url, "--timeout", "30").out == "3\n"
    done = call("run", "--timeout", "0", "write", "--words", "a", "--ending", "/no")
    assert (done.code, done.out) == (Exit.WAIT_TIMED_OUT, "")
    assert call("cancel", done.err.split()[2]).code == 0


def test_an_address_after_the_type_gets_no_token_by_mistake(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can say whether `--url` is a param: the default service does not answer."""
    monkeypatch.setenv("TASKER_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("TASKER_TOKEN", "secret-token")
    done = call("run", "thumbnail", "--url", "https://example.org/x.png")
    assert (done.code, "is it a param of thumbnail, or the service?" in done.err) == (Exit.USAGE, True)


def test_faults_name_the_flags(call: Call) -> None:
    done = call("run", "thumbnail", "--width", "x", "--priority", "1000")
    assert (done.code, done.out) == (Exit.USAGE, "")
    for line in (
        '--width: expected integer, got "x"',
        "--url: `url` is missing",
        "--priority: expected integer <= 100",
    ):
        assert f"  {line}\n" in done.err
    assert call("run", "no-such", "--x", "3").err == (
        "tasker: there is no task type 'no-such'; `tasker types` lists them\n"
    )


def test_the_help_of_a_type_shows_its_params_and_the_options(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    done = call("run", "thumbnail", "--help")
    assert (done.code, done.err) == (0, "")
    assert "Make a thumbnail of a picture." in done.out
    assert re.search(r"--width INTEGER +In pixels\. \[default: 200\]", done.out)
    assert "--unique-key" in done.out
    monkeypatch.setenv("TASKER_URL", "http://127.0.0.1:1")
    nobody = call("run", "thumbnail", "--help")
    assert (nobody.code, "--unique-key" in nobody.out, "no answer from" in nobody.err) == (5, True, True)


def test_a_key_that_may_not_read_types_submits(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Reply(403, problem("forbidden", 403))
    with play(refused, Reply(202, {"task_id": TASK_ID, "status": "pending"}), refused) as service:
        monkeypatch.setenv("TASKER_URL", service.url)
        assert call("run", "thumbnail", "url=x", "--detach", "--tag", "t").out == f"{TASK_ID}\n"
        done = call("run", "thumbnail", "--width", "3")
    assert [one.method for one in service.asked] == ["GET", "POST", "GET"]
    assert service.asked[1].body == {"type": "thumbnail", "params": {"url": "x"}, "tags": ["t"]}
    assert (done.code, "the type's params are not known: give them as name=value" in done.err) == (2, True)


def test_every_option_of_a_submission_is_taken(call: Call) -> None:
    first = call("run", "sum", "1", "2", "--delay", "1d", "-d").out.strip()
    words = [
        "--queue", "q", "--priority", "3", "--run-at", "2h", "--attempt-timeout", "5m", "--retry", "4",
        "--deadline", "1d", "--unique-key", "u", "--on-conflict", "replace", "--depends-on", first, "--group", "g",
        "--webhook", "https://example.org/hook", "--retention", "forever", "--tag", "a", "--tag", "b",
        "--metadata", "x=1", "--metadata", "y:=[2]", "--concurrency-key", "c", "--weight", "2", "--key", "all-options",
    ]  # fmt: skip
    task_id = call("run", "sum", "1", "2", *words, "-d").out.strip()
    task = json.loads(call("get", task_id, "--json").out)
    shown = {
        name: task[name] for name in ("queue", "priority", "tries_left", "unique_key", "group", "tags", "metadata")
    }
    assert shown == {
        "queue": "q", "priority": 3, "tries_left": 4, "unique_key": "u", "group": "g", "tags": ["a", "b"],
        "metadata": {"x": "1", "y": [2]},
    }  # fmt: skip
    assert (task["depends_on"], task["concurrency_key"], task["reason"]) == ([first], "c", "dependencies")
    assert task["run_at"] < task["deadline"]
    assert call("run", "reverse", "a", "--cache", "60", "--depends-on", "group=g", "-d").code == 0
    assert call("cancel", task_id, first).code == 0


def test_text_comes_as_it_is_written_and_is_not_printed_again(server: Server, tmp_path: Path) -> None:
    ending = tmp_path / "ending"
    words = ["run", "write", 'words=["one ", "two"]', f"ending={ending}", "--logs"]
    with on_terminal(*words, env={"TASKER_URL": server.url, "NO_COLOR": "1"}) as terminal:
        terminal.wait_for("one ")
        terminal.wait_for("warning  nearly done")
        assert "two" not in terminal.shown
        ending.write_text("here")
        assert terminal.end() == 0
    text, log, rest = terminal.shown.splitlines()
    assert (text, rest) == ("one ", "two")
    assert log.endswith('  warning  nearly done {"left": 1}')


def test_the_text_of_a_new_attempt_replaces_the_old_one(server: Server, tmp_path: Path) -> None:
    ending = tmp_path / "ending"
    ending.write_text("fail")
    words = ["run", "write", 'words=["one ", "two"]', f"ending={ending}"]
    with on_terminal(*words, env={"TASKER_URL": server.url, "TERM": "dumb"}) as terminal:
        assert terminal.end() == 0
    first, note, second = terminal.shown.splitlines()
    assert (first.strip(), second.strip()) == ("one", "one two")
    assert note == "It is tried again; what follows replaces the text above."


def test_quietly_there_is_only_the_result(server: Server) -> None:
    with on_terminal("run", "write", 'words=["one ", "two"]', "-q", env={"TASKER_URL": server.url}) as terminal:
        assert terminal.end() == 0
    assert terminal.shown == "one two\r\n"


def test_ctrl_c_twice_cancels_the_task(server: Server, tmp_path: Path) -> None:
    env = {"TASKER_URL": server.url}
    with on_terminal("run", "write", 'words=["one", "two"]', f"ending={tmp_path / 'never'}", env=env) as terminal:
        terminal.wait_for("one")
        terminal.press("\x03")
        terminal.wait_for("Ctrl-C again cancels the task")
        terminal.press("\x03")
        assert terminal.end() == Exit.INTERRUPTED
    assert "Cancelled: it is running, and is asked to stop." in terminal.shown
    task_id = terminal.shown.split("tasker get ")[1].split()[0]
    ended = json.loads(tasker("get", task_id, "--wait", "--json", env=env).out)
    assert ended["status"] == "cancelled"
