"""Owners are isolated: for every method of the engine, another owner's data does not appear, count or interfere.

Ada calls, in a store full of Eve's data. Each method has a case here, or a reason why owners do not matter for it.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, get_args, get_type_hints

import pytest
from msgspec import structs
from tests.contract.bulk import make_bulk
from tests.contract.steps import new_question, put
from tests.contract.test_schedules import make_firing, make_schedule
from tests.contract.test_usage import EVER
from tests.contract.test_workers import info
from tests.contract.webhooks import make_webhook

from tasker.engines import protocol as protocols
from tasker.engines.protocol import Engine
from tasker.errors import Conflict
from tasker.model import AfterGroup, Claim, Draft, Extra, Receipt, Report, Status, TaskFilter
from tasker.model.failures import FailureFilter
from tasker.model.queues import QueueChange
from tasker.model.stats import WINDOWS, StatsFilter
from tasker.rules.failures import fingerprint
from tasker.rules.lifecycle import Failed, Succeeded, problem
from tasker.testing import START, Driver, ManualClock, make_draft
from tasker.webhooks.matching import find_deliveries

MINUTE = timedelta(minutes=1)
DONE = Succeeded(b"6")


class Walls:
    """An engine with Eve's tasks in it, all in queue q: one that has completed, one that runs, three that wait."""

    def __init__(self, engine: Engine, clock: ManualClock) -> None:
        self.engine = engine
        self.clock = clock
        self.driver = Driver(engine, clock)

    def draft(self, owner: str, **fields: Any) -> Draft:
        return structs.replace(make_draft(self.clock.now(), queue="q"), owner=owner, **fields)

    async def submit(self, owner: str, **fields: Any) -> Receipt:
        [receipt] = await self.engine.submit([self.draft(owner, **fields)])
        return receipt

    async def claim(self, limit: int = 9) -> list[Claim]:
        claims = await self.driver.claim(limit)
        self.clock.advance(timedelta(milliseconds=1))
        return claims

    async def fill(self) -> None:
        for _ in range(5):
            await self.submit("eve", tags=("t",), concurrency_key="k")
        first, _ = await self.claim(2)
        usage = b'{"input_tokens": 7, "cost": 0.5}'
        assert await self.driver.finish(first, DONE, Report(usage=usage))


Case = Callable[[Walls], Awaitable[None]]
CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Case], Case]:
    """Register the test that a method, `store.method`, keeps owners apart."""

    def note(test: Case) -> Case:
        assert name not in CASES
        CASES[name] = test
        return test

    return note


BY_ID = "by an id whose owner the service asks for first"
WHOLE = "a chore, or an admin's, of everything"
LEASE = "by a lease, which one worker has"
NO_OWNER = "about nothing that belongs to anybody"
BLIND = {
    **dict.fromkeys(("engine.close", "engine.check", "engine.watch", "peers.follow_clock", "lead.hold",
                     "lead.give_up"), NO_OWNER),
    **dict.fromkeys(("engine.find_attempts", "engine.find_events", "engine.find_log", "engine.cancel", "engine.retry",
                     "engine.delete", "peers.follow_task", "secrets.find", "secrets.erase", "control.find_draft",
                     "bulk.create", "bulk.find", "bulk.find_tasks", "bulk.step", "bulk.hold", "bulk.stop",
                     "schedules.delete", "webhooks.change", "webhooks.delete",
                     "steps.find", "steps.find_last", "steps.find_some", "steps.find_children", "steps.answer",
                     "webhooks.find_deliveries", "webhooks.redeliver", "queues.find_run_time", "inbox.find"), BY_ID),
    **dict.fromkeys(("engine.heartbeat", "engine.record", "engine.complete", "steps.start_children",
                     "steps.run_children_again", "steps.close_question"), LEASE),
    **dict.fromkeys(("engine.find_expired", "engine.fail_overdue", "engine.prune", "engine.sweep", "secrets.find_ended",
                     "stats.fold", "stats.prune",
                     "audit.begin", "audit.end", "audit.find_many", "audit.prune", "archive.read", "archive.put",
                     "archive.find_many", "archive.find_erased", "archive.put_records", "archive.find_records",
                     "keys.version", "keys.add", "keys.find_all", "keys.revoke", "keys.record_uses",
                     "schedules.find_due", "webhooks.find_position", "webhooks.dispatch", "webhooks.find_due",
                     "webhooks.take", "webhooks.settle", "webhooks.drop", "webhooks.prune", "journal.prune",
                     "queues.find_names", "bulk.find_free", "bulk.prune", "inbox.find_many", "inbox.take_in",
                     "inbox.watching"), WHOLE),
    **dict.fromkeys(("workers.announce", "workers.withdraw", "workers.publish", "workers.find_types",
                     "queues.find_all", "keys.cursor_secret", "journal.tail"), NO_OWNER),
}  # fmt: skip
"""Every other method, and why owners do not matter for it."""


