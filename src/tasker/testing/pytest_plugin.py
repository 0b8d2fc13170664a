"""The pytest plugin: a fixture `tasker` with the kit. It imports nothing of Tasker before a test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tasker.testing.kit import Kit

_OPTION = "tasker_tasks"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the ini option."""
    parser.addini(_OPTION, "files, folders or modules with the tasks of the fixture `tasker`", type="args", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers", "tasker(*tasks, **settings): what the fixture `tasker` runs, and the settings of its service"
    )


@pytest.fixture
def tasker(request: pytest.FixtureRequest) -> Iterator[Kit]:
    """A service for one test, as `tasker.testing.run` gives it.

    Its tasks are those of the marker `tasker`, else of the ini option `tasker_tasks` (beside the ini file).
    """
    from tasker.testing.kit import run

    tasks, settings = _wanted(request)
    with run(*tasks, **settings) as kit:
        yield kit


def _wanted(request: pytest.FixtureRequest) -> tuple[list[Any], dict[str, Any]]:
    """Return what the nearest marker asks for; its files are beside the test's, or beside the ini file."""
    marker = request.node.get_closest_marker("tasker")
    root = request.config.rootpath
    tasks, folders = list(request.config.getini(_OPTION)), [root]
    settings: dict[str, Any] = {}
    if marker is not None:
        settings = dict(marker.kwargs)
        if marker.args:
            tasks, folders = list(marker.args), [request.path.parent, root]
    return [_placed(task, folders) for task in tasks], settings


def _placed(task: Any, folders: list[Path]) -> Any:
    """Return a path from the first folder that has it; what is none stays as it is."""
    found = (folder / task for folder in folders) if isinstance(task, str | Path) else ()
    return next((str(path) for path in found if path.exists()), task)
