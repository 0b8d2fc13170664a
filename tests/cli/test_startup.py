"""The command starts fast: what it imports, and what it does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "apsw", "granian", "httpx2", "jsonschema", "openai", "prometheus_client", "pydantic", "rich",
    "structlog", "uvloop", "xllamacpp",
}  # fmt: skip
CLIENT = {"httpx2"}
PARSER = {"cyclopts"}
TASKS = {"tasker.tasktypes.registry", "tasker.engines", "asyncio"}


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["version"], set()),
        (["--help"], set()),
        (["healthcheck"], set()),
        (["ls", "--url", "http://127.0.0.1:1"], CLIENT | PARSER),
        (["get", "no-uuid"], CLIENT | PARSER),
        (["run", "sum", "1", "--url", "http://127.0.0.1:1"], CLIENT | PARSER),
        (["model", "--help"], PARSER | {"rich"}),
    ],
)
def test_a_command_imports_what_it_needs(arguments: list[str], allowed: set[str]) -> None:
    program = f"import sys; from tasker.cli import main; main({arguments!r}); print('modules', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = set(done.stdout.rpartition("modules")[2].split())
    assert (HEAVY | CLIENT | PARSER | TASKS) & modules <= allowed
