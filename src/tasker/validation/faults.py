"""The slow path of validation: find every fault of a refused value, each with its place and a sentence of our own.

A sentence says what was expected and what kind of value came. It never repeats the value, which may be long or secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, cast

import msgspec

from tasker.errors import Fault, Invalid
from tasker.validation.jsontext import escape

if TYPE_CHECKING:  # imported when the first value is refused: it takes 70 ms
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator

MAX_FAULTS = 100
"""Limit of reported faults per input."""
MAX_NODES = 2_000
"""Size limit in nested values: of larger input only msgspec's first fault is reported; jsonschema takes 10 us each."""

_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
_WORDS = {
    "int": "integer",
    "float": "number",
    "str": "string",
    "bool": "boolean",
    "uuid": "UUID",
    "bytes": "base64 string",
}
_FORMATS = {
    "date-time": "expected a date and time with a zone (RFC 3339, such as 2026-01-31T12:00:00Z)",
    "decimal": "expected a finite decimal number",
}
_PLACE = re.compile(r" - at `(?:key` in `)?\$([^`]*)`$")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_BACKTICKS = re.compile(r"`([^`]*)`")


class Faults:
    """The faults of one input, each with the name of its problem."""

    __slots__ = ("_names", "found")

    def __init__(self) -> None:
        self.found: list[Fault] = []
        self._names: list[str] = []

    def __len__(self) -> int:
        return len(self.found)

    @property
    def is_full(self) -> bool:
        """Whether MAX_FAULTS were found: further ones would not be reported."""
        return len(self.found) >= MAX_FAULTS

    def add(self, pointer: str, detail: str, name: str = "invalid-request") -> None:
        self.put(Fault(pointer, detail), name)

    def put(self, fault: Fault, name: str = "invalid-request") -> None:
        self.found.append(fault)
        self._names.append(name)

    def put_all(self, error: Invalid, pointer: str) -> None:
        """Add the faults of the part of the input at `pointer`."""
        for fault in error.faults or (Fault("", error.detail),):
            self.put(Fault(pointer + fault.pointer, fault.detail), error.kind.name)

    def check(self) -> None:
        """Raise Invalid if there are faults; its name is theirs if they share one, else "invalid-request"."""
        if self.found:
            name = self._names[0] if len(set(self._names)) == 1 else "invalid-request"
            raise Invalid(_summary(self.found), name=name, faults=self.found)


def _summary(faults: list[Fault]) -> str:
    lines = [f"{fault.pointer}: {fault.detail}" if fault.pointer else fault.detail for fault in faults[:3]]
    more = [f"and {len(faults) - 3} more"] if len(faults) > 3 else []
    return "; ".join(lines + more)


def kind_of(value: Any) -> str:
    """Return JSON's name for the type of a value."""
    return "null" if value is None else _KINDS.get(type(value), type(value).__name__)


def sentence_of(fault: Fault) -> str:
    """Return a fault in one sentence."""
    return f"{fault.detail} at {fault.pointer}" if fault.pointer else fault.detail


def missing_field(pointer: str, name: str) -> Fault:
    """Return the fault of a required member that the object at `pointer` lacks."""
    return Fault(f"{pointer}/{escape(name)}", f"`{name}` is missing")


def unknown_field(pointer: str, name: str, known: Iterable[str], synonyms: Mapping[str, str] | None = None) -> Fault:
    """Return the fault of an unknown member, with a similar known name as a hint; synonyms: other names for these."""
    if len(name) > 200:
        return Fault(pointer, "unknown field, with a name of more than 200 characters")
    by_lower = {**{each.lower(): each for each in known}, **(synonyms or {})}
    close = get_close_matches(name.lower(), by_lower, n=1)
    hint = f"; did you mean `{by_lower[close[0]]}`?" if close else ""
    return Fault(f"{pointer}/{escape(name)}", f"unknown field{hint}")


def refusal_fault(refusal: str, pointer: str, *, skip: str = "") -> Fault:
    """Return msgspec's refusal as a fault of the value at `pointer`. skip: msgspec's path to that value."""
    place = _PLACE.search(refusal)
    sentence = refusal[: place.start()] if place else refusal
    path = place[1].removeprefix(skip) if place else ""
    return Fault(pointer + _pointer_of(path), _reword(sentence))


