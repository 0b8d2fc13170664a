"""From what a function did to an Outcome: the same on the loop and in a child process."""

from __future__ import annotations

from datetime import timedelta

from msgspec import structs

from tasker.errors import PROBLEMS, Fail, ResultError, Retry, Snooze, TaskerError
from tasker.model import ExceptionInfo
from tasker.rules.lifecycle import Failed, Outcome, Snoozed, Succeeded, problem
from tasker.tasktypes.registry import TaskType

MAX_MESSAGE = 8 * 1024
"""Characters of an exception's message that are kept."""
MAX_TRACEBACK = 16 * 1024
"""Characters of a traceback that are kept: the last ones, where the exception was raised."""


def succeeded(task_type: TaskType, value: object, max_result: int) -> Outcome:
    """Return the outcome of a function that returned `value`; a result of more than `max_result` bytes failed."""
    result = task_type.encode_result(value)
    if len(result) > max_result:
        detail = f"the result takes {len(result):,} bytes as JSON; TASKER_MAX_RESULT allows {max_result:,}"
        return Failed(problem("result-too-large", detail))
    return Succeeded(result)


def raised(error: BaseException) -> Outcome:
    """Return the outcome of a function that raised `error`, whatever it is. Never raises."""
    try:
        return _raised(error)
    except BaseException:  # an exception of the user's may do anything when it is looked at
        name = type.__dict__["__name__"].__get__(type(error))
        return Failed(problem("task-raised", f"{name} (its details cannot be shown)", retryable=True))


def _raised(error: BaseException) -> Outcome:
    match error:
        case Snooze():
            return Snoozed(error.after)
        case Fail():
            name = error.problem if error.problem in PROBLEMS else "task-failed"
            return _failed(name, _message(error), error.retry, error.after)
        case Retry():
            return _failed("task-failed", _message(error), True, error.after)
        case ResultError():
            return _failed(error.name, _message(error), False, None)
        case _:
            return _surprised(error)


def describe(error: BaseException) -> str:
    """Return what an exception says in one line; Tasker's own errors need no class name."""
    message = _message(error)
    return message if isinstance(error, TaskerError) else f"{type(error).__name__}: {message}".removesuffix(": ")


def _failed(name: str, detail: str, retryable: bool, after: timedelta | None) -> Failed:
    return Failed(problem(name, detail, retryable=retryable), after)


def _surprised(error: BaseException) -> Failed:
    name, message = _class_name(type(error)), _message(error)
    told = problem("task-raised", f"{type(error).__name__}: {message}".removesuffix(": "), retryable=True)
    info = ExceptionInfo(class_=name, message=message)
    return Failed(structs.replace(told, exception=info, traceback=_traceback(error)))


def _class_name(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:  # an exception of the user's whose own __str__ is broken, or exits
        return "(its message cannot be shown)"
    text = text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + "..."
    return _as_text(text)


def _traceback(error: BaseException) -> str | None:
    """Return the traceback from the function on; the frames of the executor around it say nothing to a user."""
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
