"""The task types of a service: `@task` marks plain typed functions, a Registry keeps the types made of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from datetime import timedelta
from difflib import get_close_matches
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct

from tasker.errors import Invalid, NoSuchTarget, RegistrationError
from tasker.model import Retention
from tasker.tasktypes.functions import add_options
from tasker.tasktypes.loading import (
    Source,
    declared_names,
    find_entry_points,
    find_sources,
    functions_in,
    import_source,
)
from tasker.tasktypes.making import make_task_type
from tasker.tasktypes.options import MARK, Misspelt, Options
from tasker.tasktypes.signature import NOT_A_FUNCTION, Function, place_of, reject
from tasker.tasktypes.tasktype import TaskType

__all__ = ["LoadFault", "Registry", "TaskType", "load", "load_entry_points", "task"]

if TYPE_CHECKING:
    from tasker.tasktypes.functions import Marking

_LONGEST = 100
"""Characters of a type's name at most."""
_WHERE_TYPES_LIVE = "types live in the task files of servers and workers"


def _typed(function: Any) -> Marking:
    return cast("Marking", function)


@_typed
def task(function: Any = None, /, **options: Any) -> Any:
    """Mark a typed function as a task type; it can be called as before.

    name: default the function's. priority: -100 to 100, larger is sooner. timeout: of an attempt, a timedelta or
    seconds; default that of the service. retry: attempts in all (default 1) or a RetryPolicy. on_crash: "retry" (at
    most 3 crashes) or "fail" when the child process dies. memory_limit: resident memory of a `def` function's child
    process, bytes or "512MB". example: params to show; default made from the types. retention: how long a task is kept
    after its end, a timedelta, seconds or "forever"; default that of the service. check: called with the params of a
    submission by name, defaults filled in; yields a `tasker.errors.Fault` for each fault that types cannot express. It
    runs in a thread of the service, for at most 5 seconds. costs: its tasks cost money (`context.usage(cost=...)`, in
    US dollars), and daily budgets apply to them.

    A fault of the function or the options is raised when it is registered (RegistrationError).
    """
    settled = _settle(options)

    def mark(function: Any) -> Any:
        if not isinstance(function, FunctionType):
            inner = inspect.unwrap(function)  # the function that functools.cache and the like wrap
            if isinstance(inner, FunctionType):
                reject(inner, NOT_A_FUNCTION)
            raise RegistrationError(f"{function!r:.200}: {NOT_A_FUNCTION}")
        setattr(function, MARK, settled)
        add_options(function)
        return function

    return mark if function is None else mark(function)


def _settle(options: dict[str, Any]) -> Options:
    names = Options.__dataclass_fields__
    known = {name: value for name, value in options.items() if name in names}
    unknown = tuple(name for name in options if name not in names)
    return Misspelt(**known, unknown=unknown) if unknown else Options(**known)


def _is_task(member: Any) -> bool:
    return isinstance(member, FunctionType) and isinstance(getattr(member, MARK, None), Options)


class LoadFault(Struct, frozen=True):
    """A target (a file, a module, an entry point) that could not be loaded, why, and the names of its types.

    types: the names that were found in its source, without types that another target has registered.
    """

    target: str
    detail: str
    types: tuple[str, ...]


