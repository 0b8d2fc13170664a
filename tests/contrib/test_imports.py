"""Frameworks are imported by their own doors alone."""

from __future__ import annotations

import subprocess
import sys

FRAMEWORKS = {"celery", "django", "django_tasks", "fastapi", "starlette"}


def test_tasker_imports_no_framework() -> None:
    names = "import tasker, tasker.__main__, tasker.cli, tasker.client, tasker.contrib, tasker.testing, tasker.wiring"
    program = f"import sys; {names}; from tasker import Tasker, task; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    assert "tasker.contrib" in modules
    assert modules & FRAMEWORKS == set()
