"""Encode a function's result as JSON text, checked against the declared type and exact for every reader."""

from __future__ import annotations

from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec

from tasker.errors import ResultError
from tasker.tasktypes.params import make_box
from tasker.tasktypes.pydantic_models import Model
from tasker.tasktypes.schema import traits_of
from tasker.validation.encoding import (
    NotJson,
    as_json,
    check_leaves,
    encode_scalar,
    encode_strict,
    from_json,
    settle,
    write,
)
from tasker.validation.faults import refusal_fault, sentence_of

# Kept when a result is converted to plain values: their base64 text would be accepted where a str is declared.
_NOT_TEXT = (bytes, bytearray, memoryview)
_SCALARS: frozenset[type] = frozenset({str, int, float, bool, type(None)})


class Results:
    """Encodes the results of one task type. model: of a type that pydantic reads."""

    def __init__(self, returns: Any, model: Model | None = None) -> None:
        self._model = model
        self._box = None if returns is Any or model is not None else make_box(returns)
        self._scalars = _scalars_of(returns)
        self._traits = None if self._box is None else traits_of([returns])
        self._hook = _as_json_or_read if self._traits is not None and self._traits.is_open else as_json
        # Datetimes in an open type need a zone too, unless the declared type has datetimes without one.
        self._zones = (
            self._traits is not None
            and not self._traits.has_naive
            and (self._traits.has_moments or self._traits.is_open)
        )

    def encode(self, value: Any) -> bytes:
        """Return the JSON text of what the function returned.

        Subclasses of str, int and float are written as their base, bytes in base64. Raises ResultError
        ("result-not-serializable") for what is not of the declared type, or what JSON cannot hold (see encoding).
        """
        try:
            if type(value) in self._scalars:
                return encode_scalar(value)
            return self._encode(value)
        except NotJson as error:
            raise _not_serializable(str(error)) from None

    def _encode(self, value: Any) -> bytes:
        if self._model is not None:
            return _encode_model(self._model, value)
        if self._box is None or self._traits is None:
            return encode_strict(value)
        text = write(value)
        if self._traits.is_open:
            text = settle(text)
        try:
            plain = msgspec.to_builtins(value, builtin_types=_NOT_TEXT, enc_hook=self._hook)
            msgspec.convert({"v": plain}, self._box, dec_hook=from_json)
        except msgspec.ValidationError as error:
            raise _not_serializable(sentence_of(refusal_fault(str(error), "", skip=".v"))) from None
        except TypeError:
            raise _not_serializable("it holds a msgspec.Raw where a value of the declared type is expected") from None
        check_leaves(value, text, zones=self._zones)
        return text


def _as_json_or_read(value: Any) -> Any:
    """Do what `as_json` does; return the value of a Raw, which is known to be valid JSON."""
    return msgspec.json.decode(value) if type(value) is msgspec.Raw else as_json(value)


def _scalars_of(returns: Any) -> frozenset[type]:
    """Return the plain types whose values all fit the declared type."""
    if returns is Any:
        return _SCALARS
    members = get_args(returns) if get_origin(returns) in (Union, UnionType) else (returns,)
    found = {type(None) if member is None else member for member in members}
    if float in found:
        found.add(int)
    return _SCALARS.intersection(one for one in found if isinstance(one, type))


def _encode_model(model: Model, value: Any) -> bytes:
    try:
        return model.write(value)
    except NotJson:
        raise
    except ValueError as error:
        raise _not_serializable(model.refusal(error)) from None


def _not_serializable(reason: str) -> ResultError:
    return ResultError("result-not-serializable", f"the result does not fit: {reason}"[:500])
