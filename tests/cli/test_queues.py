"""`tasker queue`: limits are set, shown and removed, on a service of its own."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.command import Done, tasker
from tests.server import run_server


def test_a_queue_is_paused_limited_and_resumed(tmp_path: Path) -> None:
    with run_server(tmp_path) as server:

        def queue(*args: str) -> Done:
            return tasker("queue", *args, env={"TASKER_URL": server.url}, folder=tmp_path)

        assert queue("ls").err == "No queue holds open tasks or is limited.\n"
        assert queue("pause", "llm").err == "Queue llm: paused.\n"
        set_ = queue("set", "llm", "--concurrency", "4", "--per-key", "1", "--rate", "90000", "--per", "60")
        assert set_.err == "Queue llm: paused, 4 at a time, 1 per key, 90,000 in 60 s (burst 9,000).\n"
        assert json.loads(queue("ls", "--json").out)[0]["concurrency"] == 4
        assert queue("resume", "llm").code == 0
        assert queue("ls").out == "llm\t0\t0\t0\t4 at a time, 1 per key, 90,000 in 60 s (burst 9,000)\n"
        refused = queue("set", "llm", "--concurrency", "many", "--rate", "0")
        assert refused.code == 2
        assert "/concurrency: expected" in refused.err
        assert "/rate/limit: expected" in refused.err
        assert queue("set", "llm", "--per", "60").code == 2
        assert "1 per key, keys shared by all owners" in queue("set", "llm", "--shared-keys").err
        assert "shared" not in queue("set", "llm", "--no-shared-keys").err
        freed = queue("set", "llm", "--concurrency", "none", "--per-key", "none", "--rate", "none")
        assert freed.err == "Queue llm: no limits.\n"
        assert queue("pause", "-no").code in (2, 3)
