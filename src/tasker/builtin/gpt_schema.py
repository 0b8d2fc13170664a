"""JSON Schemas that a text has to fit: checked when a task is submitted, said to the model, and held to its text.

Schemas come from clients, texts from models: neither may reach the network, nor keep the service busy for long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import lru_cache
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from tasker.builtin.gpt_strict import is_strict, to_object
from tasker.builtin.gpt_text import mend_escapes
from tasker.errors import Fail, Fault
from tasker.jsontext import escape

Schema = dict[str, Any]

MAX_SIZE = 32 * 1024
"""Bytes of a schema's JSON text."""
MAX_SECONDS = 1.0
"""How long a text is held against a schema: one that refers to itself in many ways could take for ever."""
MAX_PATTERN_SECONDS = 0.1
_MAX_WORDS = 200
_MAX_FAULTS = 20

IN_MAPS = ("properties", "$defs", "definitions", "dependentSchemas", "patternProperties")
IN_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
ALONE = (
    "items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "unevaluatedItems",
    "unevaluatedProperties",
)  # fmt: skip
_REFUSED = {
    "$id": "names of schemas are not taken; refer to `#/$defs/...`",
    "$anchor": "names of schemas are not taken; refer to `#/$defs/...`",
    "$dynamicRef": "is not taken; use `$ref`",
    "$dynamicAnchor": "is not taken; use `$ref`",
    "patternProperties": "is not taken; name the properties",
}
_encode = msgspec.json.Encoder(order="sorted").encode


def check_schema(schema: Schema) -> tuple[Fault, ...]:
    """Return what is wrong with a schema, the pointers being relative to it; nothing if it can be used."""
    text = _encode(schema)
    if len(text) > MAX_SIZE:
        return (Fault("", f"expected at most {MAX_SIZE:,} bytes of JSON, got {len(text):,}"),)
    return _check(text)


@lru_cache(maxsize=256)  # it takes a tenth of a second for a large one, and clients use theirs again and again
def _check(text: bytes) -> tuple[Fault, ...]:
    from jsonschema import Draft202012Validator

    schema = msgspec.json.decode(text)
    found = Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema)
    faults = [Fault("".join(f"/{escape(str(part))}" for part in e.absolute_path), _short(e.message)) for e in found]
    return tuple(dict.fromkeys(faults or _own_faults(schema)))[:_MAX_FAULTS]


def _own_faults(schema: Schema) -> Iterator[Fault]:
    """Yield what a schema may not hold here although it is one."""
    import regex

    places = dict(walk(schema))
    for pointer, node in places.items():
        for word, why in _REFUSED.items():
            if word in node:
                yield Fault(f"{pointer}/{word}", why)
        if "$schema" in node and pointer:
            yield Fault(f"{pointer}/$schema", "is taken at the top alone")
        if "$ref" in node:
            yield from _ref_faults(places, node, f"{pointer}/$ref")
        if "pattern" in node:
            try:
                regex.compile(node["pattern"])
            except regex.error as error:
                yield Fault(f"{pointer}/pattern", _short(f"is no regular expression: {error}"))


