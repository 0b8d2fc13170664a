"""The command line, pointed at the shared service."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasker.cli import main
from tests.cli.command import Done, tasker
from tests.server import Server


@pytest.fixture
def run(service: Server) -> Callable[..., Done]:
    """Run `tasker` against the service, with pipes."""
    return lambda *args, **more: tasker(*args, env={"TASKER_URL": service.url, **more.pop("env", {})}, **more)


@pytest.fixture
def here(service: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run `tasker` in this process against the service, with pipes; cheaper than `run`."""
    monkeypatch.setenv("TASKER_URL", service.url)

    def run(*words: str) -> Done:
        capsys.readouterr()
        code = main(words)
        return Done(code, *capsys.readouterr())

    return run
