"""Strict writing of JSON text, the counterpart of jsontext: refuse values without a JSON form, never change them.

Refused: NaN and the infinities, as Decimals too; times without a zone; lone surrogates; two keys of an object with the
same text; a `msgspec.Raw` that is not JSON; more than MAX_DEPTH levels; values without a JSON form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from inspect import iscoroutine
from math import isfinite
from pathlib import PurePath
from types import AsyncGeneratorType, GeneratorType
from typing import Any, NoReturn

import msgspec
from msgspec import Raw

Hook = Callable[[Any], Any]
Writer = Callable[[Any], bytes]

NOT_FINITE = "it holds NaN or an infinity, which JSON cannot write"
NO_ZONE = "it holds a datetime without a time zone; use for example datetime.now(UTC)"
MAX_DEPTH = 500
"""Limit of nested arrays and objects, half of Python's recursion limit: readers may fail on deeper ones."""
_BASES: tuple[tuple[type, Hook], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (PurePath, str),
)
_MAX_STEPS = 64
"""Limit of steps in the pointer to a fault."""
_NAIVE = re.compile(rb'"\d{4}-\d\d-\d\dT[\d:.]+"')
_LEAVES = (datetime, Decimal, bytes, bytearray, memoryview)


class NotJson(ValueError):
    """A value has no JSON form; the message says why, and begins with "it"."""


def as_json(value: Any) -> Any:
    """Return the value to write in place of one that msgspec does not know: for a subclass an instance of its base.

    Paths become text, pydantic models their dump. Raises TypeError for every other value.
    """
    kind = type(value)
    for base, plain in _BASES:
        if issubclass(kind, base):
            return plain(value)
    serializer = getattr(kind, "__pydantic_serializer__", None)
    if serializer is not None:
        return serializer.to_python(value, mode="json", by_alias=True, warnings=False)
    raise TypeError(_no_json(value, kind))


def from_json(kind: Any, value: Any) -> Any:
    """Return a decoded JSON value as a type that msgspec does not know and `as_json` writes: a path, any object.

    Raises TypeError.
    """
    if kind is object:
        return value
    if not (isinstance(kind, type) and issubclass(kind, PurePath)):
        raise NotImplementedError(kind)
    if type(value) is not str:
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
    return kind(value)


def _no_json(value: Any, kind: type) -> str:
    if iscoroutine(value):
        value.close()  # it will not be awaited: avoid the warning
    if hasattr(kind, "__await__"):
        return "it holds an awaitable that was not awaited; return its result: `return await ...`"
    if issubclass(kind, GeneratorType | AsyncGeneratorType):
        return "it holds a generator; return a list of what it yields"
    return f"values of the type {kind.__qualname__} have no JSON form"


_write = msgspec.json.Encoder(enc_hook=as_json).encode
_rewrite = msgspec.json.Encoder().encode
_read = msgspec.json.Decoder().decode


def encode_strict(value: Any, writer: Writer = _write) -> bytes:
    """Return the JSON text of a value. Raises NotJson."""
    if type(value) in _SCALARS:  # most results, which need none of the checks below
        return encode_scalar(value)
    text = write(value, writer)
    settled = settle(text)
    check_leaves(value, text)
    return settled


def encode_scalar(value: Any) -> bytes:
    """Return the JSON text of a plain str, int, float, bool or None. Raises NotJson."""
    if type(value) is float and not isfinite(value):
        raise NotJson(NOT_FINITE)
    return write(value)


_SCALARS = frozenset({str, int, float, bool, type(None)})


def write(value: Any, writer: Writer = _write) -> bytes:
    """Return msgspec's JSON text, to be checked with `settle` and `check_leaves`. Raises NotJson."""
    try:
        return writer(value)
    except UnicodeEncodeError:
        raise NotJson("it cannot be written as JSON (a text holds a lone surrogate, which UTF-8 cannot hold)") from None
    except RecursionError:
        raise NotJson("it cannot be written as JSON (it is nested too deeply, or contains itself)") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise NotJson(f"it cannot be written as JSON ({error})") from None


