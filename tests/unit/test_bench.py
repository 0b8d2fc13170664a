"""The benchmark's engine without a store stands in for a real one."""

from __future__ import annotations

import inspect

import pytest
from bench.null_engine import NullEngine

from tasker.engines.protocol import Engine

METHODS = sorted(name for name in vars(NullEngine) if name in vars(Engine) and not name.startswith("_"))


@pytest.mark.parametrize("name", METHODS)
def test_the_null_engine_takes_what_the_protocol_says(name: str) -> None:
    ours, theirs = (inspect.signature(getattr(engine, name)) for engine in (NullEngine, Engine))
    assert {one.name: one.kind for one in ours.parameters.values()} == {
        one.name: one.kind for one in theirs.parameters.values()
    }


def test_the_null_engine_runs_tasks_itself() -> None:
    assert {"submit", "claim", "complete", "find"} <= {*METHODS}
