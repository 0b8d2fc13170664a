"""The decorators, and the application that they belong to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from types import FunctionType
from typing import Any, ParamSpec, TypeVar, cast, overload
from uuid import uuid4

from tasker import SyncContext
from tasker import task as tasker_task
from tasker.contrib.arguments import give_parameters, is_packed, packed_parameters
from tasker.contrib.celery.canvas import Signature
from tasker.contrib.celery.options import refuse, submit_options, unsupported
from tasker.contrib.celery.results import AsyncResult
from tasker.contrib.celery.running import RetryRules
from tasker.contrib.celery.service import Service
from tasker.contrib.celery.task import PUBLIC, Task

P = ParamSpec("P")
R = TypeVar("R")

_CONTEXT = "tasker_context"
"""The parameter that gets Tasker's context."""
_RULES = frozenset(one.name for one in fields(RetryRules))
_DEFAULTS = ("expires", "priority", "queue", "time_limit")
"""Options of the decorator that are defaults of apply_async's."""
_FILE = "tasker_folder_"
"""How the names of modules begin that `tasker serve` has loaded as files."""


class App(Service):
    """The tasks of one service, in the place of a Celery application; url and token are those of Tasker."""

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(self, /, **options: Any) -> Callable[[Callable[..., R]], Task[..., R]]: ...
    def task(self, function: Any = None, /, **options: Any) -> Any:
        """Make a task of a function, which stays callable, and a task type of the service.

        name: default module.function. bind: pass the Task as `self`. max_retries, default_retry_delay, autoretry_for,
        dont_autoretry_for, retry_kwargs, retry_backoff, retry_backoff_max, retry_jitter: as in Celery. acks_late: run
        it again if its process dies. expires, priority, queue, time_limit: defaults of its submissions. Raises
        NotImplementedError for other options that Celery has, with the way to go.
        """
        return self._decorate(function, options) if function is not None else lambda one: self._decorate(one, options)

    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
        **options: Any,
    ) -> AsyncResult:
        """Submit a task by the name of its type; options as for Task.apply_async. Raises TypeError for both kinds of
        arguments: their names are not known here.
        """
        if args and kwargs:
            raise TypeError("give the arguments by position or by name, not both")
        return self.submit(
            name, list(args or ()) or dict(kwargs or {}), submit_options(**options), task_id or str(uuid4())
        )

    def signature(self, name: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Signature:
        """Return a call of a task that this process knows by name alone."""

        def submit(args: Sequence[Any], kwargs: Mapping[str, Any], **options: Any) -> AsyncResult:
            return self.send_task(name, args, kwargs, **options)

        return Signature(name, submit, tuple(args), dict(kwargs or {}))

    def _decorate(self, function: Any, options: Mapping[str, Any]) -> Any:
        if not isinstance(function, FunctionType) or inspect.iscoroutinefunction(function):
            unsupported("task of anything but a `def` function", "use @tasker.task for `async def`")
        others = {name: value for name, value in options.items() if name not in _RULES and name not in _DEFAULTS}
        refuse({name: value for name, value in others.items() if name not in ("name", "bind", "acks_late")})
        rules = RetryRules(**{name: value for name, value in options.items() if name in _RULES})
        made: Task[..., Any] = Task(
            function,
            self,
            name=others.get("name") or _name_of(function),
            bind=bool(others.get("bind")),
            rules=rules,
            options={name: options[name] for name in _DEFAULTS if options.get(name) is not None},
        )
        return _as_function(made, function, on_crash="retry" if others.get("acks_late") else "fail")


def _name_of(function: FunctionType) -> str:
    if function.__module__.startswith(_FILE):
        raise ValueError(
            f"{function.__qualname__}: the file is loaded by its path, so other processes do not know the name of its"
            " module; serve the module by its name (`tasker serve shop.tasks`), or give the task a name="
        )
    return f"{function.__module__}.{function.__qualname__}"


def _as_function(made: Task[..., Any], function: FunctionType, *, on_crash: Any) -> Any:
    """Return a function that Tasker takes for a task, and that has what callers of Celery use."""

    def run(*args: Any, **kwargs: Any) -> Any:
        context = kwargs.pop(_CONTEXT, None)
        return made(*args, **kwargs) if context is None else made.run_here(context, args, kwargs)

    shown = cast(Any, run)
    shown.__module__, shown.__name__, shown.__qualname__ = function.__module__, function.__name__, function.__qualname__
    shown.__doc__, shown.__wrapped__ = function.__doc__, function
    for name in PUBLIC:
        setattr(shown, name, getattr(made, name))
    give_parameters(shown, _parameters_of(made, function), _CONTEXT, SyncContext)
    defaults = {"queue": "queue", "priority": "priority", "time_limit": "timeout"}
    options = {ours: made.options[name] for name, ours in defaults.items() if name in made.options}
    return tasker_task(name=made.name, on_crash=on_crash, **options)(shown)


def _parameters_of(made: Task[..., Any], function: FunctionType) -> list[inspect.Parameter]:
    """Return the parameters of the task's type: the function's, of which those without a type take any JSON."""
    if is_packed(made.parameters):
        return packed_parameters()
    hints = function.__annotations__
    return [parameter.replace(annotation=hints.get(parameter.name, Any)) for parameter in made.parameters]


_default = App()


@overload
def shared_task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def shared_task(**options: Any) -> Callable[[Callable[..., R]], Task[..., R]]: ...
def shared_task(*args: Any, **options: Any) -> Any:
    """Make a task of a function, as App.task does, for the service that TASKER_URL and TASKER_TOKEN name."""
    return _default.task(*args, **options)


def signature(name: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Signature:
    """Return a call of a task by name, for the service that TASKER_URL and TASKER_TOKEN name."""
    return _default.signature(name, args, kwargs)
