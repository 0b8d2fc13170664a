"""The JSON that a text has to be: which schema the model gets, and the check of its text against the client's schema.

Schemas come from clients and texts from models: the check fetches nothing and stops after MAX_SECONDS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import lru_cache
from time import monotonic
from typing import Any, NamedTuple

import msgspec

from tasker.builtin.gpt.strict import is_strict, to_object
from tasker.builtin.gpt.text import mend_escapes
from tasker.errors import Fail
from tasker.validation.jsontext import escape
from tasker.validation.patterns import compile_pattern
from tasker.validation.schemas import Schema, shorten

MAX_SECONDS = 1.0
"""Time limit of a check: a schema that refers to itself in many ways could take for ever."""


class Shape(NamedTuple):
    """What a text has to be.

    schema: the client's. asked: the one that the model gets. strict: whether the provider enforces it to the letter.
    is_wrapped: `asked` is an object that holds the value, for models that write nothing but objects.
    """

    schema: Schema
    asked: Schema
    strict: bool
    is_wrapped: bool

    def read(self, text: str) -> Any:
        """Return the value that the text holds. Raises Fail if it does not fit. Blocks: call it in a thread."""
        try:
            value = msgspec.json.decode(mend_escapes(text))
        except (msgspec.DecodeError, RecursionError) as error:
            raise _mismatch(f"it is not JSON ({error})") from None
        if self.is_wrapped:
            if not isinstance(value, dict) or value.keys() != {"value"}:
                raise _mismatch("expected an object that holds `value` alone")
            value = value["value"]
        _check(self.schema, value)
        return value


def make_shape(schema: Schema, *, objects_only: bool) -> Shape:
    """Return the shape for a schema that `check_schema` accepted.

    objects_only: the model takes schemas of objects alone, and enforces only a subset of JSON Schema strictly.
    """
    plain = {word: value for word, value in schema.items() if word != "$schema"}
    if not objects_only:
        return Shape(plain, plain, strict=True, is_wrapped=False)
    is_object = plain.get("type") == "object"
    asked = plain if is_object else to_object(plain)
    return Shape(plain, asked, is_strict(asked), is_wrapped=not is_object)


def _mismatch(why: str) -> Fail:
    """Return a failure that is retried: another text may fit."""
    return Fail(f"the model's text does not fit the schema: {why}", retry=True, problem="gpt-schema-mismatch")


def _uncheckable(why: str) -> Fail:
    """Return a final failure: no other text would do better."""
    return Fail(f"the model's text cannot be checked against the schema: {why}", problem="gpt-schema-mismatch")


class _TooLongError(Exception):
    """The check takes too long."""


class _BadPatternError(Exception):
    """A pattern does not compile: an earlier version accepted it."""


_deadline: ContextVar[float] = ContextVar("_deadline")
"""When the running check has to end, in seconds of `monotonic`."""


def _check(schema: Schema, value: Any) -> None:
    """Raise Fail unless the value fits the schema."""
    from referencing import Registry

    _deadline.set(monotonic() + MAX_SECONDS)
    try:
        validator = _validator_class()(schema, registry=Registry())  # without a retriever: fetches nothing
        error = next(validator.iter_errors(value), None)
    except _TooLongError:
        raise _uncheckable("the check takes too long") from None
    except _BadPatternError as error:
        raise _uncheckable(shorten(f"a pattern is no longer supported: {error}")) from None
    except RecursionError:
        raise _uncheckable("it refers to itself without end") from None
    except ArithmeticError:
        raise _uncheckable("a number is too large") from None
    if error is not None:
        place = "".join(f"/{escape(str(part))}" for part in error.absolute_path)
        raise _mismatch(shorten(error.message) + (f" at {place}" if place else ""))


@lru_cache(maxsize=1)
def _validator_class() -> Any:
    """Return a validator that looks at the clock at each keyword and matches patterns in linear time."""
    from jsonschema import Draft202012Validator, validators

    checks = {word: _timed(check) for word, check in Draft202012Validator.VALIDATORS.items()}
    extend: Any = validators.extend  # comes without types
    return extend(Draft202012Validator, {**checks, "pattern": _timed(_pattern)})


def _timed(check: Callable[..., Any]) -> Callable[..., Any]:
    def checked(validator: Any, word: Any, value: Any, schema: Any) -> Any:
        if monotonic() > _deadline.get():
            raise _TooLongError
        return check(validator, word, value, schema)

    return checked


def _pattern(validator: Any, pattern: str, value: Any, _: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    try:
        if validator.is_type(value, "string") and compile_pattern(pattern).search(value) is None:
            yield ValidationError(f"{value!r} does not match {pattern!r}")
    except ValueError as error:
        raise _BadPatternError(str(error)) from None
