"""The services of tests are forks (tests/forking.py), which outlive no run of the tests."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).parents[2]
STARTED = """
import os, sys
from pathlib import Path
from tests.server import run_server

with run_server(Path(sys.argv[1])) as server:
    print(server.process.pid, flush=True)
    os.killpg(0, 9)
"""


@pytest.mark.long
def test_a_service_ends_with_the_process_that_wanted_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTED, str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, start_new_session=True, timeout=60)
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(done.stdout)).wait(30)
