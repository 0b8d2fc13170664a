"""Every command, where its output cannot be written or its arguments are no text: a message and a code of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import pytest

from tasker.cli import _COMMANDS, build
from tasker.client import SubmitOptions, Tasker
from tests.cli.command import LIMIT, Done, tasker
from tests.forking import forks
from tests.server import Server, clean_environment

TASKER = [sys.executable, "-m", "tasker"]
Run = Callable[..., Done]

COMMANDS: dict[str, list[str]] = {
    "serve": ["--help"],
    "worker": ["--help"],
    "migrate": ["--data-dir", "{folder}/migrate-{fault}"],
    "export": ["--data-dir", "{folder}/export-{fault}"],
    "import": ["--help"],
    "key create": ["--scope", "read", "--owner", "ü", "--json", "--data-dir", "{folder}/create-{fault}"],
    "key ls": ["--json", "--data-dir", "{folder}/ls-{fault}"],
    "key revoke": ["--help"],
    "run": ["reverse", "ü"],
    "ls": ["--json", "--tag", "ü"],
    "get": ["{task}"],
    "logs": ["--help"],
    "output": ["--help"],
    "events": ["{task}", "--json"],
    "batch": ["--help"],
    "input": ["{task}", "--json"],
    "cancel": ["--help"],
    "retry": ["--help"],
    "replay": ["{task}"],
    "rm": ["--help"],
    "bulk cancel": ["--help"],
    "bulk retry": ["--help"],
    "bulk delete": ["--help"],
    "bulk ls": ["--json"],
    "bulk show": ["--help"],
    "bulk stop": ["--help"],
    "bulk undo": ["--help"],
    "question ls": ["--json"],
    "group ls": ["--json"],
    "group show": ["some"],
    "group cancel": ["--help"],
    "usage": ["--json"],
    "types": ["--json"],
    "type show": ["sum"],
    "stats": ["--json"],
    "failure ls": ["--help"],
    "failure show": ["--help"],
    "queue ls": ["--json"],
    "queue pause": ["--help"],
    "queue resume": ["--help"],
    "queue set": ["--help"],
    "schedule add": ["ü {fault}", "reverse", "ü", "--every", "36000", "--json"],
    "schedule ls": ["--json"],
    "schedule show": ["{schedule}"],
    "schedule change": ["--help"],
    "schedule pause": ["--help"],
    "schedule resume": ["--help"],
    "schedule rm": ["--help"],
    "schedule trigger": ["{schedule}"],
    "audit ls": ["--help"],
    "webhook create": ["--help"],
    "webhook ls": ["--json"],
    "webhook show": ["--help"],
    "webhook change": ["--help"],
    "webhook pause": ["--help"],
    "webhook resume": ["--help"],
    "webhook rm": ["--help"],
    "webhook rotate": ["--help"],
    "webhook deliveries": ["--help"],
    "webhook redeliver": ["--help"],
    "dev": ["--help"],
    "backup": ["--help"],
    "restore": ["--help"],
    "config show": ["--json"],
    "doctor": ["--help"],
    "model install": ["--help"],
    "model status": [],
    "completion": ["bash"],
    "profile ls": ["--json"],
    "profile add": ["--help"],
    "profile use": ["--help"],
    "healthcheck": [],
    "version": [],
}
"""Arguments with which each command prints data; commands that print only messages print their help."""
BEYOND_ASCII = {"key create", "run", "replay", "ls", "get", "events", "schedule add", "schedule ls", "schedule show"}
FAULTS = {
    "full": (7, "tasker: standard output: No space left on device; the output is not complete\n"),
    "closed": (7, "tasker: standard output: it is closed; the output is not complete\n"),
    "pipe": (141, ""),
    "ascii": (7, r"tasker: standard output: expected characters of ascii, got '\xfc'; set PYTHONIOENCODING=utf-8"),
    "undecodable": (2, r"expected text in UTF-8, got b'\xff'"),
}


@pytest.fixture(scope="module")
def values(service: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What stands for the names in braces: a task, a schedule and a folder with a store."""
    folder = tmp_path_factory.mktemp("output")
    assert tasker("migrate", "--data-dir", str(folder / "migrated")).code == 0
    for fault in FAULTS:
        shutil.copytree(folder / "migrated", folder / f"export-{fault}")
    with Tasker(service.url) as client:
        task = client.submit("reverse", "ü", options=SubmitOptions(tags=["ü"], group="some")).task_id
        schedule = client.schedules.create("ü", {"type": "reverse", "params": ["ü"]}, interval=36000).schedule_id
        yield {"task": str(task), "schedule": str(schedule), "folder": str(folder)}
        for one in client.schedules.find_many():
            client.schedules.delete(one.schedule_id)