def methods() -> set[str]:
    """Return every method of the engine and its stores, as `store.method`."""
    hints = get_type_hints(Engine, vars(protocols)).items()
    possible = {name: [one for one in (kind, *get_args(kind)) if inspect.isclass(one)] for name, kind in hints}
    books = {"engine": Engine} | {name: kinds[0] for name, kinds in possible.items() if kinds}
    return {
        f"{name}.{method}"
        for name, kind in books.items()
        for method, _ in inspect.getmembers(kind, inspect.isfunction)
        if not method.startswith("_")
    }


def test_every_method_is_a_case_or_has_nothing_to_do_with_owners() -> None:
    assert not CASES.keys() & BLIND.keys()
    assert CASES.keys() | BLIND.keys() == methods()


@case("engine.submit")
async def _(walls: Walls) -> None:
    """Neither joined, nor refused, nor replaced, nor waited for."""
    theirs = await walls.submit("eve", unique_key="u", on_conflict="return")
    for on_conflict in ("return", "reject", "replace"):
        mine = await walls.submit("ada", unique_key=f"{on_conflict}", on_conflict=on_conflict)
        assert mine.outcome == "stored"
    mine = await walls.submit("ada", unique_key="u", on_conflict="replace")
    assert (mine.outcome, (await walls.driver.get(theirs.task_id)).status) == ("stored", Status.PENDING)
    asked = (theirs.task_id, walls.draft("ada").task_id)
    refused = [await walls.submit("ada", extra=Extra(depends_on=(task_id,))) for task_id in asked]
    assert [one.outcome for one in refused] == ["refused", "refused"]
    told = [
        repr(one.refusal and one.refusal.faults).replace(str(given), "")
        for one, given in zip(refused, asked, strict=True)
    ]
    assert told[0] == told[1], "as one that never was"


@case("engine.find")
async def _(walls: Walls) -> None:
    """The engine returns the owner; the service filters by it."""
    theirs = await walls.submit("eve")
    assert (await walls.driver.get(theirs.task_id)).owner == "eve"


@case("engine.count")
async def _(walls: Walls) -> None:
    await walls.submit("ada", tags=("t",))
    for more in ({}, {"tag": "t"}, {"queues": ("q", "r")}, {"types": ("sum", "no")}, {"text": "4"}):
        assert await walls.engine.count(TaskFilter(owner="ada", **more)) == (1, True)  # type: ignore[arg-type]


@case("failures.find_many")
async def _(walls: Walls) -> None:
    error = problem("task-failed", "no")
    for owner in ("eve", "ada"):
        await walls.submit(owner, type="bad")
        [claim] = await walls.driver.claim(types=["bad"])
        assert await walls.driver.finish(claim, Failed(error))
    [group] = (await walls.engine.failures.find_many(FailureFilter(since=START, owner="ada"), limit=9)).items
    assert (group.owner, group.count, group.sample is None) == ("ada", 1, False)
    of_eve = fingerprint("eve", "bad", error).failure_id
    assert (await walls.engine.find_many(TaskFilter(owner="ada", error=of_eve), limit=9)).items == []
    other = FailureFilter(since=START, owner="ada", failure_id=of_eve)
    assert (await walls.engine.failures.find_many(other, limit=9)).items == []


@case("engine.find_many")
async def _(walls: Walls) -> None:
    mine = await walls.submit("ada", tags=("t",))
    for more in ({}, {"tag": "t"}, {"queues": ("q",)}, {"types": ("sum",)}, {"status": (Status.PENDING,)}):
        where = TaskFilter(owner="ada", **more)  # type: ignore[arg-type]
        page = await walls.engine.find_many(where, limit=1)
        assert ([task.task_id for task in page.items], page.next_cursor) == ([mine.task_id], None)


