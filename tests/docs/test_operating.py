"""docs/developing.md and docs/operating.md: their commands run beside a `tasker dev` that has the page's file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.developing import developing
from tests.docs.readme import PROJECT
from tests.docs.snippets import Page
from tests.server import clean_environment


@pytest.mark.long
def test_the_commands_of_both_pages_do_what_they_say(tmp_path: Path) -> None:
    developing_page, operating_page = Page(PROJECT / "docs" / "developing.md"), Page(PROJECT / "docs" / "operating.md")
    for name, text in developing_page.files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / ".env").write_text("TASKER_DATA_DIR=data\n")
    with developing(tmp_path, "mytasks.py") as dev:
        shown = [
            _run(block.text, tmp_path, dev.url)
            for page in (developing_page, operating_page)
            for block in page.blocks
            if block.language == "bash"
        ]
    run, doctor, config, backup, restore = shown
    assert run == "5\n"
    assert "problem" not in doctor
    assert [line.split("\t") for line in config.splitlines()] == [
        ["TASKER_PORT", "5001", "flag"],
        ["TASKER_DATA_DIR", "data", ".env line 1"],
        ["TASKER_SLOTS", "100", "default"],
    ]
    assert backup.startswith("backed up 1 tasks (1 completed) and 0 large results, ")
    assert restore.startswith("restored 1 tasks (1 completed)")
    assert (tmp_path / "restored" / "tasker.db").exists()


def _run(script: str, folder: Path, url: str) -> str:
    """Run a block, and return all that it prints."""
    path = f"{Path(sys.executable).parent}:{clean_environment()['PATH']}"
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=folder,
        env=clean_environment(PATH=path, TASKER_URL=url),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}"
    return done.stdout
