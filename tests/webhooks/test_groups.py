"""The message about the end of a group: signed, in each format, and sent even if the group has gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import standardwebhooks
from msgspec import structs
from tests.stores import open_store
from tests.webhooks.rig import SECRET, Receivers, Rig

from tasker.model import Extra
from tasker.model.groups import GroupCounts, GroupEnd
from tasker.rules.lifecycle import Failed, Succeeded, problem
from tasker.testing import START, Driver, ManualClock, make_draft
from tasker.webhooks.chat import make_group_slack, make_group_text

END = GroupEnd(
    name="import-7", owner="", number=1, tasks=GroupCounts(completed=1_498, failed=2), created_at=START, ended_at=START
)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    clock = ManualClock()
    async with open_store(tmp_path / "data" / "tasker.db", clock) as engine:
        yield Rig(engine, clock, Receivers())


async def run(driver: Driver, *outcomes: Any) -> list[UUID]:
    """Run a group of tasks, each to its outcome."""
    drafts = [make_draft(driver.clock.now(), extra=Extra(group="import-7")) for _ in outcomes]
    await driver.engine.submit(drafts)
    for outcome in outcomes:
        await driver.finish(await driver.claim_one(), outcome)
    return [draft.task_id for draft in drafts]


async def test_the_end_of_a_group_is_sent_once_and_signed(rig: Rig) -> None:
    await rig.hook(events=("group.ended",))
    task_ids = await run(rig.driver, Succeeded(b"6"), Failed(problem("task-failed", "no")))
    for task_id in task_ids:
        await rig.engine.delete(task_id)
    assert await rig.engine.groups.find("", "import-7") is None
    await rig.work()
    await rig.work()
    [told] = rig.receivers.told
    now = rig.clock.now().isoformat().replace("+00:00", "Z")
    assert told.body == {
        "type": "group.ended", "timestamp": now,
        "data": {
            "name": "import-7", "owner": "", "number": 1, "created_at": now, "ended_at": now,
            "tasks": {"pending": 0, "running": 0, "completed": 1, "failed": 1, "cancelled": 0},
        },
    }  # fmt: skip
    signed = standardwebhooks.Webhook(SECRET).sign(told.headers["webhook-id"], rig.clock.now(), told.text)
    assert signed in told.headers["webhook-signature"]


@pytest.mark.parametrize("format", ["slack", "plain"])
async def test_chats_are_told_in_their_format(rig: Rig, format: Any) -> None:
    await rig.hook(events=("group.ended",), format=format)
    await run(rig.driver, Succeeded(b"6"))
    await rig.work()
    [told] = rig.receivers.told
    assert "import-7" in told.text
    assert "1 completed" in told.text


async def test_a_failed_delivery_is_tried_again(rig: Rig) -> None:
    webhook = await rig.hook(events=("group.ended",))
    rig.receivers.answers[webhook.url] = 500
    await run(rig.driver, Succeeded(b"6"))
    await rig.work()
    rig.receivers.answers.clear()
    [delivery] = await rig.deliveries(webhook)
    rig.clock.advance(delivery.due_at - rig.clock.now())
    await rig.work()
    first, second = rig.receivers.told
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert (await rig.deliveries(webhook))[0].status == "delivered"


def test_a_message_is_one_line() -> None:
    assert make_group_text(END) == "Group import-7 has ended: 1,498 completed, 2 failed"
    assert make_group_slack(END) == b'{"text":"Group `import-7` has ended: 1,498 completed, 2 failed"}'
    hostile = structs.replace(END, name="a.example@here", tasks=GroupCounts())
    assert "@here" not in make_group_text(hostile)
    assert "a.example" not in make_group_text(hostile)
