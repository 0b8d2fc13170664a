"""`tasker batch` against a real service: what is submitted, and results that survive every end of the command."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import pytest

from tasker.cli.batch import results
from tasker.cli.batch.results import Order, Pass, Results
from tasker.cli.params import UsageError
from tasker.cli.streams import OutputError
from tasker.client import AsyncTasker, Event, Tasker, Unreachable
from tests.cli.command import Done, on_terminal
from tests.server import Server, clean_environment

Here = Callable[..., Done]


@pytest.fixture
def tag() -> str:
    return f"batch-{uuid4()}"


@pytest.fixture
def client(service: Server) -> Iterator[Tasker]:
    with Tasker(service.url) as client:
        yield client


def write(file: Path, *rows: Any) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@contextmanager
def running(service: Server, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `tasker` in a process of its own; kill it at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tasker", *words],
        env=clean_environment(TASKER_URL=service.url),
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def follow(client: Tasker, event: str, tag: str) -> Iterator[Event]:
    """The events of that type and tag."""
    return (one for one in client.follow(event=[event], tag=tag, after="oldest") if isinstance(one, Event))


def test_rows_are_submitted_and_every_fault_is_said(here: Here, client: Tasker, tag: str, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", [1, 2], ["a"], {"a": 4, "b": 2})
    Path(file).write_text(Path(file).read_text() + "\n{\n")
    done = here("batch", file, "--type", "sum", "--tag", tag, "--priority", "3")
    assert (done.code, done.out) == (1, "2 accepted, 2 refused\n")
    said = done.err.splitlines()
    assert said[:2] == ["line 2: /params/0: expected number, got string", "line 2: /params/1: `b` is missing"]
    assert said[2].startswith("line 5: The row cannot be read: expected the params")
    assert sorted(client.wait(task.task_id).result for task in client.find_many(tag=tag)) == [3, 6]
    assert {task.priority for task in client.find_many(tag=tag)} == {3}


def test_a_fault_of_many_rows_is_said_a_few_times_and_counted(here: Here, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", *([["a", 1]] * 40))
    done = here("batch", file, "--type", "sum", "--dry-run")
    fault = "/params/0: expected number, got string"
    assert done.err.splitlines() == [*(f"line {line}: {fault}" for line in range(1, 6)), f"35 more: {fault}"]
    assert len(here("batch", file, "--type", "sum", "--dry-run", "--json").out.splitlines()) == 40


def test_ids_and_json_are_for_programs(here: Here, client: Tasker, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", {"type": "sum", "params": [1, 2]}, {"type": "nothing"})
    done = here("batch", file, "-q")
    assert client.wait(done.out.strip()).result == 3
    lines = [json.loads(line) for line in here("batch", file, "--json").out.splitlines()]
    assert [(line["line"], line["status"]) for line in lines] == [(1, "accepted"), (2, "refused")]
    assert lines[1]["error"]["title"] == "There is no such task type"


def test_the_same_key_makes_no_task_twice(here: Here, tmp_path: Path) -> None:
    file, key = write(tmp_path / "rows.jsonl", [1, 2], [3, 4]), str(uuid4())
    first, again = (here("batch", file, "--type", "sum", "-q", "--key", key).out for _ in range(2))
    assert first == again
    assert len(set(first.split())) == 2


def test_a_dry_run_submits_nothing(here: Here, client: Tasker, tag: str, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", [1, 2], ["a", 2])
    done = here("batch", file, "--type", "sum", "--tag", tag, "--dry-run")
    assert (done.code, done.out) == (1, "1 valid, 1 refused\n")
    assert list(client.find_many(tag=tag)) == []


def test_columns_become_params(here: Here, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('id,text\n1,"two\nlines"\n2,ab\n')
    out = tmp_path / "results.jsonl"
    words = ["batch", str(tmp_path / "rows.csv"), "--type", "reverse", "--map", "text=text", "--out", str(out)]
    assert here(*words) == (0, "", f"{out}: 2 completed\n")
    found = [(line["line"], line["status"], line["result"]) for line in read(out)]
    assert found == [(2, "completed", "senil\nowt"), (4, "completed", "ba")]


def test_times_from_now_are_those_of_the_first_start(
    here: Here, client: Tasker, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = write(tmp_path / "rows.jsonl", [1, 2]), tmp_path / "results.jsonl"
    words = ["batch", file, "--type", "sum", "--out", str(out), "--tag", tag, "--deadline", "2h"]

    def fail(*_: Any) -> None:
        raise Unreachable("http://there", "gone")

    with monkeypatch.context() as patch:
        patch.setattr(Pass, "write", fail)
        assert here(*words).code == 5
    assert out.read_bytes() == b""
    assert here(*words).code == 0
    assert len(list(client.find_many(tag=tag))) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such-file"], "no-such-file: No such file"),
        (["rows.jsonl", "--retry-failed"], "--retry-failed belongs to --out"),
        (["rows.jsonl", "--map", "a=b"], "belong to --type"),
        (["rows.jsonl", "--type", "sum", "--map", "a"], "--map: expected PARAM=COLUMN"),
        (["rows.csv", "--type", "sum", "--map", "c=id"], "--map: sum has no param 'c'; it has a, b, more"),
        (["rows.jsonl", "--type", "sum", "c=1"], "PARAMS: sum has no param 'c'"),
        (["rows.jsonl", "--type", "nothing"], "there is no task type 'nothing'"),
        (["rows.csv"], "CSV needs --type"),
        (["rows.csv", "--type", "sum", "--out", "out.jsonl"], "expected a column for a param (a, b, more)"),
        (["rows.jsonl", "--out", "out.jsonl", "--dry-run"], "not both"),
    ],
)
def test_what_cannot_be_is_said_before_anything_begins(
    words: list[str], said: str, here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "rows.jsonl", [1, 2])
    (tmp_path / "rows.csv").write_text("x,y\n1,2\n")
    done = here("batch", *words)
    assert done.code in {2, 3}
    assert said in done.err
    assert sorted(os.listdir(tmp_path)) == ["rows.csv", "rows.jsonl"]


def test_results_are_in_the_order_of_the_rows(service: Server, client: Tasker, tag: str, tmp_path: Path) -> None:
    gate, out = tmp_path / "gate", tmp_path / "results.jsonl"
    rows = [{"type": "wait_for_file", "params": [str(gate)]}, {"type": "sum", "params": [1]}]
    rows += [{"type": "echo", "params": [number]} for number in range(5)]
    with running(service, "batch", write(tmp_path / "rows.jsonl", *rows), "--out", str(out), "--tag", tag) as process:
        assert len(list(islice(follow(client, "completed", tag), 5))) == 5
        assert read(out) == []
        gate.write_text("open")
        assert process.wait(60) == 1
    found = read(out)
    assert [line["line"] for line in found] == [1, 2, 3, 4, 5, 6, 7]
    assert [line.get("result") for line in found] == ["open", None, 0, 1, 2, 3, 4]
    assert found[1]["status"] == "refused"
    assert found[1]["error"]["errors"] == [{"pointer": "/params/1", "detail": "`b` is missing"}]
    assert len({line["task_id"] for line in found}) == 7


def test_after_kill_9_every_row_runs_exactly_once(
    service: Server, client: Tasker, here: Here, tag: str, tmp_path: Path
) -> None:
    gate, out = tmp_path / "gate", tmp_path / "results.jsonl"
    rows = [{"type": "echo", "params": [number]} for number in range(40)]
    rows[20:20] = [{"type": "wait_for_file", "params": [str(gate)]} for _ in range(4)]
    words = ["batch", write(tmp_path / "rows.jsonl", *rows), "--out", str(out), "--tag", tag, "--max-in-flight", "4"]
    with running(service, *words) as process:
        assert len(list(islice(follow(client, "started", tag), 24))) == 24
        process.kill()
    assert len(read(out)) <= 20
    out.write_bytes(out.read_bytes() + b'{"line":21,"task_id":"')  # what a cut-off write leaves
    gate.write_text("open")
    assert here(*words) == (0, "", f"{out}: 44 completed\n")
    assert [line["result"] for line in read(out)] == [*range(20), *["open"] * 4, *range(20, 40)]
    tasks = list(client.find_many(tag=tag))
    assert len(tasks) == 44
    assert {task.attempt for task in tasks} == {1}
    assert here(*words).code == 0
    assert len(list(client.find_many(tag=tag))) == 44


def test_another_order_is_refused(here: Here, tmp_path: Path) -> None:
    file, out = write(tmp_path / "rows.jsonl", [1, 2]), tmp_path / "results.jsonl"
    words = ["batch", file, "--type", "sum", "--out", str(out)]
    assert here(*words).code == 0
    before = out.read_bytes()
    done = here(*words, "--queue", "own")
    assert (done.code, '--queue (not given), not "own"' in done.err) == (2, True)
    write(tmp_path / "rows.jsonl", [1, 3])
    done = here(*words)
    assert (done.code, "another input, or it has changed" in done.err) == (2, True)
    (tmp_path / "results.jsonl.batch").unlink()
    done = here(*words)
    assert (done.code, "which says where it comes from" in done.err) == (2, True)
    assert out.read_bytes() == before


def test_failed_rows_run_again_on_demand(here: Here, client: Tasker, tag: str, tmp_path: Path) -> None:
    later, out = tmp_path / "later", tmp_path / "results.jsonl"
    later.mkdir()  # reading a folder fails
    rows = [{"type": "echo", "params": [1]}, {"type": "wait_for_file", "params": [str(later)]}]
    words = ["batch", write(tmp_path / "rows.jsonl", *rows), "--out", str(out), "--tag", tag, "--retry", "1"]
    done = here(*words)
    assert done.code == 1
    assert "1 completed, 1 failed" in done.err
    assert "--retry-failed" in done.err
    first = read(out)
    assert first[1]["error"]["exception"]["class"] == "IsADirectoryError"
    assert here(*words).code == 1
    later.rmdir()
    later.write_text("here")
    assert here(*words, "--retry-failed") == (0, "", f"{out}: 2 completed\n")
    assert read(out)[0] == first[0]
    assert read(out)[1]["result"] == "here"
    assert here(*words, "--retry-failed").code == 0
    assert len(list(client.find_many(tag=tag))) == 3
    assert sorted(path.name for path in tmp_path.glob("results*")) == ["results.jsonl", "results.jsonl.batch"]


def test_two_commands_do_not_write_one_file(here: Here, service: Server, tmp_path: Path) -> None:
    file, out = write(tmp_path / "rows.jsonl", [1, 2]), tmp_path / "results.jsonl"
    with Results(out, Order(url=service.url, digest="", options={}), {}):
        done = here("batch", file, "--type", "sum", "--out", str(out))
    assert (done.code, "another command writes" in done.err) == (2, True)


def test_two_commands_do_not_begin_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin() -> Results:
        return Results(tmp_path / "results.jsonl", Order(url="", digest="", options={}), {})

    store = results._store

    def store_beside_another(file: BinaryIO) -> None:
        monkeypatch.setattr(results, "_store", store)
        with pytest.raises(UsageError, match="another command writes"), begin():
            pass
        store(file)

    monkeypatch.setattr(results, "_store", store_beside_another)
    with begin():
        assert results._store is store


def test_lines_that_cannot_be_written_are_said_once(tmp_path: Path) -> None:
    with Results(tmp_path / "results.jsonl", Order(url="", digest="", options={}), {}) as held:
        one = held.next_pass(retry_failed=False)
        assert one is not None
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        try:
            with pytest.raises(OutputError, match=r"results.jsonl: File too large; the same command goes on here"):
                one.write(b"x" * 100)
            with pytest.raises(OutputError):
                one.finish()
            one.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_service_that_is_gone_ends_the_command(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, out = write(tmp_path / "rows.jsonl", [1, 2], [3, 4]), tmp_path / "results.jsonl"
    words = ["batch", file, "--type", "sum", "--out", str(out)]

    async def fail(*_: Any, **__: Any) -> None:
        raise Unreachable("http://there", "gone")

    with monkeypatch.context() as patch:
        patch.setattr(AsyncTasker, "put", fail)
        done = here(*words)
    assert (done.code, "has 0 of 2 rows. The same command goes on here." in done.err) == (5, True)
    assert here(*words).code == 0


def test_ctrl_c_leaves_tasks_and_says_how_to_go_on(
    service: Server, client: Tasker, here: Here, tag: str, tmp_path: Path
) -> None:
    gate, out = tmp_path / "gate", tmp_path / "results.jsonl"
    rows = [{"type": "echo", "params": [1]}, {"type": "wait_for_file", "params": [str(gate)]}]
    words = ["batch", write(tmp_path / "rows.jsonl", *rows), "--out", str(out), "--tag", tag]
    with on_terminal(*words, env={"TASKER_URL": service.url}) as terminal:
        terminal.wait_for("1/2")
        assert "/s" in terminal.shown
        terminal.press("\x03")
        terminal.wait_for("The same command goes on here.")
        assert terminal.end() == 130
    gate.write_text("open")
    assert here(*words).code == 0
    assert [line["result"] for line in read(out)] == [1, "open"]
    assert len(list(client.find_many(tag=tag))) == 2
