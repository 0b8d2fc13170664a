"""`make` on a machine that lacks something: it says what to install, and cleans up after a failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import clean_environment

PROJECT = Path(__file__).parents[2]


def make(target: str, python: str, venv: Path, *more: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", target, f"PYTHON={python}", f"VENV={venv}", *more]
    return subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False, env=clean_environment(**env)
    )


def fake_python(folder: Path, *, version: str = "3.12.1", has_venv: bool = True) -> str:
    """Write a fake Python that has a version, may have venv, and fails to make one."""
    program = folder / "python"
    lines = [
        "#!/bin/sh",
        'case "$*" in',
        f'  --version) echo "Python {version}";;',
        f"  *version_info*) exit {0 if version >= '3.11' else 1};;",
        f"  *ensurepip*) exit {0 if has_venv else 1};;",
        '  "-m venv"*) mkdir -p "$3/bin"; touch "$3/bin/python"; exit 1;;',
        "esac",
    ]
    program.write_text("\n".join(lines) + "\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("target", ["run", "test", "check", "bench"])
def test_python_is_missing(target: str, tmp_path: Path) -> None:
    done = make(target, "no-such-python", tmp_path / "venv")
    assert done.returncode == 2
    assert "Tasker needs Python 3.11 or later" in done.stdout
    assert "apt install python3 python3-venv; macOS: brew install python" in done.stdout
    assert not (tmp_path / "venv").exists()


def test_python_is_too_old(tmp_path: Path) -> None:
    done = make("run", fake_python(tmp_path, version="3.10.9"), tmp_path / "venv")
    assert done.returncode == 2
    assert "is Python 3.10.9" in done.stdout
    assert "make PYTHON=python3.13" in done.stdout


def test_venv_is_missing(tmp_path: Path) -> None:
    done = make("test", fake_python(tmp_path, has_venv=False), tmp_path / "venv")
    assert done.returncode == 2
    assert "lacks venv. Install it (Debian, Ubuntu: apt install python3-venv)" in done.stdout


def test_a_partial_venv_is_removed(tmp_path: Path) -> None:
    done = make("run", fake_python(tmp_path), tmp_path / "venv")
    assert done.returncode == 2
    assert not (tmp_path / "venv").exists()


def test_help_lists_the_targets() -> None:
    done = make("help", sys.executable, PROJECT / ".venv")
    assert {"run", "test", "check", "bench", "lock"} <= {line.split()[1] for line in done.stdout.splitlines()}


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An up-to-date venv whose `tasker` prints its arguments."""
    programs = tmp_path / "venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "tasker"):
        (programs / name).write_text('#!/bin/sh\necho tasker "$@"\n')
        (programs / name).chmod(0o755)
    (tmp_path / "venv" / ".run-stamp").touch()
    return tmp_path / "venv"


@pytest.mark.parametrize(
    ("more", "env", "served"),
    [
        ([], {}, "tasker serve"),
        (["PORT=5001", "TASKS=a.py b.py"], {}, "tasker serve --port 5001 a.py b.py"),
        ([], {"PORT": "7200", "TASKS": "a.py"}, "tasker serve --port 7200 a.py"),
        (["PORT=5001"], {"PORT": "7200", "TASKER_PORT": "6000"}, "tasker serve --port 5001"),
        ([], {"PORT": "", "TASKER_PORT": "6000"}, "tasker serve"),
        (
            [],
            {"PORT": "7200", "TASKER_PORT": "6000"},
            "Ignoring PORT=7200 of the environment: TASKER_PORT=6000 is set too.\ntasker serve",
        ),
        (
            [],
            {"TASKS": "a.py", "TASKER_TASKS": "b.py"},
            "Ignoring TASKS=a.py of the environment: TASKER_TASKS=b.py is set too.\ntasker serve",
        ),
    ],
)
def test_run_takes_port_and_tasks_from_its_command_line_and_the_environment(
    more: list[str], env: dict[str, str], served: str, venv: Path
) -> None:
    done = make("run", "no-such-python", venv, *more, **{"PORT": "", "TASKS": "", **env})
    assert done.stdout == f"{served}\n"
    assert done.returncode == 0
