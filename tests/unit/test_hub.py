"""The hub: only the task's end, or the end of the service, wakes those who wait for a task."""

from __future__ import annotations

import asyncio

import pytest

from tasker.model import Change, Status, new_task_id
from tasker.service.hub import Hub
from tasker.testing import START


async def test_only_the_end_of_the_task_wakes_its_waiters() -> None:
    hub = Hub()
    task_id, other = new_task_id(START), new_task_id(START)
    with hub.ending(task_id) as first, hub.ending(task_id) as second, hub.ending(other) as third:
        hub.publish([Change(task_id, Status.RUNNING)])
        assert not first.done()
        hub.publish([Change(task_id, Status.FAILED)])
        assert first.done()
        assert second.done()
        assert not third.done()


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELLED])
async def test_every_terminal_status_wakes(status: Status) -> None:
    hub = Hub()
    task_id = new_task_id(START)
    with hub.ending(task_id) as ended:
        hub.publish([Change(task_id, status)])
        await asyncio.wait_for(ended, 30)


async def test_a_waiter_that_has_left_is_forgotten() -> None:
    hub = Hub()
    task_id = new_task_id(START)
    with hub.ending(task_id):
        assert hub.waiting == 1
    assert hub.waiting == 0
    hub.publish([Change(task_id, Status.COMPLETED)])


async def test_closing_wakes_present_and_later_waiters() -> None:
    hub = Hub()
    with hub.ending(new_task_id(START)) as before:
        hub.close()
        assert before.done()
    with hub.ending(new_task_id(START)) as after:
        assert after.done()
