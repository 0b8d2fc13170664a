"""How arguments of other frameworks, by position and by name at once, travel as the params of a task."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

Parameters = Sequence[inspect.Parameter]

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def is_packed(parameters: Parameters) -> bool:
    """Tell whether the arguments travel as two params, `args` and `kwargs`, rather than each by its name.

    They do for functions that take any (`*args`, `**kwargs`), and for those with a default that JSON cannot hold.
    """
    return any(parameter.kind in _VARIADIC or not _is_json(parameter.default) for parameter in parameters)


def _is_json(default: Any) -> bool:
    try:
        msgspec.to_builtins(default if default is not inspect.Parameter.empty else None)
    except (TypeError, ValueError):
        return False
    return True


def to_params(parameters: Parameters, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the params of a submission for the arguments of a function: an array, or an object.

    Raises TypeError for arguments that do not fit the parameters.
    """
    if is_packed(parameters):
        return {name: value for name, value in (("args", list(args)), ("kwargs", dict(kwargs))) if value}
    bound = inspect.Signature(parameters).bind(*args, **kwargs).arguments
    if args and kwargs:
        return bound
    return dict(kwargs) or list(args)


def to_arguments(parameters: Parameters, params: Any, positional: int = 0) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments that `to_params` made the params of; the first `positional` names were given by position."""
    if isinstance(params, list):
        return params, {}
    if is_packed(parameters):
        return list(params.get("args", ())), dict(params.get("kwargs", {}))
    names = [parameter.name for parameter in parameters[:positional]]
    return [params[name] for name in names], {name: value for name, value in params.items() if name not in names}


def packed_parameters() -> list[inspect.Parameter]:
    """Return the parameters of a task function whose arguments travel packed."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [
        inspect.Parameter("args", kind, annotation=list[Any], default=[]),
        inspect.Parameter("kwargs", kind, annotation=dict[str, Any], default={}),
    ]


def give_parameters(function: Any, parameters: Iterable[inspect.Parameter], context: str, kind: type) -> None:
    """Give a function these parameters, and the parameter `context` for Tasker's context of this kind.

    What it returns may be any JSON.
    """
    last = inspect.Parameter(context, inspect.Parameter.KEYWORD_ONLY, annotation=kind)
    everything = [*parameters, last]
    function.__signature__ = inspect.Signature(everything)
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in everything}
