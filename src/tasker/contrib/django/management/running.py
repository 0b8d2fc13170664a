"""What the commands of manage.py share: they become the command `tasker`, with the project's tasks."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from django.core.management.base import BaseCommand

_TASKS = "tasker.contrib.django.tasks"


class TaskerCommand(BaseCommand):
    """Runs a command of `tasker` in the place of this process; arguments are passed on."""

    command: str

    def run_from_argv(self, argv: list[str]) -> NoReturn:
        """Replace this process by `tasker`. manage.py has set DJANGO_SETTINGS_MODULE."""
        paths = [path for path in (sys.path[0], os.environ.get("PYTHONPATH")) if path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        words = [sys.executable, "-m", "tasker", self.command, _TASKS, *argv[2:]]
        os.execve(sys.executable, words, environment)  # noqa: S606  a program of ours