@case("groups.find")
async def _(walls: Walls) -> None:
    """Groups of one name are the owners' own; nor does a task wait for another owner's group."""
    for owner in ("eve", "ada", "eve"):
        await walls.submit(owner, extra=Extra(group="g"))
    await walls.submit("eve", extra=Extra(group="hers"))
    mine = await walls.engine.groups.find("ada", "g")
    assert mine is not None
    assert (mine.owner, mine.tasks.pending) == ("ada", 1)
    refused = await walls.submit("ada", extra=Extra(depends_on_group=AfterGroup("hers")))
    assert refused.outcome == "refused"


@case("groups.find_many")
async def _(walls: Walls) -> None:
    for owner in ("eve", "ada"):
        await walls.submit(owner, extra=Extra(group="g"))
    page = await walls.engine.groups.find_many(owner="ada", limit=1)
    assert ([group.owner for group in page.items], page.next_cursor) == (["ada"], None)


@case("bulk.find_many")
async def _(walls: Walls) -> None:
    """Nor is an action on all owners' tasks that an admin of hers has made."""
    mine = make_bulk("cancel", owner="ada", tasks_of="ada")
    for bulk in (mine, make_bulk("cancel", owner="eve", tasks_of="eve"), make_bulk("cancel", owner="ada")):
        await walls.engine.bulk.create(bulk)
    page = await walls.engine.bulk.find_many(owner="ada", limit=1)
    assert (page.items, page.next_cursor) == ([mine], None)


@case("engine.claim")
async def _(walls: Walls) -> None:
    """No key of one owner keeps another's task waiting."""
    await walls.engine.queues.change("q", QueueChange(concurrency_per_key=1))
    mine = await walls.submit("ada", concurrency_key="k")
    assert [claim.task_id for claim in await walls.claim()] == [mine.task_id]


@case("stats.open_counts")
async def _(walls: Walls) -> None:
    assert await walls.engine.stats.open_counts("ada") == []
    await walls.submit("ada")
    [line] = await walls.engine.stats.open_counts("ada")
    assert (line.pending, line.running, line.oldest_due_at) == (1, 0, walls.clock.now())
    [theirs] = await walls.engine.stats.open_counts("eve")
    [everybodys] = await walls.engine.stats.open_counts()
    assert (theirs.pending, theirs.running) == (3, 1)
    assert (everybodys.pending, everybodys.running) == (4, 1)


@case("stats.window")
async def _(walls: Walls) -> None:
    where = StatsFilter(span=WINDOWS["1h"], now=walls.clock.now(), owner="ada", group="queue")
    for _ in range(2):
        assert await walls.engine.stats.window(where) == []
        [theirs] = await walls.engine.stats.window(structs.replace(where, owner="eve"))
        assert (theirs.name, theirs.figures.submitted, theirs.figures.completed) == ("q", 5, 1)
        assert await walls.engine.stats.window(structs.replace(where, owner=None)) == [theirs]
        await walls.engine.stats.fold(limit=100)


@case("workers.find_all")
async def _(walls: Walls) -> None:
    """The engine returns the owners of the running tasks; the service filters by them."""
    await walls.engine.workers.announce(info(walls.driver.worker, walls.clock))
    [state] = await walls.engine.workers.find_all()
    assert [one.owner for one in state.running] == ["eve"]


@case("tombstones.find")
async def _(walls: Walls) -> None:
    """The engine returns the owner; the service filters by it."""
    theirs = await walls.submit("eve", retention=MINUTE)
    await walls.engine.cancel(theirs.task_id)
    walls.clock.advance(2 * MINUTE)
    tombstone = await walls.engine.tombstones.find(theirs.task_id)
    assert tombstone is not None
    assert tombstone.owner == "eve"


@case("control.count")
async def _(walls: Walls) -> None:
    where = TaskFilter(owner="ada", status=(Status.PENDING,))
    assert (await walls.engine.control.count(where)).count == 0
    await walls.submit("ada")
    assert (await walls.engine.control.count(where)).count == 1


@case("control.choose")
async def _(walls: Walls) -> None:
    mine = await walls.submit("ada")
    await walls.submit("eve")
    chosen = await walls.engine.control.choose(TaskFilter(owner="ada"), limit=1, cursor=None)
    assert ([one.task_id for one in chosen.tasks], chosen.next_cursor) == ([mine.task_id], None)


