"""Every error of Tasker, as one tree:

TaskerError
├── ConfigError            a setting is wrong: the process does not start
│   ├── StoreInUse         another process has the data folder
│   └── PortTaken          another process listens on the port
├── ArchiveError           an import is not a complete archive
├── RegistrationError      a function cannot become a task type: it is left out, and named
│   └── NoSuchTarget       a named file, folder or module does not exist: the process does not start
├── RequestError           a client's request fails; knows its problem
│   ├── Malformed          not JSON, or JSON beyond our limits             400
│   ├── Invalid            wrong content; names every fault                422
│   ├── Forbidden          the key lacks a scope                           403
│   ├── NotFound           no such task, type...                           404
│   │   └── Expired        the task's retention is over                    410
│   ├── Conflict           wrong state for the request                     409
│   │   └── LimitReached   there are as many as there may be               409
│   ├── Exhausted          the budget is used up                           429
│   └── Unavailable        the store cannot write now; nothing changed     503
├── ResultError            a task's return value cannot be stored
├── StepChanged            a stored step does not fit the code any more
├── ChildFailed            a child of the task failed or was cancelled; raised in its parent's function
├── ChildrenRefused        children cannot be started; raised in the function that wants to
└── InputTimeout           nobody answered a question in time; raised in the function that asks

Fail, Retry and Snooze are not errors of Tasker: a task function raises them to end its attempt in that way.
PROBLEMS has the name, HTTP status, title and advice of every problem, as /problems/{name} shows them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self
from uuid import UUID

from msgspec import Struct


class ProblemKind(Struct, frozen=True):
    """One kind of problem. `status`: the HTTP status; None for problems that occur only in a failed task's `error`."""

    name: str
    status: int | None
    title: str
    advice: str


def _kinds(*rows: tuple[str, int | None, str, str]) -> dict[str, ProblemKind]:
    return {row[0]: ProblemKind(*row) for row in rows}


