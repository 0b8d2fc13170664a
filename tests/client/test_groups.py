"""The client's groups, against a real service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tasker.client import GroupTimeout, InvalidRequest, NotFound, SubmitOptions, Tasker
from tests.server import Server


@pytest.fixture
def client(service: Server) -> Iterator[Tasker]:
    with Tasker(service.url) as client:
        yield client


@pytest.fixture
def name() -> str:
    return f"g{uuid4().hex}"


def test_a_group_is_awaited(client: Tasker, name: str, tmp_path: Path) -> None:
    options, file = SubmitOptions(group=name), tmp_path / "content"
    client.submit("sum", 4, 2, options=options)
    last = client.submit("wait_for_file", str(file), options=options)
    with pytest.raises(GroupTimeout) as caught:
        client.groups.wait(name, 0)
    assert caught.value.group.name == name
    after = client.submit("sum", 1, 1, options=SubmitOptions(depends_on={"group": name}))
    file.write_text("here")
    group = client.groups.wait(name, 30)
    assert (group.tasks.completed, group.tasks.pending, group.oldest_open, group.failures) == (2, 0, None, ())
    assert after.result(30) == 2
    assert {task.task_id for task in client.find_many(group=name)} >= {last.task_id}
    assert name in {one.name for one in client.groups.find_many()}


def test_a_group_is_cancelled(client: Tasker, name: str) -> None:
    client.submit("sum", 4, 2, options=SubmitOptions(group=name, delay=3600))
    assert client.groups.cancel(name).done == 1
    assert client.groups.get(name).tasks.cancelled == 1


def test_what_is_wrong_is_said(client: Tasker, name: str) -> None:
    for ask in (client.groups.get, client.groups.wait, client.groups.cancel):
        with pytest.raises(NotFound):
            ask(name)
    with pytest.raises(InvalidRequest, match="/group"):
        client.submit("sum", 4, 2, options=SubmitOptions(group="a b"))