def test_the_table_holds_every_command() -> None:
    names = set()
    for name, *_ in _COMMANDS:
        app = build()[name]
        inner = [] if app.default_command else [one for one in app if not one.startswith("-")]
        names |= {f"{name} {one}" for one in inner} or {name}
    assert names == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_cannot_be_written_or_read_is_said(name: str, service: Server, values: dict[str, str]) -> None:
    env = clean_environment(TASKER_URL=service.url, TASKER_PORT=str(service.port))
    for fault in ["full", "undecodable"] if COMMANDS[name] == ["--help"] else list(FAULTS):
        words = [*name.split(), *(word.format(fault=fault, **values) for word in COMMANDS[name])]
        words += ["\udcff"] if fault == "undecodable" else []
        encoding = {"PYTHONIOENCODING": "ascii" if fault == "ascii" else "utf-8"}
        with _open(fault) as output, TemporaryFile() as errors, open(os.devnull) as nothing:
            streams = (nothing.fileno(), output.fileno(), errors.fileno())
            code = forks().run(words, streams, env=env | encoding, closed=fault == "closed")
            errors.seek(0)
            error = errors.read().decode()
        expected, said = FAULTS[fault] if fault != "ascii" or name in BEYOND_ASCII else (0, "")
        assert (fault, code) == (fault, expected), error
        assert said in error
        assert "Traceback" not in error
        assert fault != "pipe" or "pipe" not in error


@pytest.mark.parametrize("fault", FAULTS)
def test_a_process_of_its_own_ends_as_the_forks_do(fault: str, service: Server) -> None:
    env = clean_environment(TASKER_URL=service.url)
    command: list[str | bytes] = [*(_without(1) if fault == "closed" else ()), *TASKER, "run", "reverse", "ü"]
    with _open(fault) as output:
        done = subprocess.run(
            [*command, b"\xff"] if fault == "undecodable" else command,
            stdout=output, stderr=subprocess.PIPE, text=True, timeout=LIMIT,
            env=env | {"PYTHONIOENCODING": "ascii" if fault == "ascii" else "utf-8"},
        )  # fmt: skip
    code, said = FAULTS[fault]
    assert (done.returncode, said in done.stderr) == (code, True)
    assert "Traceback" not in done.stderr


def _without(descriptor: int) -> list[str]:
    """Return the beginning of a command line that runs the rest with this standard stream closed."""
    return ["sh", "-c", f'exec "$@" {descriptor}>&-', "sh"]


def _open(fault: str) -> BinaryIO:
    """Open what the command writes to."""
    if fault != "pipe":
        return open("/dev/full" if fault == "full" else os.devnull, "wb", buffering=0)
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "wb", buffering=0)


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_a_task_whose_result_cannot_be_written_can_be_found_again(detach: list[str], service: Server, run: Run) -> None:
    with _open("full") as full:
        done = subprocess.run(
            [*TASKER, "run", "reverse", "abc", *detach], stdout=full, stderr=subprocess.PIPE, text=True,
            env=clean_environment(TASKER_URL=service.url),
        )  # fmt: skip
    assert done.returncode == 7
    command = done.stderr.partition("The task is kept: tasker ")[2].splitlines()[0].split()
    assert run(*command).out == "cba\n"


def test_arguments_are_utf_8_whatever_the_locale_is(run: Run) -> None:
    env = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONIOENCODING": "utf-8"}
    assert run("run", "reverse", "aü", env=env).out == "üa\n"


def test_a_locale_without_a_name_prints_utf_8(run: Run) -> None:
    assert run("run", "reverse", "aü", env={"LC_ALL": "C"}).out == "üa\n"


def test_messages_that_cannot_be_written_change_nothing(service: Server, tmp_path: Path) -> None:
    for close in (False, True):
        with _open("full") as full:
            done = subprocess.run(
                [*(_without(2) if close else ()), *TASKER, "ls", "--tag", "no-such-tag"],
                stdout=subprocess.PIPE, stderr=full, env=clean_environment(TASKER_URL=service.url),
            )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.parametrize("command", [["run", "reverse", "-"], ["import"]])
def test_a_closed_standard_input_is_said(command: list[str], service: Server, tmp_path: Path) -> None:
    done = subprocess.run(
        [*_without(0), *TASKER, *command],
        capture_output=True, text=True, env=clean_environment(TASKER_URL=service.url), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert "tasker: standard input: Bad file descriptor" in done.stderr
    assert "Traceback" not in done.stderr
