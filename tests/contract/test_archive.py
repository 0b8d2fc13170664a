"""Engine.archive and archive.files: everything stored goes from any engine to any other, and is the same there."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from random import Random
from uuid import UUID

import msgspec
import pytest
from msgspec import structs
from tests.contract.conftest import MakeEngine
from tests.contract.engines import ENGINES
from tests.contract.test_schedules import fire_all, make_schedule
from tests.contract.webhooks import make_webhook
from tests.webhooks.rig import Receivers
from tests.webhooks.rig import Rig as Couriers

from tasker.archive import files as archive
from tasker.engines.protocol import Engine
from tasker.engines.shared.tables import SCHEDULES, WEBHOOKS, read_records
from tasker.errors import ArchiveError, Conflict
from tasker.model import NewEvent, Progress, Report, RetryPolicy, Status, TaskFilter
from tasker.model.archive import StoredRecord
from tasker.model.queues import QueueChange
from tasker.model.usage import EVER, GROUPS, NANOS
from tasker.model.webhooks import WebhookSecret
from tasker.rules.lifecycle import MAX_INTERRUPTIONS, Crashed, Failed, Interrupted, Snoozed, Succeeded, decide, problem
from tasker.rules.signing import new_secret
from tasker.service.keys import Keys, NewKey
from tasker.testing import START, Driver, ManualClock, make_draft, make_key
from tasker.webhooks.matching import find_deliveries

SECOND = timedelta(seconds=1)
USAGE_ROWS = 6
"""Number of types of `fill` that have usage."""
ODD = b'{"a": [-0, 1e2, 1.10, 123456789012345678901234567890], "\\u0001\xc3\xa9\xf0\x9f\x91\xa8": "\\r\\n\\u2028"}'


@pytest.fixture(params=sorted(ENGINES))
async def source(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Engine]:
    async with ENGINES[request.param](tmp_path / "source", clock) as engine:
        yield engine


async def fill(engine: Engine, clock: ManualClock) -> dict[str, UUID]:
    """Store a task in each stage of life; return their ids, in order of submission."""
    driver, ids = Driver(engine, clock), {}

    async def submit(name: str, **more: object) -> None:
        clock.advance(SECOND)
        ids[name] = await driver.submit(make_draft(clock.now(), type=name, **more))  # type: ignore[arg-type]

    failing = Failed(problem("task-raised", "no", retryable=True))
    await submit("plain")
    await submit("odd", params=ODD, metadata=ODD, tags=("b", "a", "é"), idempotency=make_key(clock.now(), reply=b""))
    await submit("failed")
    await submit("retrying", retry=RetryPolicy(max_attempts=5, initial=timedelta(hours=1), jitter=False))
    await submit("running", priority=-7, retry=RetryPolicy(max_attempts=3))
    await submit("later", delay=timedelta(days=30), queue="q.2")
    await submit("cancelled")
    await submit("waiting")
    await submit("stopping")
    await submit("suspect", priority=2_000_000_000)
    await submit("crashing")
    said = NewEvent(type="output", time=clock.now(), data=b'{"chunk":"Once \\u0000"}')
    report = Report(events=(said, said), progress=Progress(fraction=0.5), usage=b'{"output_tokens":1e2}')
    await driver.finish(await driver.claim_one(types=("odd",)), Succeeded(ODD), report)
    await driver.finish(await driver.claim_one(types=("failed",)), failing)
    claim = await driver.claim_one(types=("retrying",))
    await engine.record(claim.lease, report)
    await driver.finish(claim, failing)
    await driver.finish(await driver.claim_one(types=("running",)), Snoozed(timedelta(0)))
    claim = await driver.claim_one(types=("running",))
    await engine.record(claim.lease, report)
    await engine.cancel(ids["cancelled"])
    await driver.claim_one(types=("stopping",))
    await engine.cancel(ids["stopping"])
    for _ in range(MAX_INTERRUPTIONS):
        await driver.finish(await driver.claim_one(types=("suspect",)), Interrupted())
    claim = await driver.claim_one(types=("crashing",))
    crashed = decide(Crashed("killed"), claim, clock.now(), Random(0))
    await engine.complete(claim.lease, msgspec.structs.replace(crashed, peak_memory=1 << 33))
    return ids


async def exported(engine: Engine) -> bytes:
    return b"".join([line async for line in archive.write(engine.archive)])


async def imported(engine: Engine, text: bytes) -> archive.Imported:
    return await archive.read(engine.archive, text.splitlines(keepends=True))


async def test_everything_is_the_same_on_the_other_side(
    source: Engine, engine: Engine, make_engine: MakeEngine, clock: ManualClock
) -> None:
    ids = await fill(source, clock)
    text = await exported(source)
    assert (await imported(engine, text)) == archive.Imported(len(ids), 0, 0, records=USAGE_ROWS)
    assert await exported(engine) == text
    page, there = [(await one.find_many(TaskFilter(), limit=100)).items for one in (source, engine)]
    assert msgspec.json.encode(there) == msgspec.json.encode(page)
    for task_id in ids.values():
        assert await engine.find_events(task_id) == await source.find_events(task_id)
        assert await engine.find_attempts(task_id) == await source.find_attempts(task_id)
    assert [task.task_id for task in (await engine.find_many(TaskFilter(tag="é"), limit=9)).items] == [ids["odd"]]
    [again] = await engine.submit([make_draft(clock.now(), idempotency=make_key(clock.now()))])
    assert (again.outcome, again.task_id) == ("replayed", ids["odd"])


async def test_what_was_open_goes_on_there(
    source: Engine, engine: Engine, make_engine: MakeEngine, clock: ManualClock
) -> None:
    ids = await fill(source, clock)
    await imported(engine, await exported(source))
    await engine.close()
    later = await make_engine()
    driver = Driver(later, clock)
    reaped = {claim.task_id: claim.worker for claim in await driver.reap()}
    assert reaped == dict.fromkeys([ids["running"], ids["stopping"]], "worker-1"), "their worker is elsewhere"
    assert (await driver.get(ids["stopping"])).status is Status.CANCELLED
    assert await driver.claim(10, types=("suspect",)) == []
    assert (await driver.claim_one(types=("suspect",), suspects=1)).attempt == MAX_INTERRUPTIONS + 1
    claim = await driver.claim_one(types=("running",))
    assert (claim.attempt, claim.interruptions) == (3, 1), "a number is never used again"
    assert await driver.claim(10, types=("plain", "waiting")) != []
    assert await driver.claim(10, types=("retrying", "later")) == []
    clock.advance(timedelta(days=31))
    due = await driver.claim(10, types=("retrying", "later", "crashing"))
    assert {claim.task_id for claim in due} == {ids["retrying"], ids["later"], ids["crashing"]}
    await later.sweep(limit=100)
    for claim in due:
        assert await driver.finish(claim, Succeeded(b"1"))


async def test_an_import_may_be_done_again(source: Engine, engine: Engine, clock: ManualClock, monkeypatch) -> None:
    monkeypatch.setattr(archive, "AT_ONCE", 1)
    ids = await fill(source, clock)
    lines = (await exported(source)).splitlines(keepends=True)
    with pytest.raises(ArchiveError, match="ends after 3 tasks"):
        await imported(engine, b"".join(lines[: 4 + USAGE_ROWS]))
    assert await imported(engine, b"".join(lines)) == archive.Imported(len(ids) - 3, 3, 0)
    await Driver(engine, clock).finish(await Driver(engine, clock).claim_one(types=("plain",)), Succeeded(b"1"))
    assert await imported(engine, b"".join(lines)) == archive.Imported(0, len(ids), 1)
    assert (await engine.find(ids["plain"])).status is Status.COMPLETED  # type: ignore[union-attr]


async def test_two_imports_at_once_store_everything_once(
    source: Engine, engine: Engine, clock: ManualClock, monkeypatch
) -> None:
    monkeypatch.setattr(archive, "AT_ONCE", 2)
    ids = await fill(source, clock)
    text = await exported(source)
    both = await asyncio.gather(imported(engine, text), imported(engine, text))
    assert sum(done.stored for done in both) == sum(done.known for done in both) == len(ids)
    assert len((await engine.find_many(TaskFilter(), limit=100)).items) == len(ids)


async def test_large_tasks_are_read_and_stored_few_at_a_time(
    source: Engine, engine: Engine, clock: ManualClock, monkeypatch
) -> None:
    monkeypatch.setattr(archive, "AT_ONCE_SIZE", 1000)
    driver, large = Driver(source, clock), b'"%s"' % (b"x" * 600)
    for number in range(4):
        await driver.submit(make_draft(clock.advance(SECOND), params=large if number < 2 else b"1"))
    claim, *_ = await driver.claim(4)
    await source.record(
        claim.lease, Report(events=(NewEvent(type="output", time=clock.now(), data=b'{"chunk":%b}' % large),))
    )
    pages = [len(page) async for page in source.archive.read(at_once=3, size=1000)]
    assert pages == [1, 3], "the event counts as well, and one task is always read"
    text, done = await exported(source), list[int]()
    assert (await archive.read(engine.archive, text.splitlines(keepends=True), done.append)).stored == 4
    assert done == [1, 4]
    assert await exported(engine) == text


async def test_an_earlier_state_is_no_longer_taken_for_the_same(
    source: Engine, engine: Engine, clock: ManualClock
) -> None:
    """The stored task may be in a later state than the archived one, never in an earlier one."""
    driver = Driver(source, clock)
    await driver.submit()
    before = await exported(source)
    await driver.claim_one()
    await imported(engine, before)
    with pytest.raises(Conflict, match="other content"):
        await imported(engine, await exported(source))


async def test_a_task_that_is_there_with_other_content_is_refused(
    source: Engine, engine: Engine, clock: ManualClock
) -> None:
    task_id = (await fill(source, clock))["plain"]
    await Driver(engine, clock).submit(make_draft(clock.now(), task_id=task_id, params=b"[1]"))
    with pytest.raises(Conflict, match=f"task {task_id} is stored with other content"):
        await imported(engine, await exported(source))
    assert len((await engine.find_many(TaskFilter(), limit=9)).items) == 1


async def test_a_task_that_ended_otherwise_there_is_refused(
    source: Engine, engine: Engine, make_engine: MakeEngine, clock: ManualClock
) -> None:
    """Both stores ran the same task: neither result is the other's next step."""
    task_id = await Driver(source, clock).submit()
    await imported(engine, await exported(source))
    await engine.close()
    later = await make_engine()
    await Driver(later, clock).finish(await Driver(later, clock).claim_one(), Succeeded(b"7"))
    await Driver(source, clock).finish(await Driver(source, clock).claim_one(), Succeeded(b"6"))
    with pytest.raises(Conflict, match=f"task {task_id} is stored with other content"):
        await imported(later, await exported(source))
    assert msgspec.json.encode((await Driver(later, clock).get(task_id)).result) == b"7"


