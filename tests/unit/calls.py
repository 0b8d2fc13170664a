"""Carries out the calls of a context over a store in memory, without I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.executor.stepper import MemoryStepper, Store

from tasker import ChildOptions
from tasker.tasktypes.calls import Calls
from tasker.tasktypes.durable import Durable
from tasker.tasktypes.operations import Invoke, Operation, Pause
from tasker.tasktypes.signature import ABSENT
from tasker.tasktypes.steps import (
    Superseded,
)

MAX_VALUE = 1000


@dataclass
class Receipt:
    order: str
    total: int


class Reports:
    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, Any]]] = []

    def step(self, event: str, data: Mapping[str, Any]) -> None:
        self.events.append((event, data))


class Attempt:
    """One attempt of a function, over a store that outlives it. What it waits for never comes within its patience."""

    def __init__(self, store: Store, attempt: int = 1) -> None:
        self.stepper = MemoryStepper(store, attempt)
        self.reports = Reports()
        self.durable = Durable(self.stepper.stored, lambda: None)
        self.calls = Calls(self.durable, self.reports, attempt, MAX_VALUE)  # type: ignore[arg-type]
        self.pauses: list[float] = []

    def run(self, operation: Operation[Any]) -> Any:
        go_on: Callable[[Any], Any] = operation.send
        value: Any = None
        try:
            while True:
                effect = go_on(value)
                try:
                    value, go_on = self._do(effect), operation.send
                except BaseException as error:
                    value, go_on = error, operation.throw
        except StopIteration as end:
            return end.value

    def _do(self, effect: Any) -> Any:
        if isinstance(effect, Invoke):
            return effect.function(*effect.args, **effect.kwargs)
        if isinstance(effect, Pause):
            self.pauses.append(effect.seconds)
            return None
        self.stepper.requests.append(effect)
        return self.stepper.refusal or (Superseded() if self.stepper.is_superseded else self.stepper.reply(effect))

    def step(
        self, name: str, function: Any, *args: Any, retry: Any = None, returns: Any = ABSENT, **kwargs: Any
    ) -> Any:
        return self.run(self.calls.step(name, function, args, kwargs, key=None, retry=retry, returns=returns))

    def sleep(self, name: str = "nap", *, until: datetime | None = None, **units: float | None) -> None:
        self.run(self.calls.sleep(name, units, key=None, until=until))

    def ask(self, type_: Any = bool, **options: Any) -> Any:
        fields = {"key": None, "message": "Well?", "choices": None, "timeout": None, "default": ABSENT} | options
        return self.run(self.calls.ask("approve", type_, **fields))

    def call(self, target: Any, *args: Any, options: ChildOptions | None = None, **kwargs: Any) -> Any:
        return self.run(self.calls.call(target, args, kwargs, name=None, key=None, options=options))

    def map(self, target: Any, items: Any, *more: Any, max_in_flight: Any = None, return_errors: bool = False) -> Any:
        operation = self.calls.map(
            target,
            items,
            more,
            name=None,
            key=None,
            options=None,
            max_in_flight=max_in_flight,
            return_errors=return_errors,
        )
        return self.run(operation)

    @property
    def kinds(self) -> list[str]:
        return [type(request).__name__ for request in self.stepper.requests]


def charge(order: str, total: int = 5) -> Receipt:
    return Receipt(order, total)
