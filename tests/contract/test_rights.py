"""A submission may do only what its caller may do: on every engine, through the service."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from msgspec import Raw, structs

from tasker.builtin import builtin_registry
from tasker.engines.protocol import Engine
from tasker.errors import Forbidden, Invalid, RequestError
from tasker.model import Status, Task
from tasker.model.keys import ANYBODY, Caller, Scope
from tasker.model.schedules import Schedule
from tasker.rules.lifecycle import Succeeded
from tasker.service import Service, Submitted
from tasker.service.hub import Hub
from tasker.testing import Driver, ManualClock

MINUTE = timedelta(minutes=1)
SUM = '"type":"sum","params":[4,2]'
JOB = f'{{{SUM},"unique_key":"job"}}'
REPLACING = f'{{{SUM},"unique_key":"job","on_conflict":"replace"}}'


def of_alice(*scopes: Scope) -> Caller:
    return Caller("alice", "k", frozenset(scopes))


WEAK, STRONG, READER = of_alice("submit"), of_alice("submit", "control"), of_alice("submit", "read")
EVERYTHING = of_alice("submit", "read", "control")


class Desk:
    """A service on an engine, called as its interfaces call it."""

    def __init__(self, engine: Engine, clock: ManualClock) -> None:
        self.hub = Hub()
        engine.watch(self.hub.publish)
        self.registry = builtin_registry(None)
        self.service = Service(engine, self.registry, self.hub, clock, health=None)
        self.clock = clock

    async def submit(self, caller: Caller, body: str, **options: Any) -> Submitted:
        return await self.service.submissions.submit(caller, body.encode(), **options)

    async def replay(self, caller: Caller, task_id: UUID, body: str) -> Submitted:
        return await self.service.submissions.replay(caller, task_id, body.encode())

    async def schedule(self, caller: Caller, task: str = JOB, **fields: Any) -> Schedule:
        body = msgspec.json.encode({"name": "s", "task": Raw(task.encode()), "interval": MINUTE, **fields})
        return await self.service.schedules.create(caller, body)

    async def change(self, caller: Caller, schedule: Schedule, **fields: Any) -> Schedule:
        body = msgspec.json.encode({name: value for name, value in fields.items() if name != "type"})
        return (await self.service.schedules.change(caller, schedule.schedule_id, body)).schedule

    async def tick(self) -> None:
        self.clock.advance(MINUTE)
        await self.service.schedules.run_once()

    async def get(self, task_id: UUID) -> Task:
        return await self.service.tasks.get(ANYBODY, task_id)


@pytest.fixture
def desk(engine: Engine, clock: ManualClock) -> Desk:
    return Desk(engine, clock)


def task_of(text: str) -> dict[str, Any]:
    return {"task": Raw(text.encode()), "type": "sum"}


async def stored_before(desk: Desk, engine: Engine, schedule: Schedule, **fields: Any) -> Schedule:
    """Change a schedule to one that an earlier version, which did not check rights, could have stored."""
    before = structs.replace(schedule, scopes=("submit",), version=schedule.version + 1, **fields)
    assert await engine.schedules.update(before)
    return before


# what cancels another task needs the scope control


async def test_a_schedule_that_exceeds_its_makers_rights_is_refused(desk: Desk) -> None:
    for fields in ({"task": REPLACING}, {"overlap": "replace"}):
        with pytest.raises(Forbidden, match="control"):
            await desk.schedule(WEAK, **fields)
    weak = await desk.schedule(WEAK)
    for change in (task_of(REPLACING), {"overlap": "replace"}):
        with pytest.raises(Forbidden, match="control"):
            await desk.change(WEAK, weak, **change)
    assert await desk.service.schedules.get(WEAK, weak.schedule_id) == weak
    assert (await desk.schedule(STRONG, REPLACING, name="t")).scopes == ("submit", "control")
    assert (await desk.schedule(ANYBODY, REPLACING, overlap="replace")).scopes == ("submit", "read", "control", "admin")


async def test_a_tick_acts_with_the_rights_of_its_schedules_maker(desk: Desk) -> None:
    job = (await desk.submit(WEAK, JOB)).task
    await desk.schedule(STRONG, REPLACING)
    await desk.tick()
    assert (await desk.get(job.task_id)).status is Status.CANCELLED


@pytest.mark.parametrize("fields", [task_of(REPLACING), {"overlap": "replace"}])
async def test_a_tick_of_a_schedule_without_known_creator_cancels_nothing(
    desk: Desk, engine: Engine, fields: dict[str, Any]
) -> None:
    old = await desk.schedule(WEAK)
    await desk.tick()
    job = await desk.service.schedules.get(WEAK, old.schedule_id)
    assert job.last_task_id is not None
    await stored_before(desk, engine, job, **fields)
    for _ in range(2):
        await desk.tick()
    after = await desk.service.schedules.get(WEAK, old.schedule_id)
    assert after.last_skip is not None
    assert (after.last_skip.tick, after.last_skip.reason) == (desk.clock.now(), "refused")
    assert "the key lacks the scope control" in after.last_skip.detail
    assert (await desk.get(job.last_task_id)).status is Status.PENDING
    assert after.last_task_id == job.last_task_id, "nothing is submitted"
    await desk.change(STRONG, after, **fields)
    await desk.tick()
    assert (await desk.get(job.last_task_id)).status is Status.CANCELLED, "who may has answered for it"


async def test_schedules_made_without_keys_may_do_everything(desk: Desk, engine: Engine) -> None:
    old = await stored_before(desk, engine, await desk.schedule(ANYBODY, JOB), **task_of(REPLACING))
    job = (await desk.submit(ANYBODY, JOB)).task
    await desk.tick()
    assert (await desk.get(job.task_id)).status is Status.CANCELLED
    assert (await desk.service.schedules.get(ANYBODY, old.schedule_id)).last_skip is None


async def test_a_weaker_key_cannot_change_a_stronger_schedule(desk: Desk) -> None:
    strong = await desk.schedule(STRONG)
    for change in ({"paused": True}, {"interval": 2 * MINUTE}, task_of(JOB), {"name": "mine"}):
        with pytest.raises(Forbidden, match="the schedule was made with the scope control"):
            await desk.change(WEAK, strong, **change)
    weak = await desk.schedule(READER, name="weak")
    changed = await desk.change(WEAK, weak, paused=True)
    assert (changed.paused, changed.scopes) == (True, ("submit", "read")), "what it does is as before"
    assert (await desk.change(WEAK, changed, **task_of(JOB))).scopes == ("submit",), "and now it is the other key's"


async def test_a_schedule_acts_with_the_rights_of_its_last_changer(desk: Desk) -> None:
    weak = await desk.schedule(WEAK)
    resumed = await desk.change(EVERYTHING, weak, paused=True)
    assert resumed.scopes == ("submit",), "to pause it lends it nothing"
    changed = await desk.change(EVERYTHING, resumed, **task_of(REPLACING))
    assert changed.scopes == ("submit", "read", "control")
    with pytest.raises(Forbidden):
        await desk.change(WEAK, changed, paused=False)
    assert (await desk.change(STRONG, changed, paused=False)).scopes == ("submit", "read", "control")


async def test_a_trigger_acts_with_the_callers_rights(desk: Desk) -> None:
    job = (await desk.submit(WEAK, JOB)).task
    strong = await desk.schedule(STRONG, REPLACING)
    with pytest.raises(Forbidden, match="control"):
        await desk.service.submissions.trigger(WEAK, strong.schedule_id)
    assert (await desk.get(job.task_id)).status is Status.PENDING
    root = Caller("root", "r", frozenset[Scope](["admin"]))
    triggered = await desk.service.submissions.trigger(root, strong.schedule_id)
    assert triggered.task.owner == "alice"
    assert (await desk.get(job.task_id)).status is Status.CANCELLED


async def test_batches_replays_and_puts_check_rights_too(desk: Desk, engine: Engine, driver: Driver) -> None:
    """A batch, a replay, an id of the client's own: each is refused, and what it would cancel is open."""
    job = (await desk.submit(WEAK, JOB)).task
    submissions = desk.service.submissions
    batch = desk.service.batches.begin(WEAK, "key")
    wanted = [await batch.read(place, body.encode()) for place, body in enumerate((REPLACING, f"{{{SUM}}}"))]
    [refused, taken] = await batch.submit(wanted)
    assert isinstance(refused, Forbidden)
    assert not isinstance(taken, RequestError)
    with pytest.raises(Forbidden):
        await submissions.put(WEAK, UUID(int=7, version=4), REPLACING.encode())
    with pytest.raises(Forbidden):
        await desk.replay(WEAK, job.task_id, '{"unique_key":"job","on_conflict":"replace"}')
    assert (await desk.get(job.task_id)).status is Status.PENDING
    [replaced] = await submissions.submit_many(STRONG, wanted[:1], None)
    assert not isinstance(replaced, RequestError)
    assert (await desk.get(job.task_id)).status is Status.CANCELLED


