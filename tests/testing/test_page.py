"""docs/testing.md: its files are tests, which pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.snippets import Page
from tests.testing.test_pytest_plugin import run_pytest

pytest_plugins = ["pytester"]

PAGE = Page(Path(__file__).parents[2] / "docs" / "testing.md")


def test_the_tests_of_the_page_pass(pytester: pytest.Pytester) -> None:
    for name, text in PAGE.files.items():
        (pytester.path / name).write_text(text)
    [ini] = [block.text for block in PAGE.blocks if "[tool.pytest.ini_options]" in block.text]
    (pytester.path / "pyproject.toml").write_text(ini)
    [marked] = [block.text for block in PAGE.blocks if "@pytest.mark.tasker" in block.text]
    (pytester.path / "other.py").write_text("from tasker import task\n\n\n@task\ndef other() -> None: ...\n")
    (pytester.path / "test_plugin.py").write_text(f"import pytest\n\n\n{marked}")
    commands = [block.text.strip() for block in PAGE.blocks if block.text.startswith("pytest -q")]
    assert commands == ["pytest -q test_shop.py"]
    run_pytest(pytester, "--strict-markers", "--strict-config").assert_outcomes(passed=11)
