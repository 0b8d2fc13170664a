"""Values of a type as JSON text and back: what steps, questions and children give to the function that made them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from functools import lru_cache, partial
from typing import Any, Never, NoReturn, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

from tasker.tasktypes.params import Params
from tasker.tasktypes.pydantic_models import Model, is_model
from tasker.tasktypes.results import Results
from tasker.tasktypes.schema import Schema, input_schema, unsupported
from tasker.tasktypes.signature import How, Parameter

_NULL = b"null"
_returned: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""The return types of functions, so that annotations which are text are evaluated once."""


class Codec:
    """Writes and reads values of one type, exactly as params and results are. Any: whatever JSON can hold."""

    def __init__(self, hint: Any) -> None:
        hint = None if hint in (Never, NoReturn) else hint
        self._model = Model(hint) if is_model(hint) else None
        if hint is object or (self._model is None and unsupported(hint) is not None):
            hint = Any
        self._hint = hint
        self._results = Results(hint, self._model)
        parameter = Parameter("value", hint, How.POSITION, in_array=True)
        self._parameters = (parameter,)
        self._models = {} if self._model is None else {"value": self._model}
        self._params = Params(self._parameters, {}, self._models)

    def encode(self, value: Any) -> bytes:
        """Return the JSON text of a value. Raises ResultError."""
        return self._results.encode(value)

    def decode(self, text: bytes) -> Any:
        """Return the value of a JSON text. Raises ValueError."""
        return None if text == _NULL and self._hint in (None, Any) else self._params.read(b"[" + text + b"]")[0]

    def schema(self) -> Schema:
        """Return the JSON Schema of the values."""
        whole = input_schema(self._parameters, {}, self._models)
        others = {name: whole[name] for name in ("$schema", "$defs") if name in whole}
        return {**others, **whole["properties"]["value"]}


def codec_of(hint: Any) -> Codec:
    """Return the codec of a type."""
    try:
        return _cached_codec(hint)
    except TypeError:  # metadata that has no hash, say
        return Codec(hint)


_cached_codec = lru_cache(maxsize=500, typed=True)(Codec)


def returned_by(function: Callable[..., Any]) -> Any:
    """Return the annotated type of a function's results, what it awaits at last; Any if it says nothing usable."""
    while isinstance(function, partial):
        function = function.func
    function = getattr(function, "__func__", function)
    try:
        return _returned[function]
    except KeyError:
        hint = _returned[function] = _read_returned(function)
        return hint
    except TypeError:  # it cannot be hashed, or referred to weakly
        return _read_returned(function)


def _read_returned(function: Callable[..., Any]) -> Any:
    if not inspect.isroutine(function):
        function = getattr(type(function), "__call__", function)  # noqa: B004  its annotations, not whether it is there
    try:
        hint = get_type_hints(function, include_extras=True).get("return", Any)
    except Exception:  # annotations of a user's function may raise anything
        return Any
    is_awaited = get_origin(hint) in (Awaitable, Coroutine)
    return get_args(hint)[-1] if is_awaited else hint