def _pointer_of(path: str) -> str:
    """Return a msgspec path such as `.a[1]` as a JSON Pointer, up to the first key that msgspec does not name."""
    pointer = ""
    for name, index in _STEP.findall(path):
        if index == "...":
            break
        pointer += f"/{escape(name) if name else index}"
    return pointer


def _reword(sentence: str) -> str:
    if sentence.startswith(("Invalid enum value", "Invalid value")):
        return "expected one of the allowed values"
    sentence = _BACKTICKS.sub(lambda match: _in_json(match[1]), sentence)
    return (sentence[:1].lower() + sentence[1:])[:300]


def _in_json(type_: str) -> str:
    kinds = [_WORDS.get(kind, kind) for kind in type_.split(" | ")]
    return _either(kinds) if all(kind.isidentifier() or " " in kind for kind in kinds) else f"`{type_}`"


def _either(kinds: Iterable[str]) -> str:
    unique = list(dict.fromkeys(kinds))
    if "number" in unique and "integer" in unique:
        unique.remove("integer")
    return " or ".join([", ".join(unique[:-1]), unique[-1]] if len(unique) > 1 else unique)


def value_faults(value: Any, schema: dict[str, Any], pointer: str, refusal: str, *, skip: str = "") -> Iterator[Fault]:
    """Yield the faults of a value that msgspec refused with `refusal`; at least one."""
    found = False
    if is_small(value):
        for error in make_validator(schema).iter_errors(value):
            for fault in _faults_of(error, pointer):
                found = True
                yield fault
    if not found:
        yield refusal_fault(refusal, pointer, skip=skip)


def is_small(value: Any) -> bool:
    """Tell whether a value holds at most MAX_NODES values."""
    left = MAX_NODES
    stack = [value]
    while stack and left > 0:
        left -= 1
        node = stack.pop()
        if isinstance(node, dict | list):
            left -= len(node)
            stack.extend(node.values() if isinstance(node, dict) else node)
    return left > 0


def schema_faults(validator: Validator, value: Any) -> Iterator[Fault]:
    """Yield the faults that a validator finds in a value."""
    for error in validator.iter_errors(value):
        yield from _faults_of(error, "")


def make_validator(schema: dict[str, Any]) -> Validator:
    """Return a validator that accepts what msgspec accepts: 1.0 is no integer, and formats are checked."""
    return validator_class()(schema, format_checker=format_checker())


