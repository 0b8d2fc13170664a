"""Convert an error to a message, advice and the exit code."""

from __future__ import annotations

from collections.abc import Callable

from tasker.cli.exits import Exit
from tasker.cli.terminal import note
from tasker.client import errors as client
from tasker.errors import PROBLEMS, Conflict, Fault, NotFound, TaskerError, Unavailable

_CODES: tuple[tuple[type[TaskerError], Exit], ...] = (
    (client.TaskFailed, Exit.TASK_FAILED),
    (client.TaskCancelled, Exit.TASK_FAILED),
    (client.AwaitsRestart, Exit.AWAITS_RESTART),
    (client.WaitTimeout, Exit.WAIT_TIMED_OUT),
    (client.GroupTimeout, Exit.WAIT_TIMED_OUT),
    (client.BulkTimeout, Exit.WAIT_TIMED_OUT),
    (client.NotAllowed, Exit.NOT_ALLOWED),
    (client.NotFound, Exit.NOT_FOUND),
    (client.Conflict, Exit.CONFLICT),
    (client.InvalidRequest, Exit.USAGE),
    (client.ClientError, Exit.UNREACHABLE),
    (Conflict, Exit.CONFLICT),
    (NotFound, Exit.NOT_FOUND),
    (Unavailable, Exit.UNREACHABLE),
)

_ADVICE = {
    "conflict": "`tasker get` shows the task as it is.",
    "invalid-params": "`tasker run TYPE --help` shows the params of a type.",
    "invalid-request": "",
    "unknown-field": "",
    "unknown-type": "`tasker types` lists the types of this service.",
}
"""What to do about problems, where the API's advice would not help on a command line."""


def explain(error: TaskerError, describe: Callable[[Fault], str] | None = None) -> Exit:
    """Print what went wrong and what to do; return the exit code. describe: returns a fault of the request as text."""
    describe = describe or _describe
    faults = error.faults if isinstance(error, client.ServiceError) else ()
    note(f"tasker: {error.title if faults and isinstance(error, client.ServiceError) else error}")
    for fault in faults:
        note(f"  {describe(fault)}")
    advice = _advise(error)
    if advice:
        note(advice)
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.USAGE)


def _describe(fault: Fault) -> str:
    return f"{fault.pointer or 'params'}: {fault.detail}"


def _advise(error: TaskerError) -> str:
    match error:
        case client.Unreachable():
            return f"Is the service running at {error.url}? Start it with `tasker serve`, or set TASKER_URL (or --url)."
        case client.AwaitsRestart():
            return f"Wait for it: tasker get {error.task_id} --wait"
        case client.TaskFailed():
            return f"More: tasker get {error.task_id} --attempts"
        case client.NotAllowed(status=401):
            return "Set TASKER_TOKEN to a key of the service: `tasker key create` makes one."
        case client.NotFound():
            return _advise_where_to_look(str(error))
        case client.ServiceError():
            kind = PROBLEMS.get(error.name)
            return _ADVICE.get(error.name, kind.advice if kind else "")
    return ""


def _advise_where_to_look(error: str) -> str:
    lists = {"no task type": "`tasker types` lists them.", "no task ": "`tasker ls` lists the tasks."}
    kinds = ("queue", "schedule", "key", "group", "webhook", "bulk")
    lists |= {f"no {kind} ": f"`tasker {kind} ls` lists them." for kind in kinds}
    return next((advice for words, advice in lists.items() if words in error), "")
