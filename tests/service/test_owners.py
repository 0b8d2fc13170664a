"""Owners are walls: no use case with a caller shows, changes or counts what belongs to another owner.

Bob asks for what belongs to Alice. Every method of the service that takes a caller is a case here.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from tests.asking import park, question, start_children

from tasker.errors import NotFound
from tasker.model import TaskFilter
from tasker.model.keys import Caller, Scope
from tasker.model.queues import QueueChange
from tasker.model.stats import Figures
from tasker.model.steps import Forget
from tasker.rules.lifecycle import Failed, problem
from tasker.service import Selection, Service
from tasker.service.stats import Open
from tasker.tasktypes.registry import TaskType
from tasker.testing import Driver, ManualClock

SCOPES: tuple[Scope, ...] = ("submit", "read", "control")
ALICE, BOB = (Caller(owner=name, key_id=name, scopes=frozenset(SCOPES)) for name in ("alice", "bob"))
SOON = timedelta(seconds=0.01)
SUM = b'{"type":"add","params":[1]}'
HOURLY = b'{"name":"s","interval":3600,"task":{"type":"add","params":[1]}}'
ASKING = b'{"type":"add","params":[1],"queue":"asking"}'
UNIQUE = b'{"type":"add","params":[1],"unique_key":"u","tags":["t"],"group":"hers"}'


class Alices(NamedTuple):
    """Alice's: a failed and a pending task, a schedule, a webhook, a bulk action."""

    service: Service
    driver: Driver
    type: TaskType
    failed: UUID
    pending: UUID
    schedule: UUID
    webhook: UUID
    bulk: UUID


@pytest.fixture
async def alices(service: Service, driver: Driver, clock: ManualClock) -> Alices:
    type_ = service.registry.get("add")
    failed = (await service.submissions.submit(ALICE, SUM, idempotency_key="k")).task.task_id
    await driver.finish(await driver.claim_one(types=["add"]), Failed(problem("task-failed", "no")))
    pending = await service.submissions.submit(ALICE, UNIQUE)
    schedule = await service.schedules.create(ALICE, HOURLY)
    webhook = await service.webhooks.create(ALICE, {"url": "https://example.com/", "events": ("created",)})
    bulk = await service.bulk.start(ALICE, "retry", Selection(TaskFilter(types=("none",))))
    ids = pending.task.task_id, schedule.schedule_id, webhook.webhook_id, bulk.bulk_id
    return Alices(service, driver, type_, failed, *ids)


Ask = Callable[[Service, Alices], Awaitable[Any]]
MISSING: dict[str, Ask] = {
    "tasks.get": lambda s, a: s.tasks.get(BOB, a.failed),
    "tasks.check_owner": lambda s, a: s.tasks.check_owner(BOB, a.failed),
    "tasks.log": lambda s, a: s.tasks.log(BOB, a.failed),
    "tasks.attempts": lambda s, a: s.tasks.attempts(BOB, a.failed),
    "tasks.cancel": lambda s, a: s.tasks.cancel(BOB, a.pending),
    "tasks.retry": lambda s, a: s.tasks.retry(BOB, a.failed),
    "tasks.delete": lambda s, a: s.tasks.delete(BOB, a.failed),
    "steps.get": lambda s, a: s.steps.get(BOB, a.failed, "approve"),
    "steps.find": lambda s, a: s.steps.find(BOB, a.failed),
    "steps.question": lambda s, a: s.steps.question(BOB, a.failed),
    "steps.answer": lambda s, a: s.steps.answer(BOB, a.failed, "approve", b"1"),
    "following.wait": lambda s, a: s.following.wait(BOB, a.failed, SOON),
    "following.wait_for_change": lambda s, a: s.following.wait_for_change(BOB, a.failed, SOON, _never),
    "following.events": lambda s, a: s.following.events(BOB, a.failed),
    "following.follow": lambda s, a: anext(s.following.follow(BOB, a.failed)),
    "submissions.replay": lambda s, a: s.submissions.replay(BOB, a.failed, b""),
    "submissions.validate_replay": lambda s, a: s.submissions.validate_replay(BOB, a.failed, b""),
    "submissions.trigger": lambda s, a: s.submissions.trigger(BOB, a.schedule),
    "submissions.put": lambda s, a: s.submissions.put(BOB, a.failed, SUM),
    "schedules.next_ticks": lambda s, a: s.schedules.next_ticks(BOB, a.schedule, 1),
    "schedules.get": lambda s, a: s.schedules.get(BOB, a.schedule),
    "schedules.change": lambda s, a: s.schedules.change(BOB, a.schedule, b'{"paused":true}'),
    "schedules.delete": lambda s, a: s.schedules.delete(BOB, a.schedule),
    "schedules.template": lambda s, a: s.schedules.template(BOB, a.schedule),
    "bulk.get": lambda s, a: s.bulk.get(BOB, a.bulk),
    "bulk.stop": lambda s, a: s.bulk.stop(BOB, a.bulk),
    "bulk.undo": lambda s, a: s.bulk.undo(BOB, a.bulk),
    "groups.get": lambda s, a: s.groups.get(BOB, "hers", "alice"),
    "groups.wait": lambda s, a: s.groups.wait(BOB, "hers", None, SOON),
    "groups.cancel": lambda s, a: s.groups.cancel(BOB, "hers"),
    "webhooks.get": lambda s, a: s.webhooks.get(BOB, a.webhook),
    "webhooks.change": lambda s, a: s.webhooks.change(BOB, a.webhook, {"url": "https://bob.example.com/"}),
    "webhooks.rotate": lambda s, a: s.webhooks.rotate(BOB, a.webhook, None, SOON),
    "webhooks.delete": lambda s, a: s.webhooks.delete(BOB, a.webhook),
    "webhooks.deliveries": lambda s, a: s.webhooks.deliveries(BOB, a.webhook, status=None, limit=9),
    "webhooks.redeliver": lambda s, a: s.webhooks.redeliver(BOB, a.webhook, a.failed),
}
"""Calls that must raise NotFound."""


