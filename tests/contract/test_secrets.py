"""Engine.secrets: secret params, stored with their task for as long as it may run."""

from __future__ import annotations

from uuid import UUID

from msgspec import structs
from tests.contract.conftest import MakeEngine

from tasker.chores.reap import erase_secrets
from tasker.engines.protocol import Engine
from tasker.model import Draft, new_task_id
from tasker.rules.lifecycle import Succeeded
from tasker.testing import Driver, ManualClock, make_draft, make_key

SECRETS = b'{"1":"t\xc3\xa9"}'


def secret_draft(clock: ManualClock, **fields: object) -> Draft:
    return structs.replace(make_draft(clock.now(), params=b'["u","***"]'), secrets=SECRETS, **fields)


async def test_secrets_are_stored_with_their_task_and_never_shown_with_it(driver: Driver, clock: ManualClock) -> None:
    engine = driver.engine
    draft = secret_draft(clock)
    other = make_draft(clock.now())
    await engine.submit([draft])
    await engine.submit([secret_draft(clock), other])
    assert await engine.secrets.find(draft.task_id) == SECRETS
    assert await engine.secrets.find(other.task_id) is None
    claim = await driver.claim_one()
    assert (claim.task_id, claim.params, claim.secrets) == (draft.task_id, b'["u","***"]', None)
    assert bytes((await driver.get(draft.task_id)).params) == b'["u","***"]'


async def test_secrets_outlive_the_process(make_engine: MakeEngine, clock: ManualClock) -> None:
    engine = await make_engine()
    draft = secret_draft(clock)
    await engine.submit([draft])
    await engine.close()
    engine = await make_engine()
    assert await engine.secrets.find(draft.task_id) == SECRETS


async def test_a_replayed_submission_stores_no_secrets(engine: Engine, clock: ManualClock) -> None:
    key = make_key(clock.now())
    first, again = secret_draft(clock, idempotency=key), secret_draft(clock, idempotency=key)
    await engine.submit([first])
    [receipt] = await engine.submit([again])
    assert receipt.outcome == "replayed"
    assert await engine.secrets.find(again.task_id) is None


async def test_secrets_are_erased_with_their_task(driver: Driver, clock: ManualClock) -> None:
    engine = driver.engine
    draft = secret_draft(clock)
    await engine.submit([draft])
    await engine.cancel(draft.task_id)
    await engine.delete(draft.task_id)
    assert await engine.secrets.find(draft.task_id) is None
    await engine.secrets.erase([draft.task_id, new_task_id(clock.now())])


async def test_secrets_left_by_ended_tasks_are_found(driver: Driver, clock: ManualClock) -> None:
    engine = driver.engine
    drafts = [secret_draft(clock) for _ in range(4)]
    for draft in drafts:
        await engine.submit([draft])
    pending, running, ended, cancelled = [draft.task_id for draft in drafts]
    claims = {claim.task_id: claim for claim in await driver.claim(3)}
    await driver.finish(claims.pop(pending), Succeeded(b"1"))
    ended, pending = pending, ended
    await engine.cancel(cancelled)
    assert sorted(await engine.secrets.find_ended(limit=10)) == sorted([ended, cancelled])
    assert len(await engine.secrets.find_ended(limit=1)) == 1
    assert await erase_secrets(engine) == 2
    assert await erase_secrets(engine) == 0
    kept: list[UUID] = [draft.task_id for draft in drafts if await engine.secrets.find(draft.task_id) is not None]
    assert sorted(kept) == sorted([pending, running])