# a webhook whose events need the scope read


@pytest.mark.parametrize("option", ['"unique_key":"job"', '"cache":60'])
async def test_a_webhook_gets_no_other_tasks_events_without_the_right(desk: Desk, driver: Driver, option: str) -> None:
    body = f"{{{SUM},{option}}}"
    mine, told = [f'{{{SUM},{option},"webhook":{{"url":"https://example.org/{name}"}}}}' for name in "ab"]
    first = (await desk.submit(WEAK, mine)).task
    assert first.webhook is not None, "of its own task it does"
    with pytest.raises(Forbidden, match="read"):
        await desk.submit(WEAK, told)
    with pytest.raises(Forbidden, match="read"):
        await desk.submit(WEAK, told, idempotency_key="k")
    assert (await desk.submit(WEAK, body, idempotency_key="k")).task.task_id == first.task_id, "the key is free"
    assert len(await driver.engine.webhooks.find_subscriptions([first.task_id])) == 1
    assert (await desk.submit(READER, told)).task.task_id == first.task_id
    assert len(await driver.engine.webhooks.find_subscriptions([first.task_id])) == 2


# unique keys are of one type


async def test_tasks_of_two_types_never_answer_for_each_other(desk: Desk, driver: Driver) -> None:
    reverse = '{"type":"reverse","params":["abc"],"unique_key":"job"}'
    first, other = await desk.submit(READER, JOB, idempotency_key="a"), await desk.submit(READER, reverse)
    assert first.task.task_id != other.task.task_id
    for body, mine in ((JOB, first), (reverse, other)):
        assert (await desk.submit(READER, body)).task.task_id == mine.task.task_id
        assert (await desk.submit(READER, body, idempotency_key="b" + body[9])).task.task_id == mine.task.task_id
    again = await desk.submit(READER, JOB, idempotency_key="a")
    assert (again.task.task_id, again.replayed) == (first.task.task_id, True)
    with pytest.raises(Invalid):
        await desk.submit(READER, reverse, idempotency_key="a")
    replayed = await desk.replay(READER, other.task.task_id, '{"unique_key":"job"}')
    assert replayed.task.task_id == other.task.task_id
    await driver.finish(await driver.claim_one(), Succeeded(b"6"))
    waited = await desk.service.following.wait(READER, first.task.task_id, timedelta(0))
    assert (waited.type, bytes(waited.result or b"")) == ("sum", b"6")
    assert (await desk.submit(READER, reverse)).task.task_id == other.task.task_id, "that one is open still"
    assert (await desk.submit(READER, JOB)).task.task_id != first.task.task_id
