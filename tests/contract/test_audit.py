"""Engine.audit: who did what."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.contract.conftest import MakeEngine

from tasker.engines.protocol import Engine
from tasker.errors import Invalid
from tasker.model.audit import AuditAction, AuditEntry
from tasker.testing import ManualClock

DAY = timedelta(days=1)
ACTION = AuditAction(key_id="k", owner="alice", action="cancel_task", target="t", address="127.0.0.1")
KEYLESS = AuditAction(key_id=None, owner="", action="delete_task", target="", address="")


async def test_an_action_is_recorded_before_its_outcome(engine: Engine, clock: ManualClock) -> None:
    first = await engine.audit.begin(ACTION)
    begun_at = clock.now()
    clock.advance(DAY)
    second = await engine.audit.begin(KEYLESS)
    assert second > first
    entries = [
        AuditEntry(sequence=second, time=clock.now(), deed=KEYLESS, outcome=None),
        AuditEntry(sequence=first, time=begun_at, deed=ACTION, outcome=None),
    ]
    assert (await engine.audit.find_many(limit=10)).items == entries
    await engine.audit.end(first, 200, "ignored: it has one")
    await engine.audit.end(first, 500)
    assert [entry.outcome for entry in (await engine.audit.find_many(limit=10)).items] == [None, 200]


async def test_what_an_action_creates_becomes_its_target(engine: Engine) -> None:
    await engine.audit.end(await engine.audit.begin(KEYLESS), 201, "made")
    await engine.audit.end(await engine.audit.begin(ACTION), 201, "other")
    assert [entry.deed.target for entry in (await engine.audit.find_many(limit=10)).items] == ["t", "made"]


async def test_the_audit_log_comes_in_pages(engine: Engine) -> None:
    sequences = [await engine.audit.begin(ACTION) for _ in range(5)]
    seen, cursor = [], None
    for _ in range(3):
        page = await engine.audit.find_many(limit=2, cursor=cursor)
        seen += [entry.sequence for entry in page.items]
        cursor = page.next_cursor
    assert (seen, cursor) == (sequences[::-1], None)
    with pytest.raises(Invalid):
        await engine.audit.find_many(limit=2, cursor="forged")


async def test_old_entries_are_erased_in_batches(engine: Engine, clock: ManualClock) -> None:
    for _ in range(3):
        await engine.audit.begin(ACTION)
    clock.advance(DAY)
    last = await engine.audit.begin(ACTION)
    assert [await engine.audit.prune(keep=timedelta(0), limit=2) for _ in range(3)] == [2, 1, 0]
    assert [entry.sequence for entry in (await engine.audit.find_many(limit=10)).items] == [last]


async def test_the_audit_log_outlives_the_process(make_engine: MakeEngine) -> None:
    engine = await make_engine()
    await engine.audit.begin(ACTION)
    await engine.close()
    engine = await make_engine()
    assert [entry.deed for entry in (await engine.audit.find_many(limit=10)).items] == [ACTION]
