"""Archives of versions that did not keep yet what a schedule may do: it may what its owner's keys may."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID

import msgspec
import pytest
from tests.contract.test_archive import exported, source
from tests.contract.test_keys import make
from tests.contract.test_schedules import make_schedule

from tasker.archive import files as archive
from tasker.engines.protocol import Engine
from tasker.model.keys import Key, Scope
from tasker.testing import ManualClock

__all__ = ["source"]
Scopes = tuple[Scope, ...]
S: Scopes = ("submit",)
R: Scopes = ("submit", "read")
C: Scopes = ("submit", "control")
A: Scopes = ("admin",)
ALL: Scopes = ("submit", "read", "control")
CASES: list[tuple[list[Scopes], list[Scopes], Scopes]] = [
    ([ALL], [], ALL), ([A], [], ALL), ([R], [], R), ([C], [], C), ([R, C], [], S), ([A, C], [], C),
    ([ALL, ("read",)], [], ALL), ([], [], S), ([], [C, A], C), ([("read",)], [ALL], ALL),
    ([ALL], [S], ALL), ([S], [A], S),
]  # fmt: skip
"""Scopes of the owner's keys in the archive, of those in the store, and those of the schedule then."""


def make_key(name: str, is_brought: bool, **fields: Any) -> Key:
    """Return a key of alice's, by default; `is_brought` tells those of one store from those of the other."""
    key_id = f"{name}{is_brought}"
    return make(key_id, digest=hashlib.sha256(key_id.encode()).digest(), **fields)


def without_scopes(text: bytes) -> list[bytes]:
    """Return the lines of an archive as a version made them that did not know of a schedule's scopes."""
    lines = text.splitlines(keepends=True)
    for place, line in enumerate(lines):
        if b'"record":"schedule"' in line:
            value = msgspec.json.decode(line)
            del value["data"]["scopes"]
            lines[place] = msgspec.json.encode(value) + b"\n"
    end = msgspec.json.decode(lines[-1])
    end["sha256"] = hashlib.sha256(b"".join(lines[1:-1])).hexdigest()
    return [*lines[:-1], msgspec.json.encode(end) + b"\n"]


@pytest.mark.parametrize(("brought", "there", "expected"), CASES, ids=range(len(CASES)))
async def test_schedules_may_do_what_their_makers_may(
    source: Engine, engine: Engine, clock: ManualClock,
    brought: list[Scopes], there: list[Scopes], expected: Scopes,
) -> None:  # fmt: skip
    for store, keys in ((source, brought), (engine, there)):
        await store.keys.add(make_key("other", store is source, owner="bob", scopes=S))
        for number, scopes in enumerate(keys):
            await store.keys.add(make_key(f"key{number}", store is source, scopes=scopes))
    ids = [UUID(int=number) for number in (1, 2)]
    for schedule_id, owner in zip(ids, ("alice", ""), strict=True):
        await source.schedules.create(
            make_schedule(clock.now(), schedule_id=schedule_id, owner=owner, overlap="replace", scopes=ALL)
        )
    lines = without_scopes(await exported(source))
    archive.check(lines, clock=clock)
    for _ in range(2):  # again after it was cut off, say
        await archive.rehearse(engine.archive, lines, clock=clock)
        await archive.read(engine.archive, lines, clock=clock)
        owned, free = [await engine.schedules.find(schedule_id) for schedule_id in ids]
        assert owned is not None
        assert owned.scopes == expected
        assert free is not None
        assert free.caller.may("control"), "it belongs to nobody"


async def test_given_scopes_stay_as_they_are(source: Engine, engine: Engine, clock: ManualClock) -> None:
    await source.keys.add(make_key("key", True, scopes=A))
    await source.schedules.create(make_schedule(clock.now(), schedule_id=UUID(int=1), owner="alice", scopes=S))
    await archive.read(engine.archive, (await exported(source)).splitlines(keepends=True), clock=clock)
    there = await engine.schedules.find(UUID(int=1))
    assert there is not None
    assert there.scopes == S