@lru_cache(maxsize=1)
def validator_class() -> Callable[..., Validator]:
    """Return the class of such validators."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    checker = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    made: Callable[..., Validator] = extend(Draft202012Validator, type_checker=checker)  # type: ignore[no-untyped-call]
    return made


@lru_cache(maxsize=1)
def format_checker() -> Any:
    """Return the check of formats: what msgspec does not accept as a time or a UUID is a fault."""
    import datetime
    from decimal import Decimal
    from uuid import UUID

    from jsonschema import FormatChecker

    zoned = Annotated[datetime.datetime, msgspec.Meta(tz=True)]
    types: dict[str, Any] = {"date-time": zoned, "date": datetime.date, "time": datetime.time}
    types |= {"duration": datetime.timedelta, "uuid": UUID}
    checker = FormatChecker(formats=())
    for name, type_ in types.items():
        checker.checks(name, raises=msgspec.ValidationError)(_checks(type_))
    checker.checks("decimal", raises=ArithmeticError)(
        lambda text: not isinstance(text, str) or Decimal(text).is_finite()
    )
    return checker


def _checks(type_: Any) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        if isinstance(value, str):
            msgspec.convert(value, type_)
        return True

    return check


def _faults_of(error: ValidationError, pointer: str) -> Iterator[Fault]:
    """Yield the faults in one error of jsonschema, whose path is relative to the value at `pointer`."""
    pointer += "".join(f"/{escape(str(step))}" for step in error.relative_path)
    rule, limit = str(error.validator), cast(Any, error.validator_value)
    value = cast(Any, error.instance)
    if rule == "required":
        yield from (missing_field(pointer, name) for name in limit if name not in value)
    elif rule == "additionalProperties" and limit is False:
        known = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
        yield from (unknown_field(pointer, name, known) for name in value if name not in known)
    elif rule == "anyOf" or (rule == "oneOf" and error.context):  # else several of the latter match
        yield from _union_faults(error, pointer)
    elif rule != "items":  # `items` of a tuple: maxItems reports the same fault
        yield Fault(pointer, _sentence(rule, limit, value))


def _union_faults(error: ValidationError, pointer: str) -> Iterator[Fault]:
    """Yield the faults of the union's member that the value comes closest to, or name the choices if none is close."""
    members: dict[Any, list[ValidationError]] = {}
    for inner in error.context or ():
        if inner.relative_schema_path:  # else the member is `false`
            members.setdefault(inner.relative_schema_path[0], []).append(inner)
    if not members:
        yield Fault(pointer, _sentence("None", False, error.instance))
        return
    meant = [errors for errors in members.values() if not any(_is_choice(inner, depth=0) for inner in errors)]
    if not meant:
        choices = [choice for errors in members.values() for inner in errors for choice in _choices(inner)]
        yield Fault(pointer, f"expected {_either(choices)}, got {kind_of(error.instance)}")
        return
    tags = [inner for errors in meant for inner in errors if _is_choice(inner, depth=1)]
    if len(tags) == len(meant):  # no struct of the union has this tag
        choices = [choice for inner in tags for choice in _choices(inner)]
        yield Fault(f"{pointer}/{escape(str(tags[0].relative_path[0]))}", f"expected {_either(choices)}")
        return
    for inner in min(meant, key=_distance):
        yield from _faults_of(inner, pointer)


def _is_choice(error: ValidationError, *, depth: int) -> bool:
    """Tell whether an error is about the kind of a value, not a part of it; a struct's tag is at depth 1."""
    rules = ("enum", "const") if depth else ("type", "enum", "const")
    return error.validator in rules and len(error.relative_path) == depth


def _distance(errors: list[ValidationError]) -> tuple[bool, int]:
    return any(_is_choice(error, depth=1) for error in errors), len(errors)


def _choices(error: ValidationError) -> list[str]:
    if error.validator == "enum":
        return [msgspec.json.encode(value).decode()[:50] for value in cast(Any, error.validator_value)[:10]]
    kinds: Any = error.validator_value if error.validator == "type" else []
    return [kinds] if isinstance(kinds, str) else kinds


def _sentence(rule: str, limit: Any, value: Any) -> str:
    if rule == "type":
        return f"expected {_either(limit if isinstance(limit, list) else [limit])}, got {kind_of(value)}"
    if rule in ("enum", "const"):
        return _one_of(limit if rule == "enum" else [limit])
    size = len(value) if isinstance(value, str | list | dict) else 0
    sentences = {
        "minimum": f"expected at least {limit}",
        "maximum": f"expected at most {limit}",
        "exclusiveMinimum": f"expected more than {limit}",
        "exclusiveMaximum": f"expected less than {limit}",
        "multipleOf": f"expected a multiple of {limit}",
        "minLength": f"expected at least {limit} characters, got {size}",
        "maxLength": f"expected at most {limit} characters, got {size}",
        "minItems": f"expected at least {limit} items, got {size}",
        "maxItems": f"expected at most {limit} items, got {size}",
        "minProperties": f"expected at least {limit} members, got {size}",
        "maxProperties": f"expected at most {limit} members, got {size}",
        "pattern": f"expected a string that matches {limit}",
        "format": _FORMATS.get(str(limit), f"expected a string of the format {limit}"),
        "uniqueItems": "expected no item twice",
        "None": "holds what the schema allows nowhere",
    }
    return sentences.get(rule, f"does not meet `{rule}` of the schema")


def _one_of(allowed: list[Any]) -> str:
    shown = ", ".join(msgspec.json.encode(value).decode() for value in allowed[:10])
    one_of = "one of " if len(allowed) > 1 else ""
    return f"expected {one_of}{shown}{', ...' if len(allowed) > 10 else ''}"[:300]