async def test_conflicts_are_reported_only_for_unique_names(engine: Engine, driver: Driver, clock: ManualClock) -> None:
    await engine.submit([structs.replace(make_draft(clock.now()), unique_key="u")])
    [known] = [task async for some in engine.archive.read(at_once=9, size=1 << 20) for task in some]
    other = structs.replace(known, task_id=make_draft().task_id)
    with pytest.raises(Conflict, match="another task here has its unique_key"):
        await engine.archive.put([other], rehearsal=True)
    for wrong in ({"worker": 5}, {"type": None}):  # what the vetting would have to let through
        with pytest.raises(ArchiveError, match="it cannot be stored as it is"):
            await engine.archive.put([structs.replace(other, unique_key=None, **wrong)], rehearsal=True)


async def test_a_key_that_is_anothers_there_is_refused(source: Engine, engine: Engine, clock: ManualClock) -> None:
    await fill(source, clock)
    await Driver(engine, clock).submit(make_draft(clock.now(), idempotency=make_key(clock.now())))
    with pytest.raises(Conflict, match="idempotency key 'key-1'"):
        await imported(engine, await exported(source))
    assert len((await engine.find_many(TaskFilter(), limit=9)).items) == 1


def _cut(lines: list[bytes]) -> list[bytes]:
    return lines[:-1]


