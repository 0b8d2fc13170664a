"""The signature of a plain typed function: its parameters by kind, its Context, its return type, its docstring."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import FunctionType
from typing import Any, Never, NoReturn, get_args, get_type_hints

from tasker.errors import RegistrationError
from tasker.tasktypes.reporting import Reporting

Function = Callable[..., Any]

_VARIADIC = inspect.Parameter.VAR_POSITIONAL
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


NOT_A_FUNCTION = (
    "only a function can be a task; write a `def` or `async def` that calls it, or awaits what it gives, "
    "and put @task on that"
)


class Absent(Enum):
    """The default of a parameter that has none (None may be a default)."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT


class How(Enum):
    """How a value reaches the function."""

    POSITION = "position"
    REST = "rest"  # *args
    KEYWORD = "keyword"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: `type` is its annotation (of each element, for *args), `how` the way its value is passed.

    in_array: whether an array of params can reach it.
    """

    name: str
    type: Any
    how: How
    in_array: bool
    default: Any = ABSENT

    @property
    def is_required(self) -> bool:
        return self.default is ABSENT


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters (those by position, then *args, then those by keyword), the Context's name, the return type."""

    parameters: tuple[Parameter, ...]
    context_parameter: str | None
    returns: Any


@dataclass(frozen=True, slots=True)
class Description:
    """A docstring: its first paragraph, and the description of each parameter that has one."""

    text: str
    parameters: dict[str, str]


def place_of(function: Function) -> str:
    """Return "file:line" of a function, the file relative to the working directory where it is below it."""
    code = getattr(inspect.unwrap(function), "__code__", function.__code__)  # a class may be wrapped too
    path = Path(code.co_filename)
    with suppress(ValueError):  # it is elsewhere: show the whole path
        path = path.relative_to(Path.cwd())
    return f"{path}:{code.co_firstlineno}"


def reject(function: Function, what: str) -> NoReturn:
    """Raise the RegistrationError that names the place and the function."""
    raise RegistrationError(f"{place_of(function)}: {function.__qualname__}: {what}")


def read_signature(function: Function) -> Signature:
    """Return the signature of a function.

    Raises RegistrationError for what cannot be a task type: lambdas, generators, **kwargs, missing annotations.
    """
    _check_kind(function)
    hints = _resolve_hints(function)
    found: list[Parameter] = []
    context: inspect.Parameter | None = None
    for parameter in inspect.signature(function).parameters.values():
        if is_context(hints.get(parameter.name)):
            _check_context(function, parameter, context)
            context = parameter
        else:
            found.append(_read_parameter(function, parameter, hints, context))
    return Signature(tuple(found), context.name if context else None, _returned(hints.get("return", Any)))


def _returned(hint: Any) -> Any:
    """Return the type of the results: None for a function that never returns."""
    if hint is object:
        return Any
    return None if hint in (NoReturn, Never) else hint


def _check_kind(function: Function) -> None:
    if not isinstance(function, FunctionType):
        raise RegistrationError(f"{function!r:.200}: {NOT_A_FUNCTION}")
    if function.__name__ == "<lambda>":
        reject(function, "a lambda cannot be a task; write a function with `def` and annotations")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        reject(function, "a generator cannot be a task; return the value, and stream text with `context.output(chunk)`")


def _resolve_hints(function: Function) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except Exception as error:  # annotations given as strings are evaluated: anything may be raised
        reason = f"{type(error).__name__}: {error}"
        reject(function, f"its annotations cannot be resolved ({reason}); import the names they use at module level")


def _check_context(function: Function, parameter: inspect.Parameter, earlier: inspect.Parameter | None) -> None:
    if earlier is not None:
        reject(function, f"{earlier.name!r} and {parameter.name!r} are both a Context; ask for one")
    if parameter.kind not in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
        reject(function, f"the Context is passed by name; make {parameter.name!r} an ordinary parameter")


def _read_parameter(
    function: Function, parameter: inspect.Parameter, hints: dict[str, Any], context: inspect.Parameter | None
) -> Parameter:
    name, kind = parameter.name, parameter.kind
    if kind is inspect.Parameter.VAR_KEYWORD:
        reject(function, f"**{name} takes any name; name each parameter instead, or take one `{name}: dict[str, Any]`")
    if name not in hints:
        if name in ("self", "cls") and "." in function.__qualname__.rpartition("<locals>.")[2]:
            reject(function, "a method cannot be a task; write a function that makes the object and calls it")
        reject(function, f"parameter {name!r} has no annotation; write for example `{name}: str`")
    if _mentions_context(hints[name]):
        reject(function, f"parameter {name!r}: the Context is always there; annotate it as plain `Context`")
    # The Context is passed by name, so the parameters after it must be passed by name, too.
    behind = context is not None and context.kind is not inspect.Parameter.KEYWORD_ONLY
    if behind and kind is _VARIADIC:
        reject(function, f"the Context stands before *{name}; put it behind: `*{name}, {context.name}: Context`")  # type: ignore[union-attr]
    if kind is _VARIADIC:
        return Parameter(name, hints[name], How.REST, in_array=True, default=())
    how = How.POSITION if kind in _POSITIONAL and not behind else How.KEYWORD
    default = ABSENT if parameter.default is inspect.Parameter.empty else parameter.default
    return Parameter(name, hints[name], how, in_array=kind in _POSITIONAL, default=default)


def is_context(hint: Any) -> bool:
    """Tell whether a parameter with this annotation gets the attempt's context, a Context or SyncContext."""
    return isinstance(hint, type) and issubclass(hint, Reporting)


def _mentions_context(hint: Any) -> bool:
    return is_context(hint) or any(_mentions_context(part) for part in get_args(hint))


def read_description(function: Function) -> Description:
    """Read a function's docstring (Google, numpy, epydoc or `:param:` style)."""
    doc = inspect.cleandoc(inspect.unwrap(function).__doc__ or "")
    if "\n" not in doc:
        return Description(doc, {})
    # Imported here: it is the slowest import of a child process, and one-line docstrings do not need it.
    from docstring_parser import ParseError, parse

    try:
        parsed = parse(doc)
    except ParseError:
        return Description(_first_paragraph(doc), {})
    described = {param.arg_name.lstrip("*"): _first_paragraph(param.description or "") for param in parsed.params}
    return Description(
        _first_paragraph(parsed.description or ""), {name: text for name, text in described.items() if text}
    )


def _first_paragraph(text: str) -> str:
    return " ".join(text.strip().partition("\n\n")[0].split())
