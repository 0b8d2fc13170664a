"""What a test names as its tasks: files, folders, modules, functions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from tasker.builtin.reverse import reverse
from tasker.builtin.sum import sum as sum_
from tasker.config.settings import Settings
from tasker.errors import RegistrationError
from tasker.tasktypes.loading import find_entry_points
from tasker.tasktypes.making import make_task_type
from tasker.tasktypes.options import MARK, Options
from tasker.tasktypes.registry import Registry, TaskType, load, load_entry_points

What = str | Path | ModuleType | Callable[..., Any]


def make_registry(whats: Sequence[What], settings: Settings, gpt: Callable[..., Any]) -> Registry:
    """Return the built-in types, with this `gpt`, those that are named, and those of installed packages.

    Raises RegistrationError for what cannot be loaded, NoSuchTarget for what does not exist.
    """
    registry = Registry(default_timeout=settings.timeout, default_retention=settings.retention)
    for function in (sum_, reverse):
        registry.add(_type_of(function))
    registry.add(_as_gpt(gpt))
    for what in whats:
        if isinstance(what, str | Path | ModuleType):
            load(registry, [_target_of(what)])
        else:
            registry.add(_type_of(what))
    load(registry, settings.tasks)
    if _has_installed_types():
        load_entry_points(registry)
    if registry.faults:
        raise RegistrationError("; ".join(fault.detail for fault in registry.faults))
    return registry


def _target_of(what: str | Path | ModuleType) -> str:
    """Return a target of the service. A file that the test has imported is that module, so that it can be patched."""
    if isinstance(what, ModuleType):
        return what.__name__
    file = Path(what).resolve()
    if file.suffix == ".py":
        for name, module in tuple(sys.modules.items()):
            if getattr(module, "__file__", None) == str(file) and name not in ("__main__", "conftest"):
                return name
    return str(what)


@lru_cache(maxsize=1000)
def _type_of(function: Callable[..., Any]) -> TaskType:
    """Return the type of a function. To make one takes longer than all else at the start of a kit."""
    return make_task_type(function, getattr(function, MARK, Options()))


_gpt_types: list[TaskType] = []


def _as_gpt(function: Callable[..., Any]) -> TaskType:
    """Return the type of `gpt` with this function: each kit has one of its own, and all have the same params."""
    if not _gpt_types:
        _gpt_types.append(_type_of(function))
    return replace(_gpt_types[0], function=function)


@lru_cache(maxsize=1)
def _has_installed_types() -> bool:
    """Tell whether a package offers tasks: the search takes longer than all else at the start of a kit."""
    return any(True for _ in find_entry_points())
