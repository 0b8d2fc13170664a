"""What every suite may use: one real service for tests that only need some service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import Server, run_server

SAMPLE_TASKS = Path(__file__).with_name("sample_tasks.py")


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running service with the tasks of sample_tasks.py, shared by all tests of this process that ask for it."""
    with run_server(tmp_path_factory.mktemp("service"), str(SAMPLE_TASKS)) as server:
        yield server