def _edited(lines: list[bytes]) -> list[bytes]:
    return [line.replace(b'"priority":0', b'"priority":1') for line in lines]


def _swapped(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[2], lines[1], *lines[3:]]


def _left_out(lines: list[bytes]) -> list[bytes]:
    return [lines[0], *lines[2:]]


def _timed(name: str, time: bytes):
    """Return a function that sets another time in every field of that name."""
    return lambda lines: [
        re.sub(b'"%b":"[^"]*"' % name.encode(), b'"%b":"%b"' % (name.encode(), time), line) for line in lines
    ]


FAULTS = [
    (_cut, "was cut off"), (_edited, "was changed"), (_swapped, "was changed"), (_left_out, "was changed"),
    (lambda lines: lines[1:], "line 1: expected an archive"), (lambda _: [], "line 1: expected an archive"),
    (lambda lines: [lines[0].replace(b'"version":1', b'"version":2'), *lines[1:]], "line 1: expected an archive"),
    (lambda lines: [lines[0], b'{"kind":"schedule"}\n', *lines[1:]], "line 2: expected a task"),
    (lambda lines: [lines[0], lines[1][:40] + b"\n", *lines[2:]], "line 2: expected a record"),
    (_timed("created_at", b"0001-01-01T00:00:00+23:59"), "expected a task: expected a time from the year 1"),
    (_timed("created_at", b"2026-01-01T00:00:00"), "expected a task: expected a time with a zone"),
    (_timed("time", b"9999-12-31T23:59:59-23:59"), "expected a task: expected a time from the year 1"),
    (lambda lines: [*lines, lines[1]], "expected nothing after"),
    (lambda lines: [*lines[:-1], b'{"kind":"end"}\n'], "expected the end"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "why"), FAULTS, ids=[why + str(number) for number, (_, why) in enumerate(FAULTS)])
