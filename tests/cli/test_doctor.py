"""`tasker doctor` and `tasker config show`: they find what is wrong, say what to do, and show no secret."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tasker.cli import main
from tests.postgres import Cluster, database_of
from tests.server import Server

SECRET = "not-to-be-shown-anywhere"
Findings = dict[str, list[dict[str, str]]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of its own, with a data folder that is not there yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TASKER_URL", "http://127.0.0.1:1")
    return tmp_path


def _diagnose(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, Findings]:
    code = main(["doctor", "--json", *args])
    shown = capsys.readouterr()
    assert SECRET not in shown.out + shown.err
    findings: Findings = {}
    for finding in json.loads(shown.out):
        findings.setdefault(finding["name"], []).append(finding)
    return code, findings


def test_all_is_well_beside_a_running_service(
    service: Server, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "mytasks.py").write_text("from tasker import task\nprint(1)\n@task\ndef own() -> int:\n    return 1\n")
    monkeypatch.setenv("TASKER_DATA_DIR", str(service.data_dir))
    code, found = _diagnose(capsys, "mytasks.py", "--url", service.url)
    assert (code, [one for many in found.values() for one in many if one["state"] == "problem"]) == (0, [])
    states = {name: many[0]["state"] for name, many in found.items()}
    expected = ("settings", "store", "tasks", "child processes", "service", "reads", "submissions", "version")
    assert {name: states[name] for name in expected} == dict.fromkeys(expected, "ok")
    assert "own" in found["tasks"][0]["detail"]
    assert {"fsync", "space", "model"} <= states.keys()


def test_each_problem_says_what_to_do(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "broken.py").write_text("from tasker import task\n@task\ndef own() -> int\n    return 1\n")
    (place / ".tasker").mkdir()
    (place / ".tasker" / "tasker.db").write_bytes(b"These are my notes. " * 500)
    monkeypatch.setenv("TASKER_GPT_PROVIDER", "openai")
    code, found = _diagnose(capsys, "broken.py")
    assert code == 1
    problems = {name: many[0] for name, many in found.items() if many[0]["state"] == "problem"}
    assert problems.keys() == {"store", "tasks", "model"}
    assert "broken.py:3: SyntaxError" in problems["tasks"]["detail"]
    assert problems["model"]["advice"] == "set OPENAI_API_KEY"
    assert all(one["advice"] for one in problems.values())
    assert found["service"][0]["state"] == "warning", "that no service runs is no fault"


def test_every_wrong_setting_is_named(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TASKER_PORT", "many")
    (place / ".env").write_text("TASKER_SLOTS=none\n")
    code, found = _diagnose(capsys)
    assert code == 1
    assert [one["detail"].partition(":")[0] for one in found["settings"]] == ["TASKER_PORT", "TASKER_SLOTS (in .env)"]


def test_a_database_that_does_not_answer_is_a_problem_without_its_password(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TASKER_DATABASE_URL", f"postgresql://user:{SECRET}@127.0.0.1:1/tasks")
    code, found = _diagnose(capsys)
    assert (code, found["store"][0]["state"]) == (1, "problem")
    assert "TASKER_DATABASE_URL" in found["store"][0]["advice"]


@pytest.mark.long
def test_a_database_is_looked_at_before_and_after_its_migration(
    place: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = cluster.fresh_database()
    monkeypatch.setenv("TASKER_DATABASE_URL", url)
    code, found = _diagnose(capsys)
    assert (code, found["store"][0]["state"]) == (0, "ok")
    assert "none yet" in found["migrations"][0]["detail"]
    assert main(["migrate"]) == 0
    capsys.readouterr()
    code, found = _diagnose(capsys)
    assert (code, found["migrations"][0]["detail"]) == (0, "up to date")
    assert found["pooler"][0]["detail"].startswith("none")
    assert any("the database server agrees" in one["detail"] for one in found["clock"])
    cluster.sql("DELETE FROM tasker.migration WHERE name LIKE '00%'", database_of(url))
    code, found = _diagnose(capsys)
    assert (code, found["migrations"][0]["state"]) == (0, "warning")


class _Locked(BaseHTTPRequestHandler):
    """A service that asks for a key."""

    def do_GET(self) -> None:
        body = b"{}"
        self.send_response(200 if self.path == "/readyz" else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_key_that_is_lacking_is_a_problem(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with HTTPServer(("127.0.0.1", 0), _Locked) as server:
        threading.Thread(target=server.serve_forever).start()
        code, found = _diagnose(capsys, "--url", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert (code, found["key"][0]["advice"]) == (1, "set TASKER_TOKEN: `tasker key create` makes a key")


def test_the_report_for_people_has_a_line_for_each_finding(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "ok       settings: all have their defaults" in lines[0] or lines[0].startswith("ok       settings: ")
    assert any(line.startswith("         -> start one: `tasker serve`") for line in lines)


def test_config_shows_where_each_value_comes_from_and_no_secret(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / ".env").write_text(f"# mine\n\nTASKER_SLOTS=7\nTASKER_TOKEN={SECRET}\n")
    monkeypatch.setenv("TASKER_DATABASE_URL", f"postgresql://user:{SECRET}@db/tasks?password={SECRET}")
    monkeypatch.setenv("TASKER_LEASE", "20")
    assert main(["config", "show", "mytasks.py", "--origin", "--port", "5001"]) == 0
    shown = capsys.readouterr().out
    assert SECRET not in shown
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in shown.splitlines()}
    assert rows["TASKER_PORT"] == ["5001", "flag"]
    assert rows["TASKER_TASKS"] == ["mytasks.py", "flag"]
    assert rows["TASKER_LEASE"] == ["20", "environment"]
    assert rows["TASKER_SLOTS"] == ["7", ".env line 3"]
    assert rows["TASKER_TOKEN"] == [f"*** ({len(SECRET)} characters)", ".env line 4"]
    assert rows["TASKER_DATABASE_URL"] == ["postgresql://user:***@db/tasks", "environment"]
    assert rows["TASKER_HOST"] == ["127.0.0.1", "default"]
    assert main(["config", "show", "--json"]) == 0
    assert {"variable": "TASKER_SLOTS", "flag": "--slots", "value": "7", "origin": ".env line 3"} in json.loads(
        capsys.readouterr().out
    )
