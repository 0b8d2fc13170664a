"""A service on each engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.postgres import Cluster
from tests.steps.house import House

Opener = Callable[..., House]


@pytest.fixture(params=["sqlite", "postgres"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Return what makes a House from settings."""
    cluster: Cluster | None = None if request.param == "sqlite" else request.getfixturevalue("cluster")
    return lambda **env: House(tmp_path, cluster, **env)
