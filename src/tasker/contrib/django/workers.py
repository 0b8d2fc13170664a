"""The worker's side: load a Django project, and make a task function of each of its tasks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, get_type_hints

import django
from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import close_old_connections
from django.utils.module_loading import module_has_submodule

from tasker import Context, SyncContext, task
from tasker.contrib.arguments import give_parameters, is_packed, packed_parameters
from tasker.contrib.django import framework
from tasker.contrib.django.attempts import DjangoAttempt
from tasker.contrib.django.backend import TaskerBackend
from tasker.contrib.django.definitions import parameters_of
from tasker.contrib.django.results import find_definition
from tasker.errors import RegistrationError
from tasker.tasktypes.options import MARK
from tasker.tasktypes.registry import Registry

_CONTEXT = "tasker_context"
"""The parameter that gets Tasker's context."""


def make_functions(module: str) -> list[Callable[..., Any]]:
    """Set Django up, and return the task functions of the project, each once: of Django's tasks, and Tasker's own.

    They are looked for in `tasks` of each installed app and in the MODULES of each TaskerBackend, but not in `module`.
    Raises ImproperlyConfigured if DJANGO_SETTINGS_MODULE is not set, and whatever an import of the project raises.
    """
    django.setup()
    members = [member for name in _modules() if name != module for member in vars(import_module(name)).values()]
    paths = dict.fromkeys(member.module_path for member in members if isinstance(member, framework.Task))
    definitions = (find_definition(path) for path in paths)
    found = [_make_function(definition) for definition in definitions if definition is not None]
    return found + [member for member in dict.fromkeys(filter(inspect.isfunction, members)) if hasattr(member, MARK)]


def _modules() -> dict[str, None]:
    names = [f"{app.name}.tasks" for app in apps.get_app_configs() if module_has_submodule(app.module, "tasks")]
    for backend in framework.task_backends.all():
        if isinstance(backend, TaskerBackend):
            names += backend.options.get("MODULES", ())
    return dict.fromkeys(names)


def _make_function(definition: framework.Task) -> Any:
    """Return a task function that runs a task of Django, with a type for each parameter that Tasker can check."""
    parameters = parameters_of(definition)
    packed = is_packed(parameters)
    function = (
        _make_async(definition, packed)
        if inspect.iscoroutinefunction(definition.func)
        else _make_sync(definition, packed)
    )
    function.__module__ = definition.func.__module__
    function.__qualname__ = function.__name__ = definition.func.__name__
    function.__doc__ = definition.func.__doc__
    function.__wrapped__ = definition.func  # where it is, and what it says of itself
    task(name=definition.module_path, **_options_of(definition))(function)
    kind = Context if inspect.iscoroutinefunction(function) else SyncContext
    give_parameters(function, packed_parameters() if packed else _typed(definition, parameters), _CONTEXT, kind)
    if not _is_suitable(function):
        give_parameters(function, [parameter.replace(annotation=Any) for parameter in parameters], _CONTEXT, kind)
    return function


def _make_sync(definition: framework.Task, packed: bool) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        attempt = _attempt(definition, packed, args, kwargs)
        close_old_connections()
        try:
            with attempt:
                return attempt.normalize(definition.func(*attempt.args, **attempt.kwargs))
        finally:
            close_old_connections()

    return run


def _make_async(definition: framework.Task, packed: bool) -> Any:
    async def run(*args: Any, **kwargs: Any) -> Any:
        attempt = _attempt(definition, packed, args, kwargs)
        await sync_to_async(close_old_connections)()
        try:
            with attempt:
                return attempt.normalize(await definition.func(*attempt.args, **attempt.kwargs))
        finally:
            await sync_to_async(close_old_connections)()

    return run


def _attempt(definition: framework.Task, packed: bool, args: Sequence[Any], kwargs: dict[str, Any]) -> DjangoAttempt:
    context = kwargs.pop(_CONTEXT)
    if packed:
        args, kwargs = args  # the two params
    return DjangoAttempt(definition, context, args, kwargs)


def _options_of(definition: framework.Task) -> Mapping[str, Any]:
    backend = definition.get_backend()
    own = backend.options if isinstance(backend, TaskerBackend) else {}
    return {
        "queue": definition.queue_name,
        "priority": definition.priority,
        "retry": getattr(definition, "retry", None) or own.get("RETRY"),
        "timeout": getattr(definition, "timeout", None) or own.get("TIMEOUT"),
    }


def _typed(definition: framework.Task, parameters: Sequence[inspect.Parameter]) -> list[inspect.Parameter]:
    """Return the parameters with their types; Any for each if one of the annotations cannot be resolved."""
    try:
        hints = get_type_hints(definition.func, include_extras=True)
    except Exception:  # of names that are imported for type checkers alone
        hints = {}
    return [parameter.replace(annotation=hints.get(parameter.name, Any)) for parameter in parameters]


def _is_suitable(function: Callable[..., Any]) -> bool:
    try:
        Registry().add(function)
    except RegistrationError:  # a model's class as the type, for example, or a default of another type
        return False
    return True