def _is_too_deep(text: bytes) -> bool:
    """Tell whether more than MAX_DEPTH arrays and objects are open at once, in a few passes of native code."""
    bare = _STRING.sub(b"", text) if b"\\" in text else text.translate(None, _NEITHER).replace(b'""', b"")
    if b'"' in bare:  # a string that holds brackets
        bare = _STRING.sub(b"", text)
    bare = bare.translate(_ALIKE, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not bare:
            return False
        bare = bare.replace(b"[]", b"")
    return bool(bare)


_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NEITHER = bytes(set(range(256)) - set(b'[]{}"'))
_ALIKE = bytes.maketrans(b"{}", b"[]")


def settle(text: bytes) -> bytes:
    """Return msgspec's text on one line; refuse repeated keys and too much depth.

    Raises NotJson.
    """
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _is_too_deep(text):
        raise NotJson(f"it cannot be written as JSON (it is nested too deeply, more than {MAX_DEPTH} levels)")
    try:
        # Decoding and encoding the text again is faster than checking each value in Python.
        if _rewrite(read_any(text)) == text:
            return text
        _pairs_decoder.decode(text.decode())
        return msgspec.json.format(text, indent=-1)  # a Raw may contain blanks and line feeds
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson(f"it cannot be written as JSON (it holds a msgspec.Raw that is not JSON: {error})") from None
    except RecursionError:
        raise NotJson("it cannot be written as JSON (it is nested too deeply)") from None


def _refuse_twins(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise NotJson("it cannot be written as JSON (two keys of a dict have the same text, such as 1 and '1')")


_pairs_decoder = json.JSONDecoder(object_pairs_hook=_refuse_twins, parse_float=len, parse_int=len)


def check_leaves(value: Any, text: bytes, *, zones: bool = True) -> None:
    """Refuse values that msgspec changes: NaN, infinities and, if `zones`, datetimes without a zone.

    text: the JSON text of `value`; the value itself is searched only if the text suggests that it has such a leaf.
    """
    if not (b"null" in text or b"NaN" in text or b"Infinity" in text or (zones and _may_lack_zone(text))):
        return
    leaves = msgspec.to_builtins(value, builtin_types=_LEAVES, str_keys=True, enc_hook=_as_looked_at)
    try:
        (_zone_checker if zones else _number_checker).encode(leaves)
    except NotJson:
        raise
    except ValueError:
        raise NotJson(NOT_FINITE) from None


def _may_lack_zone(text: bytes) -> bool:
    return b"T" in text and _NAIVE.search(text) is not None


def _as_looked_at(value: Any) -> Any:
    """Do what `as_json` does; return None for values that a writer converts to text."""
    try:
        return None if type(value) is Raw else as_json(value)
    except TypeError:
        return None


def _check_leaf(leaf: Any) -> None:
    if isinstance(leaf, Decimal) and not leaf.is_finite():
        raise NotJson(NOT_FINITE)


def _check_zoned_leaf(leaf: Any) -> None:
    _check_leaf(leaf)
    if isinstance(leaf, datetime) and leaf.utcoffset() is None:
        raise NotJson(NO_ZONE)


_number_checker = json.JSONEncoder(allow_nan=False, check_circular=False, default=_check_leaf)
_zone_checker = json.JSONEncoder(allow_nan=False, check_circular=False, default=_check_zoned_leaf)


def place_of_fault(value: Any) -> str:
    """Return the JSON Pointer of the innermost list item or dict member that `encode_strict` refuses."""
    pointer = ""
    for _ in range(_MAX_STEPS):
        inner = next(((name, child) for name, child in _children(value) if _is_refused(child)), None)
        if inner is None:
            return pointer
        pointer, value = f"{pointer}/{str(inner[0]).replace('~', '~0').replace('/', '~1')}", inner[1]
    return pointer


def _children(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list | tuple) else []


def _is_refused(value: Any) -> bool:
    try:
        encode_strict(value)
    except NotJson:
        return True
    return False


def read_number(digits: str) -> float | Raw:
    """Return a number with a fraction or an exponent as a float, or as its digits if no float represents them."""
    number = float(digits)
    return number if is_kept(digits, number) else Raw(_plain_digits(digits))


def is_kept(digits: str, number: float) -> bool:
    """Tell whether a float represents its digits exactly."""
    if repr(number) == digits:  # the usual case
        return True
    if len(digits) > _LONG and len(_figures(digits).strip("0")) > _FLOAT_FIGURES:
        return False
    try:
        return Decimal(digits) == Decimal(repr(number))
    except ArithmeticError:  # an exponent of more than 18 digits
        return False


def _plain_digits(digits: str) -> bytes:
    """Return the canonical text of a number, which is the same for equal numbers, in a few passes of native code."""
    mantissa, _, exponent = digits.lower().partition("e")
    if len(exponent) > _SAFE_EXPONENT:
        try:
            Decimal(digits)
        except ArithmeticError:
            return digits.encode()
    text = _figures(digits).lstrip("0")
    short = text.rstrip("0")
    fraction = mantissa.partition(".")[2]
    power = _whole(exponent) - len(fraction) + len(text) - len(short)
    return f"{'-' if digits.startswith('-') else ''}{short or 0}e{power if short else 0}".encode()


def _figures(digits: str) -> str:
    """Return the digits before the exponent, without sign and point."""
    return digits.lower().partition("e")[0].lstrip("-").replace(".", "")


def _whole(exponent: str) -> int:
    size = int(exponent.lstrip("+-0") or "0")
    return -size if exponent.startswith("-") else size


def has_many_exponents(text: bytes) -> bool:
    """Tell whether a JSON text has many numbers with an exponent, which msgspec may take long to read.

    It takes 10 us for some of them, such as 1e300, and keeps the interpreter's lock; Python's `float` takes 0.2 us.
    """
    return len(text) > _FEW_BYTES and len(_EXPONENT.findall(text)) > _FEW_EXPONENTS


def read_any(text: bytes) -> Any:
    """Return the value of a JSON text; accept and refuse the same texts as msgspec.

    Raises msgspec.DecodeError, UnicodeDecodeError (it is not UTF-8), RecursionError.
    """
    if not has_many_exponents(text):
        return _read(text)
    decoded = text.decode()
    try:
        value = _decoder.decode(decoded)
        if "\\u" in decoded:
            _rewrite(value)  # a lone surrogate has no bytes
    except ValueError as error:
        raise msgspec.DecodeError(f"JSON is malformed: {error}") from None
    return value


def _read_finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise msgspec.ValidationError("Number out of range")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise msgspec.DecodeError(f"JSON is malformed: {name} is not a JSON number")


_decoder = json.JSONDecoder(parse_float=_read_finite, parse_constant=_refuse_constant)


_FEW_BYTES = 4_000
_FEW_EXPONENTS = 1_000
_EXPONENT = re.compile(rb"[0-9][eE][+-]?[0-9]")
_LONG = 40
"""Length of a number above which its digits are counted."""
_FLOAT_FIGURES = 17
"""Maximum number of digits that a float is written with."""
_SAFE_EXPONENT = 15
"""Length of an exponent that Decimal always accepts."""


decode_exact = msgspec.json.Decoder(float_hook=read_number).decode
"""Decode JSON text to compare or encode it again: numbers that no float represents are kept as Raw digits."""
