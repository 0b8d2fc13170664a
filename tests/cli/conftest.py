"""The command line, pointed at the shared service."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.cli.command import Done, tasker
from tests.server import Server


@pytest.fixture
def run(service: Server) -> Callable[..., Done]:
    """Run `tasker` against the service, with pipes."""
    return lambda *args, **more: tasker(*args, env={"TASKER_URL": service.url, **more.pop("env", {})}, **more)
