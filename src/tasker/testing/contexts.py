"""A context for calling a task's function directly: it keeps what the function reports, and runs its steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, overload

import msgspec

from tasker.model import Progress, new_task_id
from tasker.model.steps import Question, Step
from tasker.tasktypes.carrying import SKIPS_PAUSES
from tasker.tasktypes.context import Context
from tasker.tasktypes.operations import Operation
from tasker.tasktypes.steps import AnyAnswer, AnyRequest, Ask, Refused, Sleep, StepEvent, Steps, StoreStep
from tasker.tasktypes.sync_context import SyncContext
from tasker.testing.clock import START

R = TypeVar("R")

_MAX_VALUE = 1 << 20
"""Bytes of a step's result, as in a service without settings."""


class LogRecord(NamedTuple):
    """A call of `context.log`."""

    level: str
    message: str
    fields: dict[str, Any]


@dataclass
class Recorded:
    """What a function has reported to its context, oldest first. steps: the keys of its steps.

    answers: to its questions, by name. is_cancelled: what `context.cancelled` says from now on.
    """

    progress: list[Progress] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    logs: list[LogRecord] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    is_cancelled: bool = False

    @property
    def output(self) -> str:
        """The whole text of `context.output`."""
        return "".join(self.outputs)


class RecordingContext(Context):
    """A Context outside a service. recorded: what was reported to it."""

    __slots__ = ("recorded",)

    def __init__(self, recorded: Recorded, attempt: int = 1) -> None:
        port = _AsyncPort(recorded, attempt)
        super().__init__(new_task_id(START), attempt, _Reporter(recorded), lambda: recorded.is_cancelled, port)
        self.recorded = recorded

    async def _carry_out(self, operation: Operation[R]) -> R:
        token = SKIPS_PAUSES.set(True)
        try:
            return await super()._carry_out(operation)
        finally:
            SKIPS_PAUSES.reset(token)


class RecordingSyncContext(SyncContext):
    """A SyncContext outside a service. recorded: what was reported to it."""

    __slots__ = ("recorded",)

    def __init__(self, recorded: Recorded, attempt: int = 1) -> None:
        port = _SyncPort(recorded, attempt)
        super().__init__(new_task_id(START), attempt, _Reporter(recorded), lambda: recorded.is_cancelled, port)
        self.recorded = recorded


@overload
def make_context(*, attempt: int = 1, answers: Mapping[str, Any] | None = None) -> RecordingSyncContext: ...
@overload
def make_context(
    kind: type[Context], *, attempt: int = 1, answers: Mapping[str, Any] | None = None
) -> RecordingContext: ...
@overload
def make_context(
    kind: type[SyncContext], *, attempt: int = 1, answers: Mapping[str, Any] | None = None
) -> RecordingSyncContext: ...
def make_context(
    kind: type[Any] = SyncContext, *, attempt: int = 1, answers: Mapping[str, Any] | None = None
) -> RecordingContext | RecordingSyncContext:
    """Return a context for calling a task's function directly: `SyncContext` for `def`, `Context` for `async def`.

    `context.recorded` has what the function reports. Its steps run, sleeps are over at once, questions get the answer
    of that name in `answers`. It starts no children: for a function with children use `run`.
    """
    recorded = Recorded(answers=dict(answers or {}))
    return (RecordingContext if kind is Context else RecordingSyncContext)(recorded, attempt)


class _Reporter:
    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded

    def progress(self, progress: Progress) -> None:
        self._recorded.progress.append(progress)

    def output(self, chunk: str) -> None:
        self._recorded.outputs.append(chunk)

    def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        self._recorded.logs.append(LogRecord(level, message, dict(fields)))

    def usage(self, usage: Mapping[str, Any]) -> None:
        self._recorded.usage |= usage

    def step(self, event: StepEvent, data: Mapping[str, Any]) -> None:
        pass  # `steps` has those that were stored


class _Port:
    """Answers requests about steps at once: nothing is waited for."""

    def __init__(self, recorded: Recorded, attempt: int) -> None:
        self.stored: tuple[Step, ...] = ()
        self.max_value = _MAX_VALUE
        self._recorded = recorded
        self._attempt = attempt

    def answer(self, request: AnyRequest) -> AnyAnswer:
        match request:
            case StoreStep(key, name, value):
                return self._keep(key, name=name, kind="step", value=value)
            case Sleep(key, name):
                return self._keep(key, name=name, kind="sleep")
            case Ask(key, name, question):
                return self._ask(key, name, question)
        return Refused(
            "children-refused", "make_context() starts no children: test this function with tasker.testing.run()"
        )

    def _ask(self, key: str, name: str, question: bytes) -> AnyAnswer:
        answers = self._recorded.answers
        if name not in answers:
            message = msgspec.json.decode(question, type=Question).message
            return Refused("task-failed", f"there is no answer to {message!r}: make_context(answers={{{name!r}: ...}})")
        return self._keep(key, name=name, kind="input", value=msgspec.json.encode(answers[name]), question=question)

    def _keep(self, key: str, **fields: Any) -> Steps:
        self._recorded.steps.append(key)
        number = len(self._recorded.steps)
        step = Step(key=key, number=number, attempt=self._attempt, started_at=START, finished_at=START, **fields)
        return Steps((step,))


class _SyncPort(_Port):
    def ask(self, request: AnyRequest) -> AnyAnswer:
        return self.answer(request)

    def wait(self, request: AnyRequest | None, seconds: float | None, until: Callable[[], bool]) -> AnyAnswer | None:
        return None if request is None else self.answer(request)

    def wake(self) -> None:
        pass


class _AsyncPort(_Port):
    def ask(self, request: AnyRequest) -> asyncio.Future[AnyAnswer]:
        future: asyncio.Future[AnyAnswer] = asyncio.get_running_loop().create_future()
        future.set_result(self.answer(request))
        return future
