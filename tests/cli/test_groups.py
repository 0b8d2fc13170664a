"""`tasker group`, against a real service."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from tests.cli.command import Done

Run = Callable[..., Done]


def test_a_group_is_shown_awaited_and_cancelled(run: Run, tmp_path: Path) -> None:
    name = f"g{uuid4().hex}"
    assert run("group", "show", name).code == 3
    assert run("run", "sum", "4", "2", "--group", name).out == "6\n"
    assert run("group", "show", name, "--wait") == Done(0, f"{name}: 1 completed\n", "")
    open_one = run("run", "wait_for_file", str(tmp_path / "none"), "--group", name, "--detach").out.strip()
    late = run("group", "show", name, "--wait", "--timeout", "0")
    assert (late.code, late.out) == (124, "")
    assert "has open tasks" in late.err
    shown = run("group", "show", name)
    assert shown.code == 0
    assert f"oldest open task: {open_one}" in shown.out
    cancelled = run("group", "cancel", name)
    assert (cancelled.code, cancelled.err) == (0, f"Group {name}: 1 tasks are cancelled or asked to stop.\n")
    done = run("group", "show", name, "--wait", "--json")
    assert done.code == 1, "a task was cancelled"
    assert json.loads(done.out)["tasks"]["cancelled"] == 1
    assert f"{name}\t0\t0\t1\t0\t1" in run("group", "ls").out.splitlines()


def test_failures_are_shown(run: Run) -> None:
    name = f"g{uuid4().hex}"
    task_id = run("run", "fail", "no", "--group", name, "--detach").out.strip()
    done = run("group", "show", name, "--wait")
    assert done.code == 1
    assert f"failed: {task_id} fail: " in done.out