PROBLEMS: dict[str, ProblemKind] = _kinds(
    ("malformed-json", 400, "The body is not JSON", "Send one JSON value in UTF-8 (RFC 8259)."),
    ("too-deep", 400, "The JSON is nested too deeply", "Nest at most 64 levels."),
    ("duplicate-key", 400, "An object names a key twice", "Name each key once."),
    ("bad-request", 400, "The request cannot be understood", "Correct the request as the detail says."),
    ("bad-host", 400, "The Host header is missing or repeated", "Send exactly one Host header."),
    (
        "unauthorized",
        401,
        "A valid key is needed",
        "Send `Authorization: Bearer <key>`; `tasker key create` makes one.",
    ),
    ("forbidden", 403, "The key may not do this", "Use a key with the scope that the detail names."),
    ("cross-origin", 403, "Refused for pages of other origins", "Call from the same origin, or from a program."),
    ("not-found", 404, "There is nothing here", "Check the path and the id; GET /openapi.json lists every path."),
    ("method-not-allowed", 405, "This path does not take that method", "Use a method of the Allow header."),
    ("not-acceptable", 406, "The reply is JSON", "Accept application/json or */*."),
    ("request-timeout", 408, "The request came too slowly", "Send the body faster, as the detail says."),
    ("expired", 410, "The task has expired", "It ran and was erased when its `retention` was over; submit it again."),
    ("conflict", 409, "The task's status does not allow this", "Read the task, then decide."),
    ("not-unique", 409, "An open task has this unique_key", "Wait for it, or submit with on_conflict `return`."),
    ("idempotency-in-flight", 409, "A request with this key is under way", "Wait for its reply, then ask again."),
    ("limit-reached", 409, "Limit reached", "Remove one, or have the limit raised."),
    ("name-taken", 409, "The name is taken", "Choose another name, or change the one that has it."),
    ("payload-too-large", 413, "The body is too large", "Pass a reference to the data, or raise TASKER_MAX_BODY."),
    ("uri-too-long", 414, "The address is too long", "Shorten the path and the query."),
    ("unsupported-media-type", 415, "The body must be application/json", "Send Content-Type: application/json."),
    ("unsupported-encoding", 415, "Compressed bodies are not taken", "Send the body without Content-Encoding."),
    ("misdirected", 421, "This host name is not served here", "Add the name to TASKER_ALLOWED_HOSTS."),
    ("invalid-request", 422, "Some fields are wrong", "Correct each field that `errors` names."),
    ("unknown-field", 422, "A field is not known", "Leave out the fields that `errors` names."),
    ("unsafe-url", 422, "A webhook may not lead there", "Give an https URL of a public host, without a user."),
    ("unknown-type", 422, "There is no such task type", "GET /type lists the types of this service."),
    (
        "type-not-loaded",
        503,
        "The file of this task type is broken",
        "Correct the file that the detail names, restart.",
    ),
    ("invalid-params", 422, "The params do not fit the task type", "GET /type/{name} shows the schema."),
    ("number-out-of-range", 422, "A number is too large", "Use at most 1,000 digits, and floats below 1.8e308."),
    ("invalid-unicode", 422, "A string holds no valid text", "Leave out lone surrogates and NUL characters."),
    ("too-many-items", 422, "There are too many items", "Send at most 100,000 keys and elements in all."),
    ("idempotency-key-reuse", 422, "This key belongs to another request", "Use a new Idempotency-Key."),
    ("budget-exhausted", 429, "Today's budget is used up", "Ask again after Retry-After, or have the budget raised."),
    ("rate-limited", 429, "Too many requests", "Ask again after Retry-After."),
    ("headers-too-large", 431, "The headers are too large", "Send at most 100 headers, 16 KiB in all."),
    ("internal", 500, "Tasker has a fault", "Look into the server's log for the Request-Id; please report it."),
    ("unavailable", 503, "The store cannot take this now", "Nothing was changed: ask again after Retry-After."),
    ("queue-full", 503, "Too many tasks are pending", "Nothing was changed: ask again after Retry-After."),
    ("shutting-down", 503, "The service is stopping", "Ask again after Retry-After."),
    ("task-failed", None, "The task failed", "Read the detail: the task itself gave it."),
    ("task-raised", None, "The task's function raised an exception", "Read the exception, correct the function."),
    ("deadline-passed", None, "No attempt could start before the deadline", "Submit it again with a later one."),
    ("dependency-failed", None, "A task that it depends on did not complete", "Run that one again, then this one."),
    ("timed-out", None, "The attempt took longer than its timeout", "Raise `timeout`, or make the task shorter."),
    ("worker-crashed", None, "The process that ran the task died", "Look for memory limits, signals, native code."),
    ("memory-limit", None, "The attempt used more memory than it may", "Raise `memory_limit`, or use less."),
    ("result-not-serializable", None, "The result is not what the function declares", "Return the declared type."),
    (
        "result-too-large",
        None,
        "The result is too large",
        "Store it elsewhere and return a reference, or raise TASKER_MAX_RESULT.",
    ),
    (
        "step-changed",
        None,
        "A stored step does not fit the code any more",
        "Give the step another name, or retry the task with `forget`.",
    ),
    (
        "park-swallowed",
        None,
        "The function went on though it has to wait",
        "Let BaseException pass: catch Exception, or raise again what you catch.",
    ),
    ("child-failed", None, "A child of the task failed", "Read the child that the detail names; then retry this one."),
    ("children-refused", None, "Children of the task could not be started", "Read the detail."),
    ("input-timeout", None, "Nobody answered in time", "Ask with a longer `timeout`, or with a `default`."),
    ("secrets-erased", None, "The task's secret params are not there", "Submit the task again, with its secrets."),
    ("gpt-not-configured", None, "No language model is set up", "Set OPENAI_API_KEY, or run `tasker model install`."),
    ("gpt-refused", None, "The model's provider refused the request", "Read the provider's message."),
    ("gpt-unavailable", None, "The model's provider could not be reached", "It is tried again by itself."),
    ("gpt-content-filter", None, "The provider's content filter stopped the text", "Change the prompt."),
    ("gpt-truncated", None, "The model's text was cut off on its way", "Submit the task again."),
    (
        "gpt-schema-mismatch",
        None,
        "The model's text does not fit the schema",
        "Make the schema simpler, or the prompt more precise.",
    ),
    ("gpt-quota", None, "The account has no quota left", "Check the plan and billing of the key's account."),
)


class TaskerError(Exception):
    """Root of the tree."""


class ConfigError(TaskerError):
    """A setting is wrong; the message names the variable, what was expected and what was got."""


class StoreInUse(ConfigError):
    """Another process has the store, which only one may open; `holder` names it."""

    def __init__(self, message: str, holder: str) -> None:
        super().__init__(message)
        self.holder = holder


class PortTaken(ConfigError):
    """Another process began to listen on the port that this one has bound."""


class ArchiveError(TaskerError):
    """An import is not a complete archive of `tasker export`; the message names the line, and what to do."""


class CheckStopped(BaseException):
    """Raised in the thread of a check of params that takes too long. `except Exception` does not catch it."""


class RegistrationError(TaskerError):
    """A function cannot become a task type; the message names file and function."""


class NoSuchTarget(RegistrationError):
    """The file, folder or module to load does not exist."""


