"""`tasker schedule`: from the first tick to the last, on a service of its own."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.command import Done, tasker
from tests.server import run_server


def test_a_schedule_is_created_shown_and_removed(tmp_path: Path) -> None:
    with run_server(tmp_path) as server:

        def schedule(*args: str) -> Done:
            return tasker("schedule", *args, env={"TASKER_URL": server.url}, folder=tmp_path)

        assert schedule("ls").err == "There are no schedules: make one with `tasker schedule add`.\n"
        made = schedule("add", "nightly", "sum", "4", "2", "--cron", "30 2 * * *", "--time-zone", "Europe/Berlin")
        assert (made.code, made.err[:48]) == (0, "Schedule nightly: the first task is submitted in")
        schedule_id = made.out.strip()
        assert schedule("add", "often", "reverse", "text=a", "--every", "3600", "--overlap", "skip").code == 0
        assert [line.split("\t")[:3] for line in schedule("ls").out.splitlines()] == [
            ["often", "reverse", "every 3600 s"],
            ["nightly", "sum", "30 2 * * * Europe/Berlin"],
        ]
        shown = schedule("show", "nightly", "--count", "2").out
        assert f"schedule:  {schedule_id}" in shown
        assert shown.count("tick:") == 2
        assert schedule("pause", "nightly").err == "Schedule nightly: paused.\n"
        assert json.loads(schedule("show", schedule_id, "--json").out)["paused"] is True
        assert schedule("resume", "nightly").err.startswith("Schedule nightly: in ")
        changed = schedule("change", schedule_id, "b=3", "--interval", "2h", "--overlap", "skip", "--json")
        found = json.loads(changed.out)
        assert (found["cron"], found["interval"], found["overlap"]) == (None, 7200, "skip")
        assert found["task"]["params"] == {"a": 4, "b": 3}
        again = schedule("change", "nightly", "4", "2", "--cron", "0 3 * * *", "--time-zone", "Asia/Tokyo")
        assert again.err.startswith("Schedule nightly: 0 3 * * * Asia/Tokyo, in ")
        assert schedule("change", "nightly").code == 2
        both = schedule("change", "nightly", "--cron", "0 3 * * *", "--every", "60")
        assert (both.code, "and not both" in both.err) == (2, True)
        assert schedule("change", "often", "--name", "hourly").err.startswith("Schedule hourly: every 3600 s, in ")
        task_id = schedule("trigger", "nightly").out.strip()
        assert schedule("trigger", "nightly").out.strip() != task_id, "each trigger submits a task"
        assert tasker("get", task_id, "--wait", env={"TASKER_URL": server.url}, folder=tmp_path).out == "6\n"
        assert schedule("rm", "nightly").err == "Schedule nightly is erased.\n"
        assert [schedule(command, "nightly").code for command in ("show", "rm", "pause")] == [3, 3, 3]
        refused = schedule("add", "x", "sum", "4", "--cron", "* * * * * *", "--missed", "never")
        assert refused.code == 2
        for fault in ("/cron: expected 5 fields", "/missed: expected", "/task/params/"):
            assert fault in refused.err
        assert schedule("add", "hourly", "sum", "1", "2", "--every", "60").code == 6
