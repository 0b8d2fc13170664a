"""docs/cli.md names each command, with the words of `tasker --help`."""

from __future__ import annotations

import re

from tasker.cli import _COMMANDS
from tests.docs.readme import PROJECT

PAGE = (PROJECT / "docs" / "cli.md").read_text(encoding="utf-8")


def test_the_table_of_all_commands_is_that_of_the_help() -> None:
    table = PAGE.partition("## All commands")[2]
    rows = re.findall(r"^\| \[`tasker (\w+)`\]\(\S+\) \| (.*) \|$", table, re.MULTILINE)
    assert rows == [(name, text) for name, _, text in _COMMANDS]