async def _never(_: Any) -> bool:
    return False


async def _find(s: Service, a: Alices) -> None:
    assert await s.tasks.find(BOB, a.failed) is None


async def _find_tasks(s: Service, a: Alices) -> None:
    for where in (TaskFilter(), TaskFilter(owner="alice"), TaskFilter(tag="t"), TaskFilter(types=("add",))):
        page = await s.tasks.find_many(BOB, where, limit=1)
        assert (page.items, page.next_cursor) == ([], None)


async def _count_tasks(s: Service, a: Alices) -> None:
    for where in (TaskFilter(), TaskFilter(owner="alice"), TaskFilter(types=("add", "no"))):
        assert await s.tasks.count(BOB, where) == (0, True)


async def _failures(s: Service, a: Alices) -> None:
    """Nor is her group found by its id, or by her task."""
    [hers] = (await s.failures.find_many(ALICE, limit=9)).items
    for more in ({}, {"owner": "alice"}, {"failure_id": hers.failure_id}):
        page = await s.failures.find_many(BOB, limit=1, **more)  # type: ignore[arg-type]
        assert (page.items, page.next_cursor) == ([], None)
    page_of_tasks = await s.tasks.find_many(BOB, TaskFilter(error=hers.failure_id), limit=1)
    assert page_of_tasks.items == []


async def _submit(s: Service, a: Alices) -> None:
    """Neither a key nor a unique key of hers is taken for him."""
    mine = await s.submissions.submit(BOB, UNIQUE, idempotency_key="k")
    assert not mine.replayed
    assert (mine.task.owner, mine.task.task_id in (a.failed, a.pending)) == ("bob", False)


async def _validate(s: Service, a: Alices) -> None:
    """Whether her task has the id or the unique key does not show."""
    await s.submissions.validate(BOB, UNIQUE, task_id=a.failed)


async def _submit_many(s: Service, a: Alices) -> None:
    [mine] = await s.submissions.submit_many(BOB, [await s.batches.begin(BOB, None).read(0, UNIQUE)], "k")
    assert getattr(mine, "task_id", None) not in (None, a.pending)


async def _begin(s: Service, a: Alices) -> None:
    """Her batch with the same key is not his."""
    theirs, mine = s.batches.begin(ALICE, "k"), s.batches.begin(BOB, "k")
    theirs.end()
    mine.end()


async def _count(s: Service, a: Alices) -> None:
    for where in (TaskFilter(), TaskFilter(owner="alice")):
        assert (await s.bulk.count(BOB, "cancel", Selection(where))).matched == 0
    assert (await s.bulk.count(BOB, "cancel", Selection(task_ids=(a.failed, a.pending)))).matched == 0


