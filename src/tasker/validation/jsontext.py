"""Strict reading of JSON text from outside: one pass of the standard decoder, with limits added.

Refused beyond RFC 8259: NaN and Infinity, repeated keys, more than MAX_DEPTH levels or MAX_ITEMS keys and elements,
integers of more than MAX_DIGITS digits, floats that overflow, lone surrogates and NUL, encodings other than UTF-8.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from itertools import islice
from math import isinf
from typing import Any, NoReturn

from tasker.errors import Fault, Invalid, Malformed

MAX_DEPTH = 64
MAX_ITEMS = 100_000
MAX_DIGITS = 1_000
_MAX_FAULTS = 100
_MAX_STEP = 200

# An unclosed string runs to the end of the text, so that the scan stays linear whatever is sent.
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BETWEEN_BRACKETS = re.compile(r"[^\[\]{}]+")
_EMPTY = re.compile(r"\[\s*+\]|\{\s*+\}")
# Escapes of NUL and of surrogates; the decoded strings show whether surrogates are paired.
_SUSPECT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_UNTEXT = re.compile("[\0\ud800-\udfff]")


def read_json(body: bytes) -> Any:
    """Return the value of a JSON text.

    Raises Malformed (not JSON in UTF-8, too deep, a repeated key) or Invalid (numbers out of range, strings that are
    not valid text, too many items).
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        if body.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
            raise Malformed("the body begins with the byte order mark of UTF-16: send it in UTF-8") from None
        raise Malformed(f"the body is not UTF-8: byte {error.start} is 0x{body[error.start]:02x}") from None
    _check_shape(text)
    value = _decode(text)
    if _SUSPECT.search(text):
        _check_strings(value)
    return value


def _check_shape(text: str) -> None:
    """Refuse JSON that is too deep or has too many items before it is decoded. For most bodies two counts suffice."""
    opened = text.count("[") + text.count("{")
    items = opened + text.count(",")
    if opened <= MAX_DEPTH and items <= MAX_ITEMS:
        return
    bare = _STRING.sub("0", text)
    commas = bare.count(",")
    if commas <= MAX_ITEMS and _is_too_deep(bare):
        raise Malformed(f"the JSON is nested more than {MAX_DEPTH} levels deep", name="too-deep")
    # A non-empty array or object has one item more than commas.
    if commas > MAX_ITEMS or commas + bare.count("[") + bare.count("{") - len(_EMPTY.findall(bare)) > MAX_ITEMS:
        raise Invalid(f"the JSON holds more than {MAX_ITEMS:,} keys and elements", name="too-many-items")


def _is_too_deep(bare: str) -> bool:
    """Tell whether JSON text, with its strings removed, is nested deeper than MAX_DEPTH."""
    depth = 0
    for bracket in _BETWEEN_BRACKETS.sub("", bare):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def _decode(text: str) -> Any:
    # No integer in a short text can have too many digits, and checking each costs more than everything else.
    decoder = _SHORT if len(text) <= MAX_DIGITS else _LONG
    try:
        if text[:1] == "{":  # most bodies; it takes half the time of `decode`
            value, end = decoder.raw_decode(text)
            if end == len(text) or not text[end:].strip(" \t\r\n"):
                return value
        return decoder.decode(text)
    except json.JSONDecodeError as error:
        check_no_mark(text)
        raise Malformed(f"{error.msg} (line {error.lineno}, column {error.colno})") from None


def check_no_mark(text: str) -> None:
    """Raise Malformed for a byte order mark, which RFC 8259 does not allow: it is invisible, so it is named."""
    if text.startswith("\ufeff"):
        raise Malformed("the body begins with a UTF-8 byte order mark (EF BB BF): send it without one")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Malformed(f"an object names the key {repeated[:100]!r} twice", name="duplicate-key")
    return value


def _constant(name: str) -> NoReturn:
    raise Malformed(f"{name} is not JSON")


def _float(digits: str) -> float:
    value = float(digits)
    if isinf(value):
        raise Invalid(f"the number {digits[:40]} is too large for a float", name="number-out-of-range")
    return value


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS + (digits[0] == "-"):
        raise Invalid(f"an integer has {len(digits):,} digits, more than {MAX_DIGITS:,}", name="number-out-of-range")
    return int(digits)


_SHORT = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
_LONG = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_integer)


def _check_strings(value: Any) -> None:
    faults: list[Fault] = []
    for path, detail in islice(_find_untext(value, []), _MAX_FAULTS):
        faults.append(Fault("".join(f"/{escape(str(step))}" for step in path), detail))
    if faults:
        raise Invalid("a string holds a lone surrogate or a NUL character", name="invalid-unicode", faults=faults)


def _find_untext(value: Any, path: list[str | int]) -> Iterator[tuple[list[str | int], str]]:
    """Yield the path of every key and string that is not valid text. path: the path of `value`, changed in place.

    It recurses: the depth of `value` has been checked.
    """
    if isinstance(value, str):
        if _UNTEXT.search(value):
            yield path, "holds a lone surrogate or a NUL character"
    elif isinstance(value, list | dict):
        for step, member in enumerate(value) if isinstance(value, list) else value.items():
            if isinstance(step, str) and _UNTEXT.search(step):
                yield path, "has a key that holds a lone surrogate or a NUL character"
            else:
                path.append(step)
                yield from _find_untext(member, path)
                path.pop()


def escape(key: str) -> str:
    """Return a key as one step of a JSON Pointer (RFC 6901), a very long one cut off.

    A cut pointer is only for people: otherwise each of a hundred faults could repeat several very long keys.
    """
    short = key if len(key) <= _MAX_STEP else f"{key[:_MAX_STEP]}..."
    return short.replace("~", "~0").replace("/", "~1")


def unescape(step: str) -> str:
    """Return the key that one step of a JSON Pointer names."""
    return step.replace("~1", "/").replace("~0", "~")
