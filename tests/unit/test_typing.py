"""What type checkers say to users' code: pyright here, mypy in `make check`."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from tasker import Context, task
from tasker.tasktypes.functions import TaskWithOptions
from tasker.tasktypes.submit_options import OptionFields, SubmitOptions

PROJECT = Path(__file__).parents[2]


def test_pyright_finds_the_types_and_the_faults_of_the_examples() -> None:
    """Each fault is marked in tests/typing; a mark without a fault is one, too."""
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--project", str(PROJECT)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_options_are_the_same_as_keywords() -> None:
    assert OptionFields.__annotations__.keys() == {one.name for one in fields(SubmitOptions)}
    types = {one.name: one.type for one in fields(SubmitOptions)}
    assert {name: hint.__forward_arg__ for name, hint in OptionFields.__annotations__.items()} == types


@task
async def render(context: Context, page: str) -> int:
    """Render a page."""
    return len(page)


async def test_a_task_is_a_plain_function() -> None:
    assert type(render) is type(lambda: 0)
    assert (render.__name__, render.__doc__) == ("render", "Render a page.")
    assert await render(None, "abc") == 3  # type: ignore[arg-type]


def test_a_function_takes_options() -> None:
    chosen = render.options(delay=60, tags=["a"]).options(priority=3, delay=5)
    assert isinstance(chosen, TaskWithOptions)
    assert chosen.function is render
    assert chosen.chosen == SubmitOptions(delay=5, tags=["a"], priority=3)
    assert render.options() == render.options()
