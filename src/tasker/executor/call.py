"""Call a task's function and return its Outcome: the innermost step, the same on a loop and in a child.

These are the only places that catch whatever a function raises, SystemExit and KeyboardInterrupt included.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

from msgspec import structs

from tasker.errors import (
    PROBLEMS,
    ChildFailed,
    ChildrenRefused,
    Fail,
    InputTimeout,
    RequestError,
    ResultError,
    Retry,
    Snooze,
    StepChanged,
    TaskerError,
)
from tasker.model import ExceptionInfo
from tasker.rules.lifecycle import Failed, Outcome, Parked, Released, Snoozed, Succeeded, problem
from tasker.tasktypes.durable import Durable
from tasker.tasktypes.durable_context import DurableContext, durable_of, forgotten_in
from tasker.tasktypes.registry import TaskType
from tasker.tasktypes.steps import Parking

MAX_MESSAGE = 8 * 1024
"""Characters of an exception's message that are kept."""
MAX_TRACEBACK = 16 * 1024
"""Characters of a traceback that are kept: the last ones, where the exception was raised."""

ON_RAISE: ContextVar[Callable[[BaseException], None]] = ContextVar("tasker_on_raise")
"""Called, where it is set, with whatever a function raises, in the function's context: tests chain it to what they see.
"""


class Call:
    """One call: the function, its arguments from the claim's params, and the largest result that is kept (bytes).

    context: None if the function takes none. A function whose context has begun to park must end by that.
    """

    __slots__ = ("_context", "_durable", "_max_result", "_params", "_type")

    def __init__(self, task_type: TaskType, params: bytes, context: DurableContext | None, max_result: int) -> None:
        self._type = task_type
        self._params = params
        self._context = context
        self._durable = None if context is None else durable_of(context)
        self._max_result = max_result

    def run(self, drive: Callable[[Coroutine[Any, Any, Outcome]], Outcome]) -> Outcome:
        """Call a plain function; `drive` runs a coroutine to its end. Never raises.

        A `def` may wrap an `async def`: what it returns is awaited.
        """
        try:
            args, kwargs = self._arguments()
            value = self._type.function(*args, **kwargs)
            if hasattr(type(value), "__await__"):
                return drive(self._awaited(value))
            return self._succeeded(value)
        except BaseException as error:
            return self._raised(error)

    async def _awaited(self, value: Awaitable[Any]) -> Outcome:
        try:
            return self._succeeded(await value)
        except BaseException as error:
            return self._raised(error)

    async def run_async(self) -> Outcome:
        """Await a coroutine function. Never raises: CancelledError, too, is an outcome for the caller to judge."""
        try:
            args, kwargs = self._arguments()
            return self._succeeded(await self._type.function(*args, **kwargs))
        except BaseException as error:
            return self._raised(error)

    def run_at_once(self) -> Outcome:
        """Call a coroutine function that awaits nothing. Never raises."""
        try:
            self.run_async().send(None)
        except StopIteration as ended:
            outcome: Outcome = ended.value
            return outcome
        raise AssertionError(f"the function of {self._type.name} waits")

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments. Raises _UnfitParams."""
        try:
            args, kwargs = self._type.bind(self._params)
        except RequestError as error:
            raise _UnfitParams(error) from None
        if self._type.context_parameter is not None:
            kwargs[self._type.context_parameter] = self._context
        return args, kwargs

    def _raised(self, error: BaseException) -> Outcome:
        if (notice := ON_RAISE.get(None)) is not None:
            notice(error)
        if self._durable is not None and self._durable.is_ending:
            name = type.__dict__["__name__"].__get__(type(error))
            return _unwound(self._durable, is_parking(error), f"it raised {name}")
        return raised(error)

    def _succeeded(self, value: object) -> Outcome:
        if self._durable is not None and self._durable.is_ending:
            return _unwound(self._durable, False, "it returned")
        forgotten = None if self._context is None else forgotten_in(self._context)
        if forgotten is not None:
            detail = f"{forgotten} was never awaited, and did nothing: write `await {forgotten}`"
            return Failed(problem("task-failed", detail))
        result = self._type.encode_result(value)
        if len(result) <= self._max_result:
            return Succeeded(result)
        detail = f"the result takes {len(result):,} bytes as JSON; TASKER_MAX_RESULT allows {self._max_result:,}"
        return Failed(problem("result-too-large", detail))


class _UnfitParams(Exception):
    """The params no longer fit the function. They did when they were submitted: it has changed, so no retry helps."""

    def __init__(self, error: RequestError) -> None:
        faults = "; ".join(f"{fault.pointer}: {fault.detail}" for fault in error.faults[:10])
        detail = f"{error.detail} ({faults})" if faults else error.detail
        self.outcome = Failed(problem(error.kind.name, detail))


def _unwound(durable: Durable, has_let_go: bool, what: str) -> Outcome:
    """Return the outcome of a function that has ended after its context began to park, or was superseded."""
    if durable.wait is None:
        return Released()
    if has_let_go:
        return Parked(durable.wait)
    detail = f"the task has to wait, and its function was told so by the exception Parking, but {what} instead"
    detail += " (`except BaseException`, or a gather with return_exceptions=True?)"
    return Failed(problem("park-swallowed", detail))


def is_parking(error: BaseException) -> bool:
    """Tell whether a function that parks has let itself be unwound: by Parking, or as a branch cancelled because of it.

    Other exceptions in the same group are of branches that failed meanwhile: they run again with the function.
    """
    if isinstance(error, BaseExceptionGroup):
        return any(is_parking(one) for one in error.exceptions)
    return isinstance(error, Parking) or type(error).__name__ == "CancelledError"


def raised(error: BaseException) -> Outcome:
    """Return the outcome of a function that raised `error`, whatever it is. Never raises."""
    try:
        return _raised(error)
    except BaseException:  # even looking at a user's exception may run any code
        name = type.__dict__["__name__"].__get__(type(error))
        return Failed(problem("task-raised", f"{name} (its details cannot be shown)", retryable=True))


def _raised(error: BaseException) -> Outcome:
    match error:
        case _UnfitParams():
            return error.outcome
        case Snooze():
            return Snoozed(error.after)
        case Fail():
            name = error.problem if error.problem in PROBLEMS else "task-failed"
            return _failed(name, _message(error), error.retry, error.after)
        case Retry():
            return _failed("task-failed", _message(error), True, error.after)
        case StepChanged() | InputTimeout() | ChildrenRefused() | ChildFailed():
            return _of_step(error)
        case ResultError():
            return _failed(error.name, _message(error), False, None)
        case _:
            return _unexpected(error)


def _of_step(error: StepChanged | InputTimeout | ChildrenRefused | ChildFailed) -> Outcome:
    match error:
        case StepChanged():
            return _failed("step-changed", _message(error), False, None)
        case InputTimeout():
            return _failed("input-timeout", _message(error), False, None)
        case ChildrenRefused():
            name = error.problem if error.problem in PROBLEMS else "children-refused"
            return _failed(name, _message(error), False, None)
        case _:  # a further try runs the child again
            return _failed("child-failed", _message(error), True, None)


def describe(error: BaseException) -> str:
    """Return an exception in one line, with its class name unless it is one of Tasker's own errors."""
    message = _message(error)
    return message if isinstance(error, TaskerError) else f"{type(error).__name__}: {message}".removesuffix(": ")


