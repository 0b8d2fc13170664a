"""A large result and a kill at each point between its file and the commit that refers to it."""

from __future__ import annotations

import shutil
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.crash.fire import Client
from tests.server import run_server

pytestmark = [pytest.mark.crash, pytest.mark.root, pytest.mark.timeout(280)]

ENV = {"TASKER_SPILL_OVER": "1KiB"}
LONG = "x" * 5000


@pytest.mark.parametrize("when", [2, 3], ids=["as the file is written", "before the row refers to it"])
def test_a_kill_leaves_no_row_without_its_file_and_no_file_for_long(tmp_path: Path, when: int) -> None:
    """The service's first fsync is of the new folder, the second of the file, the third of the file's name."""
    strace = shutil.which("strace")
    assert strace is not None, "this test needs strace (apt-get install strace)"
    inject = (strace, "-D", "-f", "-qq", "-o", str(tmp_path / "strace.log"), "-e", "trace=fsync",
              "-e", f"inject=fsync:signal=SIGKILL:when={when}")  # fmt: skip
    with run_server(tmp_path, env=ENV, under=inject) as server, Client(server) as client:
        task_id = client.submit("reverse", [LONG])
        server.process.wait(30)
    [left] = (tmp_path / "data" / "results").iterdir()
    with run_server(tmp_path, env=ENV) as server, Client(server) as client:
        done = client.end(task_id)
        assert (done["status"], done["result"]) == ("completed", LONG)
        assert [attempt["ending"] for attempt in done["attempts"]] == ["interrupted", "succeeded"]
        end = monotonic() + 20
        while len(files := list(left.parent.iterdir())) != 1:
            assert monotonic() < end, f"what the crash has left is kept: {files}"
            sleep(0.05)
        assert files != [left]