@case("queues.find_place")
async def _(walls: Walls) -> None:
    first, second = await walls.submit("ada"), await walls.submit("ada")
    most = await walls.submit("ada", priority=5)
    found = [await walls.engine.queues.find_place(one.task_id, "ada") for one in (most, first, second)]
    assert [place and place.before for place in found] == [0, 1, 2]
    whole = await walls.engine.queues.find_place(second.task_id)
    assert whole is not None
    assert whole.before == 5


@case("queues.find_open")
async def _open_queues(walls: Walls) -> None:
    assert await walls.engine.queues.find_open("ada") == []
    assert await walls.engine.queues.find_open("eve") == ["q"]


@case("queues.change")
async def _(walls: Walls) -> None:
    """Owners share a key where it is asked for, and at no other time."""
    settings = await walls.engine.queues.change("q", QueueChange(concurrency_per_key=1))
    assert not settings.shared_keys
    mine = await walls.submit("ada", concurrency_key="k")
    settings = await walls.engine.queues.change("q", QueueChange(shared_keys=True))
    assert settings.shared_keys
    assert await walls.claim() == []
    await walls.engine.queues.change("q", QueueChange(shared_keys=False))
    assert [claim.task_id for claim in await walls.claim()] == [mine.task_id]


@case("schedules.create")
async def _(walls: Walls) -> None:
    """A name is its owner's."""
    for owner in ("eve", "ada"):
        await walls.engine.schedules.create(make_schedule(walls.clock.now(), owner=owner, name="s"))
    with pytest.raises(Conflict):
        await walls.engine.schedules.create(make_schedule(walls.clock.now(), owner="ada", name="s"))


@case("schedules.find")
async def _(walls: Walls) -> None:
    """The engine returns the owner; the service filters by it."""
    theirs = make_schedule(walls.clock.now(), owner="eve")
    await walls.engine.schedules.create(theirs)
    assert await walls.engine.schedules.find(theirs.schedule_id) == theirs


@case("schedules.find_many")
async def _(walls: Walls) -> None:
    mine, *_ = made = [make_schedule(walls.clock.now(), owner=owner, name="s") for owner in ("ada", "eve")]
    for schedule in made:
        await walls.engine.schedules.create(schedule)
    for name in (None, "s"):
        page = await walls.engine.schedules.find_many(owner="ada", name=name, limit=1)
        assert (page.items, page.next_cursor) == ([mine], None)


@case("schedules.update")
async def _(walls: Walls) -> None:
    await walls.engine.schedules.create(make_schedule(walls.clock.now(), owner="eve", name="s"))
    mine = make_schedule(walls.clock.now(), owner="ada", name="mine")
    await walls.engine.schedules.create(mine)
    assert await walls.engine.schedules.update(structs.replace(mine, name="s", version=2))


@case("schedules.fire")
async def _(walls: Walls) -> None:
    """Another owner's open task of the same unique key neither answers for a tick nor is replaced by it."""
    theirs = await walls.submit("eve", unique_key="u")
    schedule = make_schedule(walls.clock.now(), owner="ada")
    await walls.engine.schedules.create(schedule)
    walls.clock.advance(MINUTE)
    firing = make_firing(schedule, walls.clock.now())
    own = [structs.replace(one, owner="ada", unique_key="u", on_conflict="replace") for one in firing.drafts]
    fired = await walls.engine.schedules.fire(structs.replace(firing, drafts=tuple(own)))
    assert fired is not None
    assert (await walls.driver.get(own[0].task_id)).owner == "ada"
    assert (await walls.driver.get(theirs.task_id)).status is Status.PENDING


@case("schedules.trigger")
async def _(walls: Walls) -> None:
    await walls.submit("eve", unique_key="u")
    schedule = make_schedule(walls.clock.now(), owner="ada")
    await walls.engine.schedules.create(schedule)
    draft = walls.draft("ada", unique_key="u", on_conflict="reject")
    assert (await walls.engine.schedules.trigger(schedule.schedule_id, draft)).outcome == "stored"


@case("steps.find_family")
async def _(walls: Walls) -> None:
    """The engine returns the owner, whom children get from their parent."""
    theirs = await walls.submit("eve")
    family = await walls.engine.steps.find_family(theirs.task_id)
    assert family is not None
    assert family.owner == "eve"


