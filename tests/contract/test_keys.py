"""Engine.keys: API keys."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.contract.conftest import MakeEngine
from tests.contract.engines import ENGINES

from tasker.engines.protocol import Engine
from tasker.errors import Conflict
from tasker.model.keys import Key
from tasker.testing import START, ManualClock

DAY = timedelta(days=1)


def make(key_id: str = "one", **fields: Any) -> Key:
    given: dict[str, Any] = {
        "name": "n",
        "owner": "alice",
        "scopes": ("submit", "read"),
        "digest": b"d",
        "created_at": START,
    }
    return Key(key_id=key_id, **{**given, **fields})


WHOLE = make("whole", expires_at=START + DAY, rate=2.5, burst=10, daily_budget=1.25, last_used_at=START, name="ä b")


async def test_a_key_is_read_as_it_was_added(engine: Engine) -> None:
    assert await engine.keys.find_all() == []
    keys = [make("z"), WHOLE, make("a", scopes=("admin",), owner="")]
    for key in keys:
        await engine.keys.add(key)
    assert await engine.keys.find_all() == keys


async def test_two_keys_cannot_share_an_id(engine: Engine) -> None:
    await engine.keys.add(make())
    with pytest.raises(Conflict):
        await engine.keys.add(make(digest=b"other"))
    assert await engine.keys.find_all() == [make()]


async def test_a_key_is_revoked_once_and_stays(engine: Engine, clock: ManualClock) -> None:
    await engine.keys.add(make())
    revoked = await engine.keys.revoke("one")
    assert revoked == make(revoked_at=clock.now())
    clock.advance(DAY)
    assert await engine.keys.revoke("one") == revoked
    assert await engine.keys.find_all() == [revoked]
    assert await engine.keys.revoke("none") is None


async def test_a_key_is_good_until_it_is_revoked_or_expires() -> None:
    key = make(expires_at=START + DAY)
    assert key.is_good(START)
    assert not key.is_good(START + DAY)
    assert make().is_good(START + DAY)
    assert not make(revoked_at=START).is_good(START)


async def test_the_latest_use_is_kept(engine: Engine) -> None:
    await engine.keys.add(make())
    await engine.keys.add(make("two"))
    await engine.keys.record_uses({"one": START + DAY, "none": START})
    await engine.keys.record_uses({"two": START, "one": START})
    assert [key.last_used_at for key in await engine.keys.find_all()] == [START + DAY, START]


async def test_the_version_moves_with_every_change_of_any_process(make_engine: MakeEngine) -> None:
    first = await make_engine()
    second = first
    if first.is_shared:
        second = await make_engine()
    seen = [await first.keys.version()]
    for change in (second.keys.add(make()), second.keys.revoke("one"), first.keys.add(make("two"))):
        await change
        seen.append(await first.keys.version())
    assert seen == sorted(set(seen))
    await first.keys.record_uses({"one": START})
    assert await first.keys.version() == seen[-1]


async def test_keys_outlive_the_process(make_engine: MakeEngine) -> None:
    engine = await make_engine()
    await engine.keys.add(WHOLE)
    await engine.close()
    engine = await make_engine()
    assert await engine.keys.find_all() == [WHOLE]


async def test_all_processes_of_a_store_share_one_cursor_secret(
    engine: Engine, make_engine: MakeEngine, clock: ManualClock
) -> None:
    secret = await engine.keys.cursor_secret()
    assert len(secret) == 64
    assert len(set(secret)) > 16, "random"
    if not engine.is_shared:
        await engine.close()
    again = await make_engine()
    assert await again.keys.cursor_secret() == secret


async def test_each_store_has_a_cursor_secret_of_its_own(tmp_path: Path, clock: ManualClock) -> None:
    secrets = set()
    for make in ENGINES.values():
        for folder in ("one", "two"):
            async with make(tmp_path / folder, clock) as engine:
                secrets.add(await engine.keys.cursor_secret())
    assert len(secrets) == 2 * len(ENGINES)


async def test_good_keys_are_limited(engine: Engine, clock: ManualClock) -> None:
    await engine.keys.add(make("one"), most=2)
    await engine.keys.add(make("two", expires_at=START + DAY), most=2)
    with pytest.raises(Conflict, match="2 valid keys"):
        await engine.keys.add(make("three"), most=2)
    assert [key.key_id for key in await engine.keys.find_all()] == ["one", "two"]
    clock.advance(DAY)
    await engine.keys.add(make("three"), most=2)
    await engine.keys.revoke("one")
    await engine.keys.add(make("four"), most=2)


async def test_the_newest_dead_keys_are_kept(
    engine: Engine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasker.engines.shared.stores.keys.KEEP_DEAD_KEYS", 2)
    seen = []
    for number in range(6):
        await engine.keys.add(make(str(number), expires_at=START + DAY))
        seen.append(await engine.keys.version())
    clock.advance(DAY)
    await engine.keys.add(make("good"))
    assert [key.key_id for key in await engine.keys.find_all()] == ["4", "5", "good"]
    assert len({*seen, await engine.keys.version()}) == len(seen) + 1, "each change is seen by its version"