class ResultError(TaskerError):
    """A return value cannot be stored; `name` is its problem."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(detail)
        self.name = name


class Fault(Struct, frozen=True):
    """One thing wrong with an input: an RFC 6901 JSON Pointer into it, and a sentence."""

    pointer: str
    detail: str


class RequestError(TaskerError):
    """A request fails. name: a row of PROBLEMS, by default the class's. faults: every fault found."""

    default: ClassVar[str] = "bad-request"

    def __init__(
        self,
        detail: str,
        *,
        name: str | None = None,
        faults: Sequence[Fault] = (),
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = PROBLEMS[name or self.default]
        self.detail = detail
        self.faults = tuple(faults)
        self.retry_after = retry_after


class Malformed(RequestError):
    """The body is not JSON, or JSON beyond our limits."""

    default = "malformed-json"


class Invalid(RequestError):
    """The content of the request is wrong."""

    default = "invalid-request"


class Forbidden(RequestError):
    """The caller's key lacks `scope`."""

    default = "forbidden"

    def __init__(self, scope: str, why: str = "") -> None:
        super().__init__(f"{why}{': ' if why else ''}the key lacks the scope {scope}")
        self.scope = scope


class NotFound(RequestError):
    """What the request names does not exist."""

    default = "not-found"


class Expired(NotFound):
    """The task's retention is over: it is erased, or about to be."""

    default = "expired"

    @classmethod
    def of(cls, task_id: UUID, at: datetime) -> Self:
        """Return the error for a task that expired at `at`."""
        return cls(f"task {task_id} was kept until {at:%Y-%m-%dT%H:%M:%SZ}, and has expired")


class Conflict(RequestError):
    """The wrong state for the request."""

    default = "conflict"


class LimitReached(Conflict):
    """There are as many as there may be."""

    default = "limit-reached"


class Exhausted(RequestError):
    """The budget is used up."""

    default = "budget-exhausted"


class Unavailable(RequestError):
    """The store cannot write now, and nothing was changed."""

    default = "unavailable"


class StepChanged(TaskerError):
    """A stored step does not fit the code: its result has another type, or its children are others. No retry helps."""

    def __init__(self, key: str, detail: str) -> None:
        super().__init__(
            f"step {key!r}: {detail}; give the step another name, or retry the task with "
            f'{{"forget": ["{key}"]}} to run it again'
        )
        self.key = key


class ChildFailed(TaskerError):
    """A child of the running task failed or was cancelled. error: its TaskProblem; None if it was cancelled."""

    def __init__(self, task_id: UUID, error: Any) -> None:
        super().__init__(f"child {task_id} " + ("was cancelled" if error is None else f"failed: {_cause(error)}"))
        self.task_id = task_id
        self.error = error


def _cause(error: Any) -> str:
    """Return why a child failed; if that was a child of its own, why the one at the end of the line did, and which."""
    found = _OF_CHILD.fullmatch(error.detail) if error.type == "/problems/child-failed" else None
    return str(error.detail) if found is None else f"{found['cause']} (in {found['deepest'] or found['child']})"


_OF_CHILD = re.compile(r"child (?P<child>\S+) failed: (?P<cause>.*?)(?: \(in (?P<deepest>[0-9a-f-]{36})\))?", re.DOTALL)


class ChildrenRefused(TaskerError):
    """Children cannot be started, for a reason that the message gives; problem: a row of PROBLEMS."""

    def __init__(self, problem: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = problem


class InputTimeout(TaskerError):
    """Nobody answered the question `name` in time, and it has no default."""

    def __init__(self, name: str) -> None:
        super().__init__(f"nobody answered {name!r} in time")
        self.name = name


class Fail(Exception):
    """Raise in a task to fail it; with `retry=False` (the default) at once and for good.

    `problem` names a row of PROBLEMS for built-in tasks; `after` is the least delay before the next try.
    """

    def __init__(
        self, detail: str, *, retry: bool = False, after: timedelta | float | None = None, problem: str = "task-failed"
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry = retry
        self.after = _delay(after)
        self.problem = problem


class Retry(Exception):
    """Raise in a task to try it again after `after` seconds (default: its backoff); uses up a try."""

    def __init__(self, detail: str = "the task asked to be tried again", *, after: timedelta | float | None = None):
        super().__init__(detail)
        self.detail = detail
        self.after = _delay(after)


class Snooze(Exception):
    """Raise in a task to postpone it by `after` (seconds or timedelta); uses up no try."""

    def __init__(self, after: timedelta | float) -> None:
        delay = _delay(after)
        assert delay is not None
        super().__init__(f"snoozed for {delay}")
        self.after = delay


def _delay(after: timedelta | float | None) -> timedelta | None:
    delay = timedelta(seconds=after) if isinstance(after, int | float) else after
    if delay is not None and delay < timedelta(0):
        raise ValueError(f"after must not be negative, got {delay}")
    return delay
