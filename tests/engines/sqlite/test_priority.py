"""Scans leave the processor to the event loop."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import apsw
import pytest
from tests.stores import open_store

from tasker.engines.sqlite.reader import NICER
from tasker.testing import ManualClock


def niceness(_: apsw.Connection | None = None) -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a priority for each thread")
async def test_scans_are_nicer_than_all_else(tmp_path: Path) -> None:
    async with open_store(tmp_path / "tasker.db", ManualClock()) as engine:
        before = niceness()
        assert await engine._read.scan(niceness) == min(19, before + NICER)
        assert await engine._read(niceness) == before
        assert niceness() == before
