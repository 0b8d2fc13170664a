"""The pytest plugin: its fixture, where its tasks come from, and that it costs nothing to those who do not use it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

import tasker.testing.kit  # noqa: F401  else each of the runs below imports it, and forgets it again

pytest_plugins = ["pytester"]

IS_INSTALLED = any(entry.value == "tasker.testing.pytest_plugin" for entry in entry_points(group="pytest11"))
ARGUMENTS = () if IS_INSTALLED else ("-p", "tasker.testing.pytest_plugin")

TASKS = "from tasker import task\n\n\n@task\ndef greet(name: str) -> str:\n    return f'Hi {name}'\n"


def run_pytest(pytester: pytest.Pytester, *more: str) -> pytest.RunResult:
    own = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cloudcoil", "-p", "no:asyncio", "-W", "error")
    return pytester.runpytest_inprocess(*ARGUMENTS, *own, *more)


def test_the_fixture_takes_its_tasks_from_the_ini_file(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ntasker_tasks = greet_of_ini.py\n")
    pytester.makepyfile(greet_of_ini=TASKS)
    pytester.makepyfile(
        "def test_greeting(tasker):\n    assert tasker.run('greet', 'Ada') == 'Hi Ada'\n\n\n"
        "def test_that_each_test_has_its_own(tasker):\n    assert tasker.submitted() == []\n"
    )
    run_pytest(pytester, "--strict-markers", "--strict-config").assert_outcomes(passed=2)


def test_the_marker_names_tasks_and_settings(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(**{"tests/greet_of_marker": TASKS})
    pytester.makepyfile(
        **{
            "tests/test_marker": "import pytest\n\n\n@pytest.mark.tasker('greet_of_marker.py', max_result=1024)\n"
            "def test_greeting(tasker):\n    assert tasker.run('greet', 'Ada') == 'Hi Ada'\n"
            "    handle = tasker.submit('greet', 'x' * 2000)\n    tasker.drain()\n"
            "    assert handle.get().error.type.endswith('result-too-large')\n"
        }
    )
    run_pytest(pytester, "--strict-markers").assert_outcomes(passed=1)


def test_a_fixture_of_the_user_wins(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import pytest\n\n\n@pytest.fixture\ndef tasker():\n    return 'mine'\n")
    pytester.makepyfile("def test_mine(tasker):\n    assert tasker == 'mine'\n")
    run_pytest(pytester).assert_outcomes(passed=1)


def test_it_imports_nothing_before_a_test_asks_for_it() -> None:
    code = (
        "import sys, pytest\nbefore = set(sys.modules)\nimport tasker.testing.pytest_plugin\n"
        "print(*sorted(name for name in set(sys.modules) - before if name.startswith(('tasker', 'msgspec', 'httpx'))))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["tasker", "tasker.testing", "tasker.testing.pytest_plugin"]