class Registry:
    """Task types by name. faults: what could not be loaded. The defaults apply to types without their own.

    Iterating yields the own types, which this process can run; `known` adds the types that other processes published.

    version: grows when published types change.
    """

    def __init__(
        self,
        *,
        default_timeout: timedelta = timedelta(seconds=300),
        default_retention: Retention = timedelta(days=30),
    ) -> None:
        self.default_retention = default_retention
        self._default_timeout = default_timeout
        self.faults: list[LoadFault] = []
        self._types: dict[str, TaskType] = {}
        self._published: dict[str, TaskType] = {}
        self.version = 0

    def add(self, what: Function | TaskType) -> TaskType:
        """Register a function (marked with @task or not) or a task type, and return the type.

        Adding the same function again changes nothing. Raises RegistrationError, also when the name is taken.
        """
        task_type = what if isinstance(what, TaskType) else make_task_type(what, getattr(what, MARK, Options()))
        known = self._types.get(task_type.name)
        if known is not None:
            if known.function is task_type.function:
                return known
            raise RegistrationError(
                f"{task_type.source}: {task_type.function.__qualname__}: the name {task_type.name!r} is taken by "
                f"{known.function.__qualname__} at {known.source}; choose another with @task(name=...)"
            )
        self._types[task_type.name] = task_type.with_timeout(self._default_timeout).with_retention(
            self.default_retention
        )
        return self._types[task_type.name]

    def take_published(self, types: Iterable[TaskType]) -> None:
        """Replace the types that other processes run. A type of its own hides theirs."""
        self._published = {one.name: one for one in types}
        self.version += 1

    def get(self, name: str) -> TaskType:
        """Return the task type. Raises Invalid ("unknown-type", naming similar ones, or "type-not-loaded")."""
        found = self.find(name)
        if found is None:
            raise Invalid(self.explain(name), name=self.refusal(name))
        return found

    def refusal(self, name: str) -> str:
        """Return the name of the problem for a type that is not registered."""
        return "type-not-loaded" if self._faults_of(name) else "unknown-type"

    def explain(self, name: str) -> str:
        """Return why a type is not registered: what is wrong with its file, or which types have a similar name."""
        shown = name if len(name) <= 100 else f"{name[:100]}..."
        if faults := self._faults_of(name):
            return f"the task type {shown!r} could not be loaded: {'; '.join(fault.detail for fault in faults)}"
        close = get_close_matches(name, self.known_names(), n=3) if len(name) <= _LONGEST else []
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        lost = [fault.target for fault in self.faults if not fault.types]
        if lost:
            hint += f"; it may be in what could not be loaded: {', '.join(lost[:5])}"
        return f"there is no task type {shown!r}{hint} ({_WHERE_TYPES_LIVE})"

    def add_fault(self, target: str, detail: str, types: Iterable[str] = ()) -> None:
        """Record that a target could not be loaded; `detail` becomes one line."""
        self.faults.append(
            LoadFault(target, " ".join(detail.split()), tuple(name for name in types if name not in self._types))
        )

    def _faults_of(self, name: str) -> list[LoadFault]:
        return [fault for fault in self.faults if name in fault.types]

    def find(self, name: str) -> TaskType | None:
        """Return the task type, or None."""
        return self._types.get(name) or self._published.get(name)

    def known(self) -> Iterator[TaskType]:
        """Yield every type that can be submitted: its own, then those that only other processes run."""
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


def load(registry: Registry, targets: Iterable[str], *, all_there: bool = True) -> None:
    """Import files, folders (every .py in them) and dotted modules, and register their @task functions.

    What cannot be loaded is left out, and listed in `registry.faults`. all_there: raise NoSuchTarget for a target that
    does not exist, instead of listing it.
    """
    for target in targets:
        try:
            for source in find_sources(target):
                _load_source(registry, source, all_there)
        except NoSuchTarget as error:
            if all_there:
                raise
            registry.add_fault(target, str(error))


def load_sources(registry: Registry, sources: Iterable[Source]) -> None:
    """Import modules that `find_sources` has found, as `load` does. What cannot be loaded is listed in `faults`."""
    for source in sources:
        try:
            _load_source(registry, source, all_there=False)
        except NoSuchTarget as error:
            registry.add_fault(source.name, str(error))


def _load_source(registry: Registry, source: Source, all_there: bool) -> None:
    try:
        module = import_source(source)
    except NoSuchTarget:
        raise
    except RegistrationError as error:
        registry.add_fault(source.name, str(error), declared_names(source))
    else:
        _add_all(registry, source.name, module)


def load_entry_points(registry: Registry) -> None:
    """Register what installed packages offer in the group "tasker.tasks": modules with @task functions, or functions.

    What cannot be loaded is left out, and listed in `registry.faults`.
    """
    for entry in find_entry_points():
        try:
            found = entry.load()
        except RegistrationError as error:
            names = declared_names(entry.source)
            registry.add_fault(entry.description, str(error), [entry.attribute] if entry.attribute in names else names)
            continue
        if isinstance(found, ModuleType):
            _add_all(registry, entry.description, found)
        elif _is_task(found):
            _add(registry, entry.description, found)
        else:
            offered = f"{place_of(found)}: " if isinstance(found, FunctionType) else ""
            registry.add_fault(entry.description, f"{offered}{entry.description} is no module and no @task")


def _add_all(registry: Registry, target: str, module: ModuleType) -> None:
    try:
        functions = functions_in(module, _is_task)
    except RegistrationError as error:
        registry.add_fault(target, str(error))
        return
    for function in functions:
        _add(registry, target, function)


def _add(registry: Registry, target: str, function: Function) -> None:
    try:
        registry.add(function)
    except RegistrationError as error:
        registry.add_fault(target, str(error), [getattr(function, MARK).name or function.__name__])
