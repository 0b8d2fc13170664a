"""A Stepper in memory, which keeps the contract of tasktypes/steps.py, and lets a test decide what comes when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from msgspec import structs

from tasker.model import Status, TaskProblem, new_task_id
from tasker.model.steps import Child, Step
from tasker.tasktypes.steps import (
    AnyAnswer,
    AnyRequest,
    Ask,
    Await,
    Children,
    CloseQuestion,
    CollectChildren,
    Refused,
    RunChildrenAgain,
    Sleep,
    StartChildren,
    Steps,
    StoreStep,
    Superseded,
)
from tasker.testing import START


class Store:
    """The steps of one task, over all its attempts."""

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}
        self.children: dict[str, dict[int, Child]] = {}
        self.params: dict[str, dict[int, bytes]] = {}
        self.now = START

    def stepper(self, attempt: int = 1) -> MemoryStepper:
        return MemoryStepper(self, attempt)

    def put(self, key: str, attempt: int, **fields: Any) -> Step:
        """Store a step, unless it is there."""
        if key not in self.steps:
            number = len(self.steps) + 1
            self.steps[key] = Step(key=key, number=number, attempt=attempt, started_at=self.now, **fields)
        return self.steps[key]

    def change(self, key: str, **fields: Any) -> None:
        self.steps[key] = structs.replace(self.steps[key], **fields)

    def answer(self, key: str, value: bytes) -> None:
        """A person answers a question."""
        self.change(key, value=value, finished_at=self.now, answered_by="")

    def end_child(self, key: str, place: int, result: bytes | None = b"null", *, cancelled: bool = False) -> None:
        """A child completes; with None it fails, unless it was cancelled."""
        child = self.children[key][place]
        problem = TaskProblem(type="/problems/task-failed", title="The task failed", detail="no")
        if cancelled:
            child = structs.replace(child, status=Status.CANCELLED)
        elif result is None:
            child = structs.replace(child, status=Status.FAILED, error=problem)
        else:
            child = structs.replace(child, status=Status.COMPLETED, result=result)
        self.children[key][place] = child
        count = {Status.COMPLETED: "completed", Status.FAILED: "failed", Status.CANCELLED: "cancelled"}[child.status]
        self.change(key, **{count: getattr(self.steps[key], count) + 1})

    def is_there(self, request: Await, key: str) -> bool:
        step = self.steps[key]
        is_over = step.until is not None and step.until <= self.now
        return not step.is_open or (is_over and key in request.keys)


class MemoryStepper:
    """Answers the requests of one attempt. A test may replace `answers` of a kind, or hold them back by `gates`.

    What is waited for never comes by itself during an Await: its patience is over at once, or after `gates[Await]`.
    """

    def __init__(self, store: Store, attempt: int) -> None:
        self.store = store
        self.attempt = attempt
        self.stored = tuple(store.steps.values())
        self.requests: list[AnyRequest] = []
        self.open = 0
        self.is_superseded = False
        self.refusal: Refused | None = None
        self.before: dict[type, Callable[[AnyRequest], Any]] = {}
        self._changed = asyncio.Event()

    def asked(self, kind: type) -> list[Any]:
        return [request for request in self.requests if isinstance(request, kind)]

    async def until(self, kind: type, count: int = 1) -> None:
        """Wait until that many requests of a kind have come."""
        async with asyncio.timeout(40):
            while len(self.asked(kind)) < count:
                self._changed.clear()
                await self._changed.wait()

    async def answer(self, request: AnyRequest) -> AnyAnswer:
        self.requests.append(request)
        self._changed.set()
        self.open += 1
        try:
            before = self.before.get(type(request))
            if before is not None:
                await before(request)
            if self.is_superseded:
                return Superseded()
            if self.refusal is not None:
                return self.refusal
            return self.reply(request)
        finally:
            self.open -= 1

    def reply(self, request: AnyRequest) -> AnyAnswer:
        """Answer a request at once."""
        match request:
            case StoreStep(key, name, value):
                return self._put(key, name=name, kind="step", value=value, finished_at=self.store.now)
            case Sleep(key, name, delay, until):
                end = until if delay is None else self.store.now + delay
                return self._put(key, name=name, kind="sleep", until=end)
            case Ask(key, name, question, timeout):
                end = None if timeout is None else self.store.now + timeout
                return self._put(key, name=name, kind="input", question=question, until=end)
            case CloseQuestion(key, default):
                if self.store.steps[key].finished_at is None:
                    self.store.change(key, value=default, finished_at=self.store.now)
                return Steps((self.store.steps[key],))
            case Await():
                return self._there(request)
            case _:
                return self._of_children(request)

    def _put(self, key: str, **fields: Any) -> Steps:
        return Steps((self.store.put(key, self.attempt, **fields),))

    def _there(self, request: Await) -> Steps:
        keys = dict.fromkeys((*request.keys, *request.wait.inputs, *request.wait.children))
        return Steps(tuple(self.store.steps[key] for key in keys if self.store.is_there(request, key)))

    def _of_children(self, request: AnyRequest) -> AnyAnswer:
        match request:
            case StartChildren(key, name, _, params, first, total):
                answer = self._put(key, name=name, kind="children", total=total)
                for place, text in enumerate(params, first):
                    self.store.params.setdefault(key, {})[place] = text
                    child = Child(place=place, task_id=new_task_id(START), status=Status.PENDING)
                    self.store.children.setdefault(key, {}).setdefault(place, child)
                return answer
            case CollectChildren(key, first):
                found = self.store.children.get(key, {})
                return Children(tuple(found[place] for place in sorted(found) if place >= first)[:3])
            case RunChildrenAgain(key):
                for place, child in self.store.children[key].items():
                    if child.status in (Status.FAILED, Status.CANCELLED):
                        self.store.children[key][place] = structs.replace(child, status=Status.PENDING, error=None)
                self.store.change(key, failed=0, cancelled=0, may_run_again=False)
                return Steps((self.store.steps[key],))
        raise AssertionError(request)


def later(store: Store, **units: float) -> None:
    """Move the store's clock."""
    store.now += timedelta(**units)
