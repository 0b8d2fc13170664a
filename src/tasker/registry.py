"""The task types of a service: `@task` marks a plain typed function, a Registry keeps what such functions become."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from difflib import get_close_matches
from types import FunctionType, ModuleType
from typing import Any, Literal, TypeVar, overload

from tasker.errors import Fault, Invalid, RegistrationError
from tasker.loading import functions_in, import_entry_points, import_target
from tasker.model import OnCrash, Retention, RetryPolicy
from tasker.signature import NOT_A_FUNCTION, Function, place_of
from tasker.tasktype import Misspelt, Options, TaskType, make_task_type
from tasker.urls import UrlRules

__all__ = ["Registry", "TaskType", "load", "load_entry_points", "task"]

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__tasker__"
_WHERE_TYPES_LIVE = "types live in the task files of servers and workers"


@overload
def task(function: F, /) -> F: ...
@overload
def task(
    *,
    name: str | None = None,
    queue: str = "default",
    priority: int = 0,
    timeout: timedelta | float | None = None,
    retry: int | RetryPolicy | None = None,
    on_crash: OnCrash = "retry",
    memory_limit: int | str | None = None,
    example: Any = None,
    check: Callable[..., Iterable[Fault]] | None = None,
    retention: timedelta | float | Literal["forever"] | None = None,
    costs: bool = False,
) -> Callable[[F], F]: ...
def task(function: F | None = None, /, **options: Any) -> F | Callable[[F], F]:
    """Mark a typed function as a task type; it can still be called as before.

    name: default the function's. priority: -100 to 100, larger is sooner. timeout: of an attempt, a timedelta or
    seconds; default that of the service. retry: attempts in all (default 1) or a RetryPolicy. on_crash: "retry" (at
    most 3 crashes) or "fail" when the child process dies. memory_limit: resident memory of a `def` function's child
    process, bytes or "512MB". example: params to show; default made from the types. retention: how long a task is kept
    after its end, a timedelta, seconds or "forever"; default that of the service. check: called with the params of a
    submission by name, defaults filled in; yields a `tasker.errors.Fault` for each thing wrong that types cannot say.
    costs: its tasks cost money (`context.usage(cost=...)`, in dollars), and daily budgets hold for them.

    What is wrong with the function or the options is found when it is registered (RegistrationError).
    """
    settled = _settle(options)

    def mark(function: F) -> F:
        if not isinstance(function, FunctionType):
            raise RegistrationError(f"{function!r:.200}: {NOT_A_FUNCTION}")
        setattr(function, _MARK, settled)
        return function

    return mark if function is None else mark(function)


def _settle(options: dict[str, Any]) -> Options:
    names = Options.__dataclass_fields__
    known = {name: value for name, value in options.items() if name in names}
    unknown = tuple(name for name in options if name not in names)
    return Misspelt(**known, unknown=unknown) if unknown else Options(**known)


def _is_task(member: Any) -> bool:
    return isinstance(member, FunctionType) and isinstance(getattr(member, _MARK, None), Options)


class Registry:
    """Task types by name. The defaults are for types that have none of their own.

    Iterating yields its own types, which this process can run; `known` adds those that other processes have published.

    url_rules: where a webhook may lead that comes with a submission. version: grows when published types change.
    """

    def __init__(
        self, *, default_timeout: timedelta = timedelta(seconds=300),
        default_retention: Retention = timedelta(days=30),
    ) -> None:  # fmt: skip
        self._default_retention = default_retention
        self._default_timeout = default_timeout
        self.url_rules = UrlRules()
        self._types: dict[str, TaskType] = {}
        self._published: dict[str, TaskType] = {}
        self.version = 0

    def add(self, what: Function | TaskType) -> TaskType:
        """Register a function (marked with @task or not) or a task type, and return the type.

        Adding the same function again changes nothing. Raises RegistrationError, also when the name is taken.
        """
        task_type = what if isinstance(what, TaskType) else make_task_type(what, getattr(what, _MARK, Options()))
        known = self._types.get(task_type.name)
        if known is not None:
            if known.function is task_type.function:
                return known
            raise RegistrationError(
                f"{task_type.source}: {task_type.function.__qualname__}: the name {task_type.name!r} is taken by "
                f"{known.function.__qualname__} at {known.source}; choose another with @task(name=...)"
            )
        self._types[task_type.name] = task_type.with_timeout(self._default_timeout).with_retention(
            self._default_retention
        )
        return self._types[task_type.name]

    def take_published(self, types: Iterable[TaskType]) -> None:
        """Know these types, which other processes run, instead of those before. One of its own hides theirs."""
        self._published = {one.name: one for one in types}
        self.version += 1

    def get(self, name: str) -> TaskType:
        """Return the task type. Raises Invalid ("unknown-type"), naming those with a similar name."""
        found = self.find(name)
        if found is None:
            close = get_close_matches(name, self.known_names(), n=3)
            hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
            shown = name if len(name) <= 100 else f"{name[:100]}..."
            raise Invalid(f"there is no task type {shown!r}{hint} ({_WHERE_TYPES_LIVE})", name="unknown-type")
        return found

    def find(self, name: str) -> TaskType | None:
        """Return the task type, or None."""
        return self._types.get(name) or self._published.get(name)

    def known(self) -> Iterator[TaskType]:
        """Yield every type that can be submitted: its own, then those that other processes alone can run."""
        yield from self._types.values()
        yield from (one for name, one in self._published.items() if name not in self._types)

    def known_names(self) -> list[str]:
        """Return the names of `known`."""
        return list(self._types | self._published)

    def names(self) -> list[str]:
        """Return the names of its own types in the order of registration."""
        return list(self._types)

    def __iter__(self) -> Iterator[TaskType]:
        return iter(self._types.values())

    def __len__(self) -> int:
        return len(self._types)

    def __contains__(self, name: object) -> bool:
        return name in self._types or name in self._published


def load(registry: Registry, targets: Iterable[str]) -> None:
    """Import files, folders (every .py in them) and dotted modules, and register their @task functions.

    Raises RegistrationError, naming file and function, or file and line, for the first fault.
    """
    for target in targets:
        for module in import_target(target):
            _add_all(registry, module)


def load_entry_points(registry: Registry) -> None:
    """Register what installed packages offer in the group "tasker.tasks": modules with @task functions, or functions.

    Raises RegistrationError.
    """
    for description, found in import_entry_points():
        if isinstance(found, ModuleType):
            _add_all(registry, found)
        elif _is_task(found):
            registry.add(found)
        else:
            offered = f"{place_of(found)}: " if isinstance(found, FunctionType) else ""
            raise RegistrationError(f"{offered}{description} is no module and no @task")


def _add_all(registry: Registry, module: ModuleType) -> None:
    for function in functions_in(module, _is_task):
        registry.add(function)
