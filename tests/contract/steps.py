"""Steps and children for tests of engines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Raw

from tasker.engines.protocol import Engine
from tasker.model import Claim, Draft, Extra, Report
from tasker.model.steps import NewChildren, NewStep, Question, Step, Wait
from tasker.rules.lifecycle import Parked
from tasker.testing import Driver, make_draft

MOST = 10_000
SCHEMA = b'{"type":"boolean"}'


def new_step(now: datetime, key: str = "charge", value: bytes | None = b"1", **fields: Any) -> NewStep:
    """Return a step whose call has returned `value`."""
    return NewStep(
        **{"key": key, "name": key, "kind": "step", "started_at": now, "finished_at": now, "value": value} | fields
    )


def new_sleep(now: datetime, length: timedelta, key: str = "nap") -> NewStep:
    return NewStep(key=key, name=key, kind="sleep", started_at=now, until=now + length)


def new_question(now: datetime, key: str = "approve", timeout: timedelta | None = None) -> NewStep:
    question = Question(name=key, message="Ship it?", schema=Raw(SCHEMA))
    until = None if timeout is None else now + timeout
    text = msgspec.json.encode(question)
    return NewStep(key=key, name=key, kind="input", started_at=now, until=until, question=text)


async def put(engine: Engine, claim: Claim, *steps: NewStep) -> bool:
    return await engine.record(claim.lease, Report(steps=steps))


async def park(driver: Driver, claim: Claim, **wait: Any) -> bool:
    """End the attempt: it waits for what the fields of a Wait say."""
    return await driver.finish(claim, Parked(Wait(**wait)))


def child_drafts(parent: UUID, now: datetime, number: int, **options: Any) -> list[Draft]:
    """Return drafts of children. They have a type of their own, so that a claim does not mix them up with parents."""
    extra = Extra(parent_id=parent, root_id=parent)
    return [make_draft(now, **{"type": "child", "extra": extra} | options) for _ in range(number)]


def new_children(
    parent: UUID, drafts: Sequence[Draft], now: datetime, *, key: str = "map", first: int = 0, total: int | None = None,
    level: int = 1, **fields: Any,
) -> NewChildren:  # fmt: skip
    count = len(drafts) if total is None else total
    step = NewStep(key=key, name=key, kind="children", started_at=now, total=count)
    return NewChildren(step=step, first=first, drafts=drafts, root_id=parent, level=level, **fields)


async def start(
    driver: Driver, claim: Claim, number: int, *, key: str = "map", level: int = 1, options: Any = None, **fields: Any
) -> list[UUID]:
    """Start children of a claimed task in one step; return their ids."""
    now = driver.clock.now()
    drafts = child_drafts(claim.task_id, now, number, **(options or {}))
    children = new_children(claim.task_id, drafts, now, key=key, level=level, **fields)
    step = await driver.engine.steps.start_children(claim.lease, children, most=MOST)
    assert step is not None
    return [draft.task_id for draft in drafts]


async def claim_children(driver: Driver, limit: int = 100) -> list[Claim]:
    return await driver.claim(limit, types=("child",))


async def one_step(engine: Engine, task_id: UUID, key: str) -> Step:
    [step] = await engine.steps.find_some(task_id, [key])
    return step
