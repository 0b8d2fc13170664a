"""Lives of tasks with steps, children and questions, told to an engine by hand as a worker would."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID

import msgspec

from tasker.engines.protocol import Engine
from tasker.model import Claim, Extra, NewEvent, Report
from tasker.model.steps import NewChildren, NewStep, Question, Step, Wait
from tasker.model.tasks import new_task_id
from tasker.rules.lifecycle import Outcome, Parked, Succeeded
from tasker.testing import Driver, ManualClock, make_draft

APPROVAL = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}, "comment": {"type": "string", "default": ""}},
    "required": ["approved"],
}

_numbers = count(1)


class Story:
    """One task, of a type of its own if none is given. `claim` is its running attempt."""

    def __init__(self, engine: Engine, clock: ManualClock, type: str = "") -> None:
        self.engine = engine
        self.clock = clock
        self.type = type or f"story{next(_numbers)}"
        self.driver = Driver(engine, clock)
        self.task_id: UUID
        self.claim: Claim
        self.root: tuple[UUID, int] | None = None
        self._wait = Wait()

    async def begin(self, params: Any = ("order-7",), **options: Any) -> Story:
        """Submit it, and claim it."""
        draft = make_draft(self.clock.now(), type=self.type, params=msgspec.json.encode(params), **options)
        self.task_id = await self.driver.submit(draft)
        return await self.go_on()

    async def go_on(self) -> Story:
        """Claim it."""
        self.claim = await self.driver.claim_one(types=(self.type,))
        self.task_id = self.claim.task_id
        self._wait = Wait()
        return self

    async def tell(self, event_type: str, **data: Any) -> None:
        """Report an event."""
        event = NewEvent(type=event_type, time=self.clock.now(), data=msgspec.json.encode(data))  # type: ignore[arg-type]
        assert await self.engine.record(self.claim.lease, Report(events=(event,)))

    async def step(self, name: str, value: Any = None, seconds: float = 1.0, key: str = "") -> None:
        """Run a step."""
        key = key or name
        await self.tell("step_started", name=name, key=key, kind="step")
        began = self.clock.now()
        self.clock.advance(timedelta(seconds=seconds))
        now = self.clock.now()
        made = NewStep(
            key=key, name=name, kind="step", started_at=began, finished_at=now, value=msgspec.json.encode(value)
        )
        data = msgspec.json.encode({"name": name, "key": key, "kind": "step", "took": seconds})
        event = NewEvent(type="step_completed", time=now, data=data)
        assert await self.engine.record(self.claim.lease, Report(events=(event,), steps=(made,)))

    async def sleep(self, name: str, seconds: float) -> None:
        """Begin a sleep."""
        until = self.clock.now() + timedelta(seconds=seconds)
        await self._store(NewStep(key=name, name=name, kind="sleep", started_at=self.clock.now(), until=until))
        self._wait = msgspec.structs.replace(self._wait, until=until)

    async def ask(
        self,
        name: str,
        schema: Any = None,
        message: str = "Ship order 7?",
        seconds: float | None = None,
        default: Any = None,
        key: str = "",
    ) -> None:
        """Ask a person; by default for APPROVAL."""
        raw = msgspec.Raw(msgspec.json.encode(APPROVAL if schema is None else schema))
        given = msgspec.UNSET if default is None else msgspec.Raw(msgspec.json.encode(default))
        question = msgspec.json.encode(Question(name=name, message=message, schema=raw, default=given))
        until = None if seconds is None else self.clock.now() + timedelta(seconds=seconds)
        made = NewStep(
            key=key or name, name=name, kind="input", started_at=self.clock.now(), until=until, question=question
        )
        await self._store(made)
        await self.tell("input_required", name=name, key=key or name, message=message)
        self._wait = msgspec.structs.replace(self._wait, inputs=(*self._wait.inputs, key or name), until=until)

    async def children(self, name: str, params: Sequence[Any], type: str = "echo", level: int = 1) -> list[UUID]:
        """Start children; return their ids."""
        now = self.clock.now()
        root = self.claim.task_id if self.root is None else self.root[0]
        drafts = [
            make_draft(
                now,
                task_id=new_task_id(now),
                type=type,
                params=msgspec.json.encode(one),
                owner=self.claim.owner,
                extra=Extra(parent_id=self.task_id, root_id=root),
            )
            for one in params
        ]
        step = NewStep(key=name, name=name, kind="children", started_at=now, total=len(drafts))
        new = NewChildren(step=step, first=0, drafts=drafts, root_id=root, level=level)
        assert await self.engine.steps.start_children(self.claim.lease, new, most=10_000) is not None
        self._wait = msgspec.structs.replace(self._wait, children=(*self._wait.children, name))
        return [draft.task_id for draft in drafts]

    async def park(self) -> None:
        """Wait for all that was begun, without a slot."""
        await self.finish(Parked(self._wait))

    async def finish(self, outcome: Outcome | None = None) -> None:
        """End the attempt, by default with a result."""
        assert await self.driver.finish(self.claim, outcome or Succeeded(b'"done"'))

    async def run_children(self, *outcomes: Outcome, type: str = "echo", seconds: float = 1.0) -> None:
        """Run the next children to these outcomes."""
        for outcome in outcomes:
            claim = await self.driver.claim_one(types=(type,))
            self.clock.advance(timedelta(seconds=seconds))
            assert await self.driver.finish(claim, outcome)

    async def stored(self) -> list[Step]:
        return await self.engine.steps.find(self.task_id)

    async def _store(self, step: NewStep) -> None:
        assert await self.engine.record(self.claim.lease, Report(steps=(step,)))
