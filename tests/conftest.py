"""Fixtures for every suite: one real service for tests that need any service, and one PostgreSQL server."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis.internal.conjecture import providers

from tests import postgres
from tests.server import Server, run_server

# Every run tries the same examples: what a run finds depends on the code alone. `make fuzz` tries others. Explaining a
# failure has no time limit, and a test that takes half a second has taken hours there. No example has a deadline, for
# the machine may be busy with other work.
COMMON = {
    "phases": [phase for phase in Phase if phase is not Phase.explain],
    "print_blob": True,
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("repeatable", derandomize=True, **COMMON)
settings.register_profile("random", max_examples=1000, **COMMON)
settings.load_profile("repeatable")

# Hypothesis also tries the constants of the modules that are loaded, other than tests: those depend on which tests this
# process has run before. So only `make fuzz` tries them.
_NO_CONSTANTS = providers._local_constants
_constants_of_modules = providers._get_local_constants
providers._get_local_constants = lambda: _NO_CONSTANTS if settings.default.derandomize else _constants_of_modules()

# structlog's default shows tracebacks with colours and variables, which takes up to half a second for each.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)
LOGGING = structlog.get_config()
_configure = structlog.configure


def _configure_for_one_test(**options: Any) -> None:
    """Configure structlog so that no logger keeps the stream of the test that used it first."""
    _configure(**{**options, "cache_logger_on_first_use": False})


structlog.configure = _configure_for_one_test

SAMPLE_TASKS = Path(__file__).with_name("sample_tasks.py")


@pytest.fixture(autouse=True)
def _logging_of_one_test() -> Iterator[None]:
    """Undo what a command that ran in this process has set up: its stream may be closed."""
    yield
    if structlog.get_config() != LOGGING:
        _configure(**LOGGING)
    root = logging.getLogger()
    ours = [one for one in root.handlers if isinstance(one.formatter, structlog.stdlib.ProcessorFormatter)]
    for handler in ours:
        root.removeHandler(handler)
    if ours:
        root.setLevel(logging.WARNING)
        logging.captureWarnings(False)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running service with the tasks of sample_tasks.py, shared by all tests of this process that ask for it."""
    with run_server(tmp_path_factory.mktemp("service"), str(SAMPLE_TASKS)) as server:
        yield server


@pytest.fixture(scope="session")
def cluster() -> postgres.Cluster:
    """The PostgreSQL server of this process of pytest; take a fresh_database() of it."""
    return postgres.cluster()


def pytest_sessionfinish() -> None:
    """End the PostgreSQL server, whether tests failed or not."""
    postgres.end_cluster()
