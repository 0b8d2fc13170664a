"""The README is true: its commands print what it shows, and whatever it names exists."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from tasker.config.loading import describe_settings
from tasker.release import release
from tasker.requests.submissions import SubmissionBody
from tasker.tasktypes.options import Options
from tests.docs import readme
from tests.docs.snippets import Reader
from tests.server import clean_environment, held_port, run_server

NOT_RUN = ("make ", "docker-compose ")
"""Beginnings of examples that are not run here: their targets and files have tests of their own."""
OTHER_VARIABLES = {"TASKER_URL"}
"""Variables of the client and the command line alone."""


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    (tmp_path / "mytasks.py").write_text(readme.find_block("python", "def page_size"))
    (tmp_path / "more.py").write_text(readme.find_block("python", "def import_rows"))
    with run_server(tmp_path, "mytasks.py", "more.py") as server:
        yield Reader(tmp_path, server)


def test_the_examples_print_what_is_shown(reader: Reader) -> None:
    meant = [one for one in readme.examples() if one.language == "bash" or "Tasker()" in one.text]
    run = [example for example in meant if not example.text.startswith(NOT_RUN)]
    faults = [f"{example.name}\n    {fault}" for example in run for fault in reader.faults_of(example)]
    assert not faults, "\n".join(faults)
    assert len(run) > 10


def test_the_banner_is_as_shown(reader: Reader) -> None:
    shown = re.sub(r"Tasker \S+", f"Tasker {release()}", readme.find_block("text", "runs at"), count=1).splitlines()
    real = reader.server.text().replace(f":{reader.server.port}", ":5000").splitlines()
    [tasks] = [line for line in shown if line.startswith("  tasks:")]
    assert any(line.startswith(f"{tasks};") for line in real), "the service has tasks of its user's beside these"
    varies = ("  tasks:", "  data:")
    assert [line for line in shown if not line.startswith(varies) and line not in real] == []
    assert any(line.startswith("  data:") for line in real)


def test_the_first_command_needs_no_arguments(tmp_path: Path) -> None:
    """`make run` calls `tasker serve` without arguments (tests/server.py always passes flags)."""
    command = [sys.executable, "-m", "tasker", "serve"]
    with (
        held_port() as port,
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=clean_environment(TASKER_PORT=str(port)),
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stderr is not None
        banner = process.stderr.readline()
        process.terminate()
        process.communicate()
    assert f"runs at http://127.0.0.1:{port}" in banner
    assert process.returncode == 0


def test_the_table_of_settings_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `(?:TASKER|OPENAI)_.*$", readme.TEXT, re.MULTILINE)
    described = [
        f"| `{setting.variable}` | {f'`{setting.default}`' if setting.default else ''} | {setting.description} |"
        for setting in describe_settings()
    ]
    assert rows == described


@pytest.mark.parametrize("file", ["README.md", ".env.example", "docker-compose.yml", "Dockerfile"])
def test_every_variable_named_is_a_setting(file: str) -> None:
    named = set(re.findall(r"\b(?:TASKER|OPENAI)_[A-Z_]*[A-Z]\b", (readme.PROJECT / file).read_text()))
    assert named
    assert named <= {setting.variable for setting in describe_settings()} | OTHER_VARIABLES


def test_the_table_of_options_is_that_of_the_api() -> None:
    table = readme.TEXT.partition("| Option |")[2].partition("\n\n")[0]
    named = {name for row in table.strip().splitlines() for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])}
    assert named == set(SubmissionBody.__struct_fields__) - {"type", "params"}


def test_the_options_of_task_are_those_of_the_code() -> None:
    sentence = readme.TEXT.partition("`@task` takes ")[2].partition(".")[0]
    assert set(re.findall(r"`([a-z_]+)`", sentence)) == {field.name for field in fields(Options)}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/*.md"])
def test_links_lead_to_files_and_headings(page: str) -> None:
    lost, found = [], 0
    for file in readme.PROJECT.glob(page):
        for link in re.findall(r"\]\(([^)\s]+)\)", file.read_text(encoding="utf-8")):
            if link.startswith(("http:", "https:")):
                continue
            found += 1
            path, _, heading = link.partition("#")
            target = file.parent / path if path else file
            if not target.exists() or (heading and heading not in headings(target)):
                lost.append(f"{file.name}: {link}")
    assert lost == []
    assert found


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    texts = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


def test_every_make_target_named_exists() -> None:
    named = set(re.findall(r"(?:`|^)make ([a-z]+)", readme.TEXT, re.MULTILINE))
    made = set(re.findall(r"^([a-z]+):", (readme.PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert {"run", "test"} <= named <= made
