"""The engines that the contract suite runs against: a new one is one more line of ENGINES."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tasker.clock import Clock
from tasker.engine import Engine
from tasker.engines.sqlite import SqliteEngine


def _sqlite(folder: Path, clock: Clock) -> Engine:
    return SqliteEngine(folder / "data" / "tasker.db", clock)


ENGINES: dict[str, Callable[[Path, Clock], Engine]] = {
    "sqlite": _sqlite,
}
"""By name: what makes an engine, not open yet, whose store is that of the folder."""