@case("steps.find_questions")
async def _(walls: Walls) -> None:
    mine = await walls.submit("ada", priority=9)
    await walls.submit("eve", priority=9)
    for claim in await walls.claim(2):
        await put(walls.engine, claim, new_question(walls.clock.now()))
    own = await walls.engine.steps.find_questions(owner="ada", limit=9)
    assert [question.task_id for question in own] == [mine.task_id]
    everybodys = await walls.engine.steps.find_questions(limit=9)
    assert [question.owner for question in everybodys] == ["ada", "eve"]


@case("usage.find_many")
async def _(walls: Walls) -> None:
    for groups in ((), ("owner",), ("day", "type")):
        assert await walls.engine.usage.find_many(structs.replace(EVER, owner="ada"), group=groups, limit=9) == []
    [theirs] = await walls.engine.usage.find_many(structs.replace(EVER, owner="eve"), group=(), limit=9)
    assert theirs.input_tokens == 7


@case("usage.spent_today")
async def _(walls: Walls) -> None:
    assert await walls.engine.usage.spent_today("ada") == 0
    assert await walls.engine.usage.spent_today("eve") == 500_000_000


@case("webhooks.create")
async def _(walls: Walls) -> None:
    """One owner's webhooks do not count towards another's limit."""
    await walls.engine.webhooks.create(make_webhook(walls.clock.now(), owner="eve"), most=1)
    await walls.engine.webhooks.create(make_webhook(walls.clock.now(), owner="ada"), most=1)


@case("webhooks.find")
async def _(walls: Walls) -> None:
    """The engine returns the owner; the service filters by it."""
    theirs = make_webhook(walls.clock.now(), owner="eve")
    await walls.engine.webhooks.create(theirs, most=9)
    assert await walls.engine.webhooks.find(theirs.webhook_id) == theirs


@case("webhooks.find_many")
async def _(walls: Walls) -> None:
    fields: list[dict[str, Any]] = [
        {"owner": "ada"}, {"owner": "eve"}, {"owner": "ada", "all_owners": True}, {"owner": ""},
    ]  # fmt: skip
    mine, *_ = made = [make_webhook(walls.clock.now(), **one) for one in fields]
    for webhook in made:
        await walls.engine.webhooks.create(webhook, most=9)
    page = await walls.engine.webhooks.find_many(owner="ada", limit=1)
    assert (page.items, page.next_cursor) == ([mine], None)


@case("webhooks.find_subscriptions")
async def _(walls: Walls) -> None:
    """Only a webhook of all owners gets another owner's events; one without an owner gets those without an owner."""
    fields: list[dict[str, Any]] = [
        {"owner": "ada"}, {"owner": ""}, {"owner": "eve"}, {"owner": "ada", "all_owners": True},
    ]  # fmt: skip
    made = [make_webhook(walls.clock.now(), events=("created",), **one) for one in fields]
    for webhook in made:
        await walls.engine.webhooks.create(webhook, most=9)
    tail = await walls.engine.journal.tail()
    for owner in ("eve", "ada", ""):
        await walls.submit(owner)
    page = await walls.engine.journal.read(tail)
    hearing = await walls.engine.webhooks.find_subscriptions({entry.event.task_id for entry in page.entries})
    [(found, _)] = find_deliveries(hearing, page, walls.clock.now(), at_once=100)
    owners = {entry.event.task_id: entry.owner for entry in page.entries}
    names = {webhook.webhook_id: place for place, webhook in enumerate(made)}
    told = sorted((names[one.webhook_id], owners[one.task_id]) for one in found)
    assert told == [(0, "ada"), (1, ""), (2, "eve"), (3, ""), (3, "ada"), (3, "eve")]


@case("journal.read")
async def _(walls: Walls) -> None:
    """The engine returns the owner with each event; the service filters by it."""
    page = await walls.engine.journal.read()
    assert {entry.owner for entry in page.entries} == {"eve"}


@pytest.mark.parametrize("name", sorted(CASES))
async def test_another_owners_is_not_there(engine: Engine, clock: ManualClock, name: str) -> None:
    walls = Walls(engine, clock)
    await walls.fill()
    await CASES[name](walls)