def _failed(name: str, detail: str, retryable: bool, after: timedelta | None) -> Failed:
    return Failed(problem(name, detail, retryable=retryable), after)


def _unexpected(error: BaseException) -> Failed:
    name, message = _class_name(type(error)), _message(error)
    shown = problem("task-raised", f"{type(error).__name__}: {message}".removesuffix(": "), retryable=True)
    info = ExceptionInfo(class_=name, message=message)
    return Failed(structs.replace(shown, exception=info, traceback=_traceback(error)))


def _class_name(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:  # the __str__ of a user's exception is broken, or exits
        return "(its message cannot be shown)"
    text = text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + "..."
    return _as_text(text)


def _traceback(error: BaseException) -> str | None:
    """Return the traceback from the task's function on, without our own frame."""
    import traceback  # slow to import, and most attempts do not fail

    try:
        frames = error.__traceback__ and error.__traceback__.tb_next
        lines = traceback.format_exception(type(error), error, frames)
    except BaseException:  # as above; also a traceback too deep or too odd to format
        return None
    text = "".join(lines)
    return _as_text(text if len(text) <= MAX_TRACEBACK else "...\n" + text[-MAX_TRACEBACK:])


def _as_text(text: str) -> str:
    """Escape lone surrogates, which no JSON text in UTF-8 can hold."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