async def _act(s: Service, a: Alices) -> None:
    for where in (TaskFilter(), TaskFilter(owner="alice")):
        assert (await s.bulk.start(BOB, "delete", Selection(where))).done == 0
    assert (await s.bulk.start(BOB, "delete", Selection(task_ids=(a.failed, a.pending)))).done == 0
    cursor = (await s.bulk._cursors.of("bulk")).close((await s.bulk._control.count(TaskFilter())).cursor or "")
    assert (await s.bulk.start(BOB, "delete", Selection(), cursor=cursor)).done == 0


async def _preview(s: Service, a: Alices) -> None:
    for chosen in (Selection(), Selection(TaskFilter(owner="alice")), Selection(task_ids=(a.failed, a.pending))):
        shown = await s.bulk.preview(BOB, "delete", chosen)
        assert (shown.matched, shown.newest) == (0, [])


async def _bulks(s: Service, a: Alices) -> None:
    page = await s.bulk.find_many(BOB, limit=1)
    assert (page.items, page.next_cursor) == ([], None)


async def _groups(s: Service, a: Alices) -> None:
    for owner in (None, "alice"):
        page = await s.groups.find_many(BOB, owner=owner, limit=1)
        assert (page.items, page.next_cursor) == ([], None)
    assert [group.name for group in (await s.groups.find_many(ALICE, limit=9)).items] == ["hers"]


async def _change_queue(s: Service, a: Alices) -> None:
    """An admin's alone; it changes no task."""
    assert (await s.queues.change(BOB, "q", QueueChange(paused=True))).paused


async def _schedules(s: Service, a: Alices) -> None:
    page = await s.schedules.find_many(BOB, limit=1)
    assert (page.items, page.next_cursor) == ([], None)


async def _create_schedule(s: Service, a: Alices) -> None:
    """Her names are free."""
    assert (await s.schedules.create(BOB, HOURLY)).owner == "bob"


async def _asking(a: Alices) -> UUID:
    """Let a task of hers start a child and ask a question."""
    asking = (await a.service.submissions.submit(ALICE, ASKING)).task.task_id
    [claim], now = await a.driver.claim(types=["add"], queues=["asking"]), a.driver.clock.now()
    await start_children(a.driver.engine, claim, now, 1)
    await park(a.driver, claim, question(now))
    return asking


async def _children(s: Service, a: Alices) -> None:
    asking = await _asking(a)
    assert await s.steps.children(BOB, asking) == []
    assert [child.parent_id for child in await s.steps.children(ALICE, asking)] == [asking]


async def _questions(s: Service, a: Alices) -> None:
    asking = await _asking(a)
    assert await s.steps.questions(BOB, limit=9) == []
    assert [one.task_id for one in await s.steps.questions(ALICE, limit=9)] == [asking]
    for ask in (
        s.steps.find(BOB, asking),
        s.steps.question(BOB, asking),
        s.steps.answer(BOB, asking, "approve", b'"yes"'),
        s.tasks.retry(BOB, asking, Forget(names=("approve",))),
    ):
        with pytest.raises(NotFound):
            await ask


async def _webhooks(s: Service, a: Alices) -> None:
    page = await s.webhooks.find_many(BOB, limit=1)
    assert (page.items, page.next_cursor) == ([], None)


async def _create_webhook(s: Service, a: Alices) -> None:
    made = await s.webhooks.create(BOB, {"url": "https://example.com/", "events": ("created",)})
    assert (made.owner, made.all_owners) == ("bob", False)


async def _usage(s: Service, a: Alices) -> None:
    assert (await s.usage.find(BOB, group=("owner",))).rows == []
    assert (await s.usage.find(BOB, group=(), owner="alice")).total.attempts == 0


async def _statistics(s: Service, a: Alices) -> None:
    for asked in ({}, {"owner": "alice"}, {"owner": "alice", "queue": "numbers", "group": "queue"}):
        told = await s.stats.find(BOB, **asked)  # type: ignore[arg-type]
        assert (told.whole.total, told.whole.open, told.groups) == (Figures(), Open(), [])
    assert (await s.stats.find(ALICE)).whole.open.pending == 1


async def _explain(s: Service, a: Alices) -> None:
    mine = await s.submissions.submit(BOB, SUM)
    told = await s.waiting.explain(BOB, mine.task)
    assert (told.queue_position, told.estimated_start_at) == (1, None)


async def _reasons(s: Service, a: Alices) -> None:
    mine = await s.submissions.submit(BOB, SUM)
    assert [task.reason for task in await s.waiting.with_reasons(BOB, [mine.task])] == ["queued"]


