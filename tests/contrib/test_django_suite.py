"""Django's own tests of backends of tasks pass with ours: see django_suite."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import django
import pytest

from tests.contrib.django_suite import OTHERS_OWN, fetch, prepare
from tests.server import clean_environment, run_server

ROOT = Path(__file__).parents[2]
TESTS = 76
"""In tests/tasks of Django 6.0.10."""


@pytest.mark.long
def test_the_frameworks_own_tests_pass(tmp_path: Path) -> None:
    try:
        sdist = fetch(tmp_path)
    except OSError as error:
        pytest.skip(f"Django's source distribution cannot be fetched: {error}")
    prepare(tmp_path, sdist, backport=django.VERSION < (6,))
    environment = {"DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": str(ROOT)}
    with run_server(tmp_path, "tasker.contrib.django.tasks", env=environment) as server:
        done = subprocess.run(
            [sys.executable, "-m", "tests.contrib.django_suite", str(tmp_path)],
            cwd=tmp_path,
            env=clean_environment(TASKER_URL=server.url, **environment),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts == {"run": TESTS - len(OTHERS_OWN), "failed": 0, "skipped": 0}, done.stderr
