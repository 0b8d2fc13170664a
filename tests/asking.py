"""Tasks that have stored steps and wait for a person or for children, made without running a function."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Raw, structs

from tasker.engines.protocol import Engine
from tasker.model import Claim, Extra, Report, new_task_id
from tasker.model.steps import NewChildren, NewStep, Question, Wait
from tasker.rules.lifecycle import Parked
from tasker.testing import Driver, make_draft

YES_OR_NO = {"enum": ["yes", "no"]}


def question(
    at: datetime,
    name: str = "approve",
    *,
    key: str | None = None,
    schema: Any = None,
    message: str = "Ship 17?",
    until: datetime | None = None,
) -> NewStep:
    """Return a question that was asked at a time."""
    asked = Question(name=name, message=message, schema=Raw(msgspec.json.encode(schema or YES_OR_NO)))
    return NewStep(
        key=key or name, name=name, kind="input", started_at=at, until=until, question=msgspec.json.encode(asked)
    )


def done(at: datetime, key: str, value: Any = None, *, name: str | None = None, secret: bytes | None = None) -> NewStep:
    """Return a step that a function has done."""
    return NewStep(
        key=key,
        name=name or key,
        kind="step",
        started_at=at,
        finished_at=at + timedelta(seconds=0.25),
        value=msgspec.json.encode(value),
        secret_value=secret,
    )


def sleep(at: datetime, key: str, until: datetime) -> NewStep:
    """Return a sleep."""
    return NewStep(key=key, name=key, kind="sleep", started_at=at, until=until)


async def store(engine: Engine, claim: Claim, *steps: NewStep) -> None:
    """Store steps of a running attempt."""
    assert await engine.record(claim.lease, Report(steps=steps))


async def park(driver: Driver, claim: Claim, *steps: NewStep) -> None:
    """Store steps of a running attempt, and park its task until one of those that are open is there."""
    await store(driver.engine, claim, *steps)
    open_ = [step for step in steps if step.finished_at is None]
    times = [step.until for step in open_ if step.until is not None]
    inputs = tuple(step.key for step in open_ if step.kind == "input")
    await driver.finish(claim, Parked(Wait(until=min(times, default=None), inputs=inputs)))


async def start_children(
    engine: Engine, claim: Claim, at: datetime, number: int, *, key: str = "pages", types: Sequence[str] = ("echo",)
) -> list[Any]:
    """Start children of a running attempt; return their ids."""
    family = await engine.steps.find_family(claim.task_id)
    assert family is not None
    drafts = [
        structs.replace(
            make_draft(at, task_id=new_task_id(at), type=types[place % len(types)], owner=family.owner),
            extra=Extra(parent_id=claim.task_id, root_id=family.root_id),
        )
        for place in range(number)
    ]
    step = NewStep(key=key, name=key, kind="children", started_at=at, total=number)
    children = NewChildren(step=step, first=0, drafts=drafts, root_id=family.root_id, level=family.level + 1)
    assert await engine.steps.start_children(claim.lease, children, most=10_000) is not None
    return [draft.task_id for draft in drafts]