def walk(schema: Any, pointer: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield every schema within `schema`, itself first, each with where it is."""
    if not isinstance(schema, dict):
        return
    yield pointer, schema
    for word in IN_MAPS:
        for name, member in schema.get(word, {}).items():
            yield from walk(member, f"{pointer}/{word}/{escape(name)}")
    for word in IN_LISTS:
        for index, member in enumerate(schema.get(word, ())):
            yield from walk(member, f"{pointer}/{word}/{index}")
    for word in ALONE:
        if word in schema:
            yield from walk(schema[word], f"{pointer}/{word}")


def _ref_faults(places: dict[str, Schema], node: Schema, pointer: str) -> Iterator[Fault]:
    """Yield what is wrong with a reference, or with one that it leads to at once."""
    seen: list[str] = []
    while "$ref" in node:
        ref = node["$ref"]
        if ref in seen:
            yield Fault(pointer, "refers to itself, without end")
            return
        seen.append(ref)
        found = places.get(unquote(ref[1:])) if ref.startswith("#") else None
        if found is None:
            yield Fault(pointer, _short(f"expected a schema within this one, like `#/$defs/name`, got {ref!r}"))
            return
        node = found


class Shape(NamedTuple):
    """What a text has to be: `asked` is the schema that a model is given, `strict` whether it must keep to the letter.

    is_wrapped: what is asked for is an object with the value in it, as some models write nothing but objects.
    """

    schema: Schema
    asked: Schema
    strict: bool
    is_wrapped: bool

    def read(self, text: str) -> Any:
        """Return the value that the text holds; raises Fail if it holds none that fits. Do it in a thread."""
        try:
            value = msgspec.json.decode(mend_escapes(text))
        except (msgspec.DecodeError, RecursionError) as error:
            raise _mismatch(f"it is not JSON ({error})") from None
        if self.is_wrapped:
            if not isinstance(value, dict) or value.keys() != {"value"}:
                raise _mismatch("expected an object that holds `value` alone")
            value = value["value"]
        _hold_against(self.schema, value)
        return value


def make_shape(schema: Schema, *, objects_only: bool) -> Shape:
    """Return what a text must be to fit a schema that `check_schema` has found good.

    objects_only: of a model that takes schemas of objects alone, and strict ones of a small part of JSON Schema.
    """
    plain = {word: value for word, value in schema.items() if word != "$schema"}
    if not objects_only:
        return Shape(plain, plain, strict=True, is_wrapped=False)
    is_object = plain.get("type") == "object"
    asked = plain if is_object else to_object(plain)
    strict = is_strict(asked)
    return Shape(plain, asked, strict, is_wrapped=not is_object)


def _mismatch(why: str) -> Fail:
    """Another text may fit: the attempt is tried again."""
    return Fail(f"the model's text does not fit the schema: {why}", retry=True, problem="gpt-schema-mismatch")


def _not_held(why: str) -> Fail:
    """No other text would fare better."""
    return Fail(f"the model's text cannot be held against the schema: {why}", problem="gpt-schema-mismatch")


class _TooLongError(Exception):
    """The schema takes too long."""


_until: ContextVar[float] = ContextVar("_until")


def _hold_against(schema: Schema, value: Any) -> None:
    from referencing import Registry

    _until.set(monotonic() + MAX_SECONDS)
    try:
        validator = _validator_class()(schema, registry=Registry())  # one that fetches nothing
        error = next(validator.iter_errors(value), None)
    except (_TooLongError, TimeoutError):
        raise _not_held("that takes too long") from None
    except RecursionError:
        raise _not_held("it refers to itself, without end") from None
    except ArithmeticError:
        raise _not_held("a number is too large") from None
    if error is not None:
        place = "".join(f"/{escape(str(part))}" for part in error.absolute_path)
        raise _mismatch(_short(f"{error.message}") + (f" at {place}" if place else ""))


@lru_cache(maxsize=1)
def _validator_class() -> Any:
    """Return a validator that looks at the clock with each word of the schema, and whose patterns have a limit too."""
    from jsonschema import Draft202012Validator, validators

    checks = {word: _timed(check) for word, check in Draft202012Validator.VALIDATORS.items()}
    extend: Any = validators.extend  # comes without types
    return extend(Draft202012Validator, {**checks, "pattern": _timed(_pattern)})


def _timed(check: Callable[..., Any]) -> Callable[..., Any]:
    def checked(validator: Any, word: Any, value: Any, schema: Any) -> Any:
        if monotonic() > _until.get():
            raise _TooLongError
        return check(validator, word, value, schema)

    return checked


def _pattern(validator: Any, pattern: str, value: Any, _: Any) -> Iterator[Any]:
    import regex
    from jsonschema import ValidationError

    if validator.is_type(value, "string") and not regex.search(pattern, value, timeout=MAX_PATTERN_SECONDS):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _short(words: str) -> str:
    return words if len(words) <= _MAX_WORDS else words[:_MAX_WORDS] + "..."
