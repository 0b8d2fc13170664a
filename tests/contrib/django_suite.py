"""Django's own tests of its backends of tasks, run against ours: fetched from PyPI, adapted, and run by its runner.

`prepare(folder, ...)` makes a project of them; `python -m tests.contrib.django_suite FOLDER`, run with TASKER_URL, runs
them and prints counts as JSON. Only what names a backend is changed. The package `django-tasks`, for Django before 6,
comes without tests: for it they are the same tests with its names.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import unittest
from pathlib import Path

DJANGO = "django==6.0.10"
SHA256 = "6005d030df924f85088454c18bd35dcf082b058aa355ad3df520d8de9aef9f41"
BACKPORT = {
    r"\bdjango\.tasks\b": "django_tasks",
    r"\bInvalidTaskBackend\b": "InvalidTaskBackendError",
    r"\bInvalidTask\b": "InvalidTaskError",
    "async Tasks": "async tasks",
}
"""Names of Django's tasks, and what they are in the package for Django before 6."""
OTHERS_OWN = {
    # The immediate backend runs a task where it is enqueued, and forgets it.
    "test_cannot_get_result": "results can be read",
    "test_cannot_refresh_result": "results can be refreshed",
    "test_cannot_pass_run_after": "tasks can be deferred",
    "test_throws_keyboard_interrupt": "an interrupt of a task ends the task's attempt, not its client",
    # The dummy backend never runs a task, and lets tests change and erase its list.
    "DummyBackendTestCase.test_refresh_result": "changes the dummy's list",
    "DummyBackendTestCase.test_refresh_result_async": "changes the dummy's list",
    "DummyBackendTestCase.test_clear": "erases the dummy's list",
    **({} if sys.version_info >= (3, 12) else {"test_no_enqueue": "has a message of Python 3.12"}),
}
"""Tests of what sets the other backends apart, and how ours differs."""
_SETTINGS = """
SECRET_KEY = "of tests"
USE_TZ = True
INSTALLED_APPS = {apps}
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}}
TASKS = {{"default": {{"BACKEND": "tasker.contrib.django.TaskerBackend"}}}}
"""


def fetch(folder: Path) -> Path:
    """Download Django's source distribution into a folder. Raises OSError without a network."""
    index = ("--no-deps", "--no-binary", ":all:", "--python-version", "3.12", "--dest", str(folder))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *index, DJANGO]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(done.stderr)
    (path,) = folder.glob("*.tar.gz")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256
    return path


def prepare(folder: Path, sdist: Path, *, backport: bool) -> None:
    """Make a project of the tests in `folder`: its package `tasks`, with `settings.py`."""
    with tarfile.open(sdist) as archive:
        for member in archive:
            name = member.name.partition("/tests/tasks/")[2]
            if name.endswith(".py") and (file := archive.extractfile(member)):
                (folder / "tasks").mkdir(exist_ok=True)
                (folder / "tasks" / name).write_text(_adapt(file.read().decode(), backport))
    (folder / "settings.py").write_text(_SETTINGS.format(apps=["tasks", *(["django_tasks"] if backport else [])]))


def _adapt(text: str, backport: bool) -> str:
    for name in ("Dummy", "Immediate"):
        module, ours = f"django.tasks.backends.{name.lower()}", "tests.contrib.django_backends"
        text = text.replace(f"{module}.{name}Backend", f"{ours}.{name}")
        text = text.replace(f"from {module} import {name}Backend", f"from {ours} import {name} as {name}Backend")
    for pattern, name in BACKPORT.items() if backport else ():
        text = re.sub(pattern, name, text)
    return text


def run(folder: Path) -> dict[str, int]:
    """Run the tests of a project, and return how many ran, and how many failed."""
    import django
    from django.conf import settings
    from django.test.utils import get_runner

    sys.path.insert(0, str(folder))
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    django.setup()
    runner = get_runner(settings)(verbosity=0)
    runner.setup_test_environment()
    suite = unittest.TestSuite(test for test in _flatten(runner.build_suite(["tasks"])) if not _is_others_own(test))
    old = runner.setup_databases()
    result = runner.run_suite(suite)
    runner.teardown_databases(old)
    return {"run": result.testsRun, "failed": len(result.failures) + len(result.errors), "skipped": len(result.skipped)}


def _flatten(suite: unittest.TestSuite) -> list[unittest.TestCase]:
    return [one for test in suite for one in (_flatten(test) if isinstance(test, unittest.TestSuite) else [test])]


def _is_others_own(test: unittest.TestCase) -> bool:
    names = test.id().split(".")
    return names[-1] in OTHERS_OWN or ".".join(names[-2:]) in OTHERS_OWN


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]))))
