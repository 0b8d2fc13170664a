"""JSON values with their numbers as they were written, so that a form changes no digit of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any, Final, TypeAlias

from tasker.errors import Invalid, Malformed
from tasker.validation.jsontext import escape, read_json


@dataclass(frozen=True, slots=True)
class Number:
    """A number of JSON, as its text."""

    text: str


@dataclass(frozen=True, slots=True)
class Broken:
    """What was typed where JSON is expected, and why it is not a JSON value."""

    text: str
    detail: str


@dataclass(frozen=True, slots=True)
class Absent:
    """Stands for a value that is left out."""


ABSENT: Final = Absent()
Value: TypeAlias = "str | Number | bool | list[Value] | dict[str, Value] | Broken | None"
"""A value as a form has it; only in what was typed are parts `Broken`."""
Given: TypeAlias = "Value | Absent"

MORE = "\0more"
"""The key of the members of an object that are `Broken` together. No JSON text that is accepted has such a key."""

MAX_TEXT = 256 * 1024
"""Characters of JSON that a form holds in one control: pages are made on the event loop."""
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_OUTSIDE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Control characters, and those that change the order of what is shown."""


def is_number(text: str) -> bool:
    """Tell whether a text is a number of JSON."""
    return _NUMBER.fullmatch(text) is not None


def parse(text: str) -> Value:
    """Return the value of a JSON text within the API's limits, or why it is none."""
    if len(text) > MAX_TEXT:
        return Broken(text, f"expected at most {MAX_TEXT:,} characters here; send larger params to the API")
    try:
        read_json(text.encode("utf-8", "surrogatepass"))
    except (Malformed, Invalid) as error:
        return Broken(text, f"expected JSON: {error.detail}")
    value: Value = json.loads(text, parse_int=Number, parse_float=Number)
    return value


def exact(value: Any) -> Value:
    """Return a decoded JSON value with its numbers as texts."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return [exact(each) for each in value]
    if isinstance(value, dict):
        return {str(key): exact(each) for key, each in value.items()}
    return Number(json.dumps(value)) if isinstance(value, int | float) else str(value)


def write(value: Given, indent: str = "") -> str:
    """Return the JSON text of a value, with a line for each member if there is an indent. Broken parts are as typed.

    Control characters and those that change the direction of text are escaped.
    """
    return "" if isinstance(value, Absent) else "".join(_written(value, indent, "\n" if indent else ""))


def _written(value: Value, indent: str, newline: str) -> Iterator[str]:
    if not isinstance(value, list | dict):
        yield _leaf(value)
    else:
        begin, end = "[]" if isinstance(value, list) else "{}"
        inner = newline + indent
        first = True
        yield begin
        for name, each in _members(value):
            yield inner if first else f",{inner or ' '}"
            yield name
            if isinstance(each, list | dict):
                yield from _written(each, indent, inner)
            else:  # there may be very many
                yield _leaf(each)
            first = False
        yield end if first else newline + end


def _leaf(value: str | Number | bool | Broken | None) -> str:
    if isinstance(value, str):
        return _OUTSIDE.sub(_escaped, encode_basestring(value))  # json.dumps makes an encoder for each
    return value.text if isinstance(value, Number | Broken) else json.dumps(value)


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _members(value: list[Value] | dict[str, Value]) -> Iterator[tuple[str, Value]]:
    if isinstance(value, list):
        yield from (("", each) for each in value)
    else:
        yield from ((f"{_leaf(key)}: ", each) for key, each in value.items())


def is_visible(text: str) -> bool:
    """Tell whether a text has no control character but tabs and newlines, and none that changes its direction."""
    return _OUTSIDE.search(text.replace("\n", "").replace("\t", "")) is None


def find_broken(value: Given, pointer: str = "") -> Iterator[tuple[str, str]]:
    """Yield the pointer and the detail of each part that is no JSON."""
    if isinstance(value, Broken):
        yield pointer, value.detail
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from find_broken(each, f"{pointer}/{index}")
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from find_broken(each, pointer if key == MORE else f"{pointer}/{escape(key)}")
