"""The kernel out of memory, for real: it kills a child, as it would kill anything; the worker lives (row 9)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.fire import Client
from tests.crash.fleet import Fleet
from tests.postgres import Cluster

pytestmark = [pytest.mark.crash, pytest.mark.root, pytest.mark.timeout(280)]

MEMORY = 600 * 2**20
"""Bytes for a worker and its children: enough, except for the task that hoards."""
_V1, _V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A control group whose processes share MEMORY: below our own where that can be, so that its limits still hold."""
    if (_V1 / "cgroup.procs").exists():
        parent, limits = _V1 / _own_group("memory"), ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    elif "memory" in _read(_V2 / "cgroup.subtree_control"):
        parent, limits = _V2, ("memory.max",)
    else:
        pytest.skip("this machine has no control groups for memory")
    group = parent / f"tasker-{tmp_path.name}"
    group.mkdir()
    for name in limits:
        if (group / name).exists():
            (group / name).write_text(str(MEMORY))
    yield group
    group.rmdir()


def test_out_of_memory_is_an_attempt_that_crashed(tmp_path: Path, cluster: Cluster, memory: Path) -> None:
    fleet = Fleet(tmp_path, cluster)
    confined = ("sh", "-c", f'echo $$ > {memory}/cgroup.procs && exec "$@"', "sh")
    with fleet.api() as server, Client(server) as client, fleet.worker(under=confined) as worker:
        hoarder = client.submit("hoard", [])
        others = {str(number): client.submit("in_child", [1]) for number in range(10)}
        dead = client.end(hoarder)
        assert {client.end(other)["status"] for other in others.values()} == {"completed"}
        assert client.end(client.submit("in_child", [1]))["status"] == "completed"
        assert worker.process.poll() is None
        assert client.status("/readyz") == 200
    assert (dead["status"], dead["error"]["type"]) == ("failed", "/problems/worker-crashed")
    assert [attempt["ending"] for attempt in dead["attempts"]] == ["crashed"] * 3
    assert all("SIGKILL" in attempt["error"]["detail"] for attempt in dead["attempts"])
    assert _kills(memory) >= 3, "the kernel killed nobody: this run proves nothing"


def _kills(group: Path) -> int:
    """Return how many processes of the group the kernel has killed for memory."""
    told = _read(group / "memory.oom_control") or _read(group / "memory.events")
    return next(int(line.split()[1]) for line in told.splitlines() if line.startswith("oom_kill "))


def _own_group(controller: str) -> str:
    lines = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    return next(path for _, controllers, path in lines if controller in controllers.split(",")).lstrip("/")


def _read(file: Path) -> str:
    return file.read_text() if file.exists() else ""