async def _ask_again(s: Service, a: Alices) -> None:
    mine = await s.submissions.submit(BOB, SUM)
    s.waiting._history.note("add", timedelta(hours=1))
    assert await s.waiting.ask_again(BOB, mine.task) == timedelta(seconds=1)


async def _ask_again_at_first(s: Service, a: Alices) -> None:
    mine = await s.submissions.submit(BOB, SUM)
    s.waiting._history.note("add", timedelta(hours=1))
    assert s.waiting.ask_again_at_first(BOB, mine.task) == timedelta(seconds=1)
    assert s.waiting.ask_again_in_line(BOB, mine.task.type) == timedelta(seconds=1)


async def _stats(s: Service, a: Alices) -> None:
    assert await s.queues.stats(BOB) == []
    assert [line.pending for line in await s.queues.stats(ALICE)] == [1]


async def _queue_names(s: Service, a: Alices) -> None:
    assert await s.queues.find_names(BOB, after=None, limit=9) == []
    assert await s.queues.find_names(ALICE, after=None, limit=9) == ["numbers"]


async def _budget(s: Service, a: Alices) -> None:
    """What she has spent does not count for him."""
    assert await s.budgets.of(BOB) is None
    await s.budgets.check(BOB, a.type)


async def _workers(s: Service, a: Alices) -> None:
    assert all(one.owner == "bob" for state in await s.workers.find_all(BOB) for one in state.running)


async def _shows_load(s: Service, a: Alices) -> None:
    assert not s.queues.shows_load(BOB)


OTHERS: dict[str, Ask] = {
    "steps.children": _children,
    "steps.questions": _questions,
    "tasks.find": _find,
    "tasks.find_many": _find_tasks,
    "tasks.count": _count_tasks,
    "failures.find_many": _failures,
    "submissions.submit": _submit,
    "submissions.validate": _validate,
    "submissions.submit_many": _submit_many,
    "batches.begin": _begin,
    "bulk.count": _count,
    "bulk.start": _act,
    "bulk.preview": _preview,
    "bulk.find_many": _bulks,
    "groups.find_many": _groups,
    "queues.change": _change_queue,
    "schedules.find_many": _schedules,
    "schedules.create": _create_schedule,
    "webhooks.find_many": _webhooks,
    "webhooks.create": _create_webhook,
    "usage.find": _usage,
    "stats.find": _statistics,
    "waiting.explain": _explain,
    "waiting.with_reasons": _reasons,
    "waiting.ask_again": _ask_again,
    "waiting.ask_again_at_first": _ask_again_at_first,
    "waiting.ask_again_in_line": _ask_again_at_first,
    "queues.stats": _stats,
    "queues.find_names": _queue_names,
    "budgets.check": _budget,
    "budgets.of": _budget,
    "budgets.bound": _submit,
    "workers.find_all": _workers,
    "queues.shows_load": _shows_load,
}
"""Calls that must show, count or create only what is his own."""


def methods(service: Service) -> set[str]:
    """Return every method of the use cases that takes a caller."""
    parts = {"service": service} | {name: part for name, part in vars(service).items() if not name.startswith("_")}
    return {
        f"{name}.{method}"
        for name, part in parts.items()
        if type(part).__module__.startswith("tasker.service")
        for method, work in inspect.getmembers(part, inspect.ismethod)
        if not method.startswith("_") and "caller" in inspect.signature(work).parameters
    }


def test_every_use_case_with_a_caller_is_here(service: Service) -> None:
    assert not MISSING.keys() & OTHERS.keys()
    assert MISSING.keys() | OTHERS.keys() == methods(service)


@pytest.mark.parametrize("name", MISSING)
async def test_what_belongs_to_another_owner_does_not_exist(alices: Alices, name: str) -> None:
    service = alices.service
    before = [await service.tasks.get(ALICE, one) for one in (alices.failed, alices.pending)]
    with pytest.raises(NotFound):
        await MISSING[name](service, alices)
    assert [await service.tasks.get(ALICE, one) for one in (alices.failed, alices.pending)] == before
    assert (await service.schedules.get(ALICE, alices.schedule)).version == 1
    assert (await service.webhooks.get(ALICE, alices.webhook)).url == "https://example.com/"


@pytest.mark.parametrize("name", OTHERS)
async def test_what_belongs_to_another_owner_is_not_shown_counted_or_in_the_way(alices: Alices, name: str) -> None:
    await OTHERS[name](alices.service, alices)
    assert (await alices.service.tasks.get(ALICE, alices.pending)).status == "pending"
    assert (await alices.service.tasks.get(ALICE, alices.failed)).status == "failed"