async def test_a_spoilt_archive_is_known(tmp_path: Path, clock: ManualClock, spoil, why: str) -> None:
    async with ENGINES["sqlite"](tmp_path, clock) as engine:
        await fill(engine, clock)
        lines = (await exported(engine)).splitlines(keepends=True)
    trailer = archive.check(lines)
    assert trailer.sha256 == hashlib.sha256(b"".join(lines[1:-1])).hexdigest()
    assert (trailer.tasks, trailer.attempts, trailer.keys) == (11, 3 + MAX_INTERRUPTIONS, 1)
    with pytest.raises(ArchiveError, match=why):
        archive.check(spoil(lines))


async def test_schedules_are_the_same_on_the_other_side(
    source: Engine, engine: Engine, clock: ManualClock, monkeypatch
) -> None:
    monkeypatch.setattr(archive, "AT_ONCE", 2)
    await fill(source, clock)
    made = [make_schedule(clock.now(), name=f"s{number}", overlap="skip") for number in range(3)]
    for schedule in made:
        await source.schedules.create(schedule)
    clock.advance(timedelta(minutes=1))
    await fire_all(source, clock)
    text = await exported(source)
    assert text.splitlines()[1].startswith(b'{"kind":"record","record":"schedule","key":"')
    assert (await imported(engine, text)).records == 3 + USAGE_ROWS
    assert await exported(engine) == text
    assert (await imported(engine, text)).records == 0, "they are there already"
    clock.advance(timedelta(minutes=1))
    await fire_all(engine, clock)
    assert (await imported(engine, text)).records == 0, "they have gone on, and are left as they are"
    there = await engine.schedules.find(made[0].schedule_id)
    assert there is not None
    assert there.last_skip is not None, "its task is there, and open"


async def test_a_schedule_whose_name_is_taken_there_is_refused(
    source: Engine, engine: Engine, clock: ManualClock
) -> None:
    for name in ("a", "b"):
        await source.schedules.create(make_schedule(clock.now(), name=name))
    await engine.schedules.create(make_schedule(clock.now(), name="b"))
    with pytest.raises(Conflict, match=r"schedule .* cannot be stored: another one"):
        await imported(engine, await exported(source))
    assert len((await engine.schedules.find_many(limit=9)).items) == 1, "none of them was stored"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"schedule"', b'"calendar"'),
        (b'"missed":"once"', b'"missed":"never"'),
        (b'"key":"0', b'"key":"1'),
        (b'"starts_at":null', b'"starts_at":"0001-01-01T00:00:00+23:59"'),
        (b'"ends_at":null', b'"ends_at":"2026-01-01T00:00:00"'),
    ],
)
async def test_a_record_that_is_none_is_refused(engine: Engine, clock: ManualClock, old: bytes, new: bytes) -> None:
    good = SCHEDULES.record(make_schedule(clock.now(), schedule_id=UUID(int=1)))
    bad = msgspec.json.decode(msgspec.json.encode(good).replace(old, new), type=StoredRecord)
    with pytest.raises(ArchiveError, match=r"^(schedule|calendar) .0000000"):
        await engine.archive.put_records([good, bad])
    assert (await engine.schedules.find_many(limit=9)).items == []


async def test_keys_open_the_same_on_the_other_side(source: Engine, engine: Engine, clock: ManualClock) -> None:
    here = Keys(source.keys, clock, is_shared=source.is_shared)
    key, shown = await here.create(NewKey(scopes=("submit", "read"), owner="alice", rate=2.5, daily_budget=1.25))
    revoked, _ = await here.create(NewKey(scopes=("admin",), expires_at=clock.now() + timedelta(days=1)))
    await here.revoke(revoked.key_id)
    text = await exported(source)
    assert shown.encode() not in text
    version = await engine.keys.version()
    assert (await imported(engine, text)).records == 2
    assert await exported(engine) == text
    there = Keys(engine.keys, clock, is_shared=engine.is_shared)
    await there.refresh()
    assert await there.identify(shown) == (key, key.caller)
    assert [one.revoked_at is None for one in await there.find_all()] == [True, False]
    if engine.is_shared:
        assert await engine.keys.version() > version, "processes that run beside the import hear of it"


async def test_webhooks_are_moved_with_their_pending_deliveries(
    source: Engine, engine: Engine, clock: ManualClock
) -> None:
    here = Couriers(source, clock, Receivers())
    webhook = await here.hook(tag="t", description="mine", format="plain")
    await here.complete(tags=("t",))
    await here.work()
    pending = await here.complete(tags=("t",))
    await here.dispatch()
    [waiting, _] = await here.deliveries(webhook)
    text = await exported(source)
    assert (await imported(engine, text)).records == 2 + 1, "and the usage of their type"
    there = Couriers(engine, clock, Receivers())
    assert await engine.webhooks.find(webhook.webhook_id) == webhook
    assert await there.deliveries(webhook) == [waiting]
    await there.work()
    [told] = there.receivers.told
    assert (told.text, told.headers["content-type"]) == (
        f"sum completed (task {pending})", "text/plain; charset=utf-8",
    )  # fmt: skip


def test_a_webhook_of_an_older_archive_has_the_standard_format() -> None:
    webhook = make_webhook(START)
    record = WEBHOOKS.record(webhook)
    data = msgspec.json.decode(record.data)
    del data["format"]
    [row] = read_records([structs.replace(record, data=msgspec.Raw(msgspec.json.encode(data)))])
    assert row.value == webhook


async def test_usage_is_the_same_on_the_other_side(source: Engine, engine: Engine, clock: ManualClock) -> None:
    await fill(source, clock)
    clock.advance(timedelta(days=1))
    driver = Driver(source, clock)
    await driver.submit(structs.replace(make_draft(clock.now()), owner="a b/ü"))
    await driver.finish(await driver.claim_one(), Succeeded(b"1"), Report(usage=b'{"cost":0.5}'))
    text = await exported(source)
    assert (await imported(engine, text)).records == USAGE_ROWS + 1
    told = [await one.usage.find_many(EVER, group=GROUPS, limit=20) for one in (source, engine)]
    assert told[0] == told[1]
    assert await engine.usage.spent_today("a b/ü") == NANOS // 2
    driver = Driver(engine, clock)
    await driver.submit(structs.replace(make_draft(clock.now()), owner="a b/ü"))
    await driver.finish(await driver.claim_one(), Succeeded(b"1"), Report(usage=b'{"cost":0.5}'))
    assert (await imported(engine, text)).records == 0, "it is there already"
    assert await engine.usage.spent_today("a b/ü") == NANOS, "and has gone on, and is left as it is"


@pytest.mark.parametrize(
    "row",
    [
        {"day": "2026-01-03", "owner": "", "type": "sum"}, {"day": "2026-01-02", "owner": "x", "type": "sum"},
        {"day": "2026-01-02", "owner": "", "type": "gpt"}, {"day": None, "owner": "", "type": "sum"},
        {"day": "2026-01-02", "owner": "", "type": "sum", "cost": 2**63},
        {"day": "2026-01-02", "owner": "", "type": "sum", "cost": "1"},
    ],
)  # fmt: skip
async def test_usage_that_is_none_is_refused(engine: Engine, row: dict[str, object]) -> None:
    name = "2026-01-02 sum "
    data = msgspec.json.encode({"name": name, "row": row})
    with pytest.raises(ArchiveError, match="usage 2026-01-02 sum"):
        await engine.archive.put_records([StoredRecord(record="usage", key=name, data=msgspec.Raw(data))])


async def test_shared_keys_and_all_owners_are_moved(source: Engine, engine: Engine, clock: ManualClock) -> None:
    await source.queues.change("q", QueueChange(concurrency_per_key=1, shared_keys=True))
    secrets = (WebhookSecret(secret=new_secret()),)
    webhook = make_webhook(clock.now(), owner="ada", events=("created",), all_owners=True, secrets=secrets)
    await source.webhooks.create(webhook, most=9)
    await engine.submit([structs.replace(make_draft(clock.now()), owner="eve")])
    assert (await imported(engine, await exported(source))).records == 2
    assert [state.settings.shared_keys for state in await engine.queues.find_all()] == [True]
    assert await engine.webhooks.find(webhook.webhook_id) == webhook
    await engine.submit([structs.replace(make_draft(clock.now()), owner="bob")])
    page = await engine.journal.read()
    hearing = await engine.webhooks.find_subscriptions([])
    owners = {entry.event.task_id: entry.owner for entry in page.entries}
    [(found, _)] = find_deliveries(hearing, page, clock.now(), at_once=9)
    told = {owners[one.task_id] for one in found}
    assert told == {"bob"}, "of what comes after it there"
