"""Strict writing of JSON: what JSON holds, and nothing changed in silence."""

from __future__ import annotations

import math
import sys
import threading
from collections import Counter, OrderedDict, UserDict, namedtuple
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from tasker.validation.encoding import (
    MAX_DEPTH,
    NotJson,
    decode_exact,
    encode_strict,
    from_json,
    place_of_fault,
    read_number,
)

NAN = math.nan
NAIVE = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "another text"

    def encode(self, *_: Any) -> Any:  # type: ignore[override]
        raise RuntimeError("not this one")


class Number(int):
    def __int__(self) -> int:
        return -1

    __index__ = __int__


class Real(float):
    def __float__(self) -> float:
        return -1.0


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    YES = "yes"


class Pair(Enum):
    BOTH = (1, 2)


class Items(list[int]):
    def __iter__(self) -> Any:
        raise RuntimeError("not to be iterated")


class Fields(dict[str, int]):
    def keys(self) -> Any:
        raise RuntimeError("without keys")

    items = __iter__ = keys


class Point(pydantic.BaseModel):
    x: float = pydantic.Field(alias="X")
    at: Any = None


Row = namedtuple("Row", ["a", "b"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (-0.0, "-0.0"),
        (10**1000, "1" + "0" * 1000),
        ("a\0é", '"a\\u0000é"'),
        (Text("text"), '"text"'),
        (Number(5), "5"),
        (Real(1.5), "1.5"),
        (Level.LOW, "1"),
        (Word.YES, '"yes"'),
        (Pair.BOTH, "[1,2]"),
        ({Text("key"): Number(1), Level.LOW: 2}, '{"key":1,"1":2}'),
        (Items([1]), "[1]"),
        (Fields(a=1), '{"a":1}'),
        (OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
        (Counter("a"), '{"a":1}'),
        (Row(1, None), "[1,null]"),
        ({1}, "[1]"),
        (frozenset(), "[]"),
        (b"x", '"eA=="'),
        (bytearray(b"x"), '"eA=="'),
        (Decimal("1.10"), '"1.10"'),
        (NAIVE.replace(tzinfo=UTC), '"2026-01-02T03:04:05Z"'),
        (date(2026, 1, 2), '"2026-01-02"'),
        (time(3, 4), '"03:04:00"'),
        (timedelta(seconds=1), '"PT1S"'),
        (Path("/srv"), '"/srv"'),
        ([PurePosixPath("a/b")], '["a/b"]'),
        ([Point(X=1)], '[{"X":1.0,"at":null}]'),
        ("2026-01-02T03:04:05", '"2026-01-02T03:04:05"'),
        (["NaN", None, "Infinity", "null"], '["NaN",null,"Infinity","null"]'),
        ([Raw(b'{"a" : [1.10,\n 12345678901234567.89]}')], '[{"a":[1.10,12345678901234567.89]}]'),
        ({"a": {1: "x"}, "b": {"1": "y"}}, '{"a":{"1":"x"},"b":{"1":"y"}}'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_holds(value: Any, text: str) -> None:
    assert encode_strict(value) == text.encode()


def circle() -> Any:
    ring: list[Any] = []
    ring.append({"again": ring})
    return ring


def nested(depth: int, value: Any = 1) -> Any:
    for _ in range(depth):
        value = [value]
    return value


async def stream() -> AsyncIterator[int]:
    yield 1


FINITE, TWINS, RAW = "NaN or an infinity", "two keys of a dict have the same text", "msgspec.Raw that is not JSON"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (NAN, FINITE),
        (Real("nan"), FINITE),
        ([{"a": (math.inf,)}], FINITE),
        ({"a": None, "b": {NAN}}, FINITE),
        ({1: NAN, 2: None}, FINITE),
        (Decimal("NaN"), FINITE),
        ([Decimal("-Infinity")], FINITE),
        ({"a": Decimal("sNaN")}, FINITE),
        (Point(X=NAN), FINITE),
        ([Point(X=1, at=Decimal("1")), Point(X=-math.inf)], FINITE),
        (NAIVE, "a datetime without a time zone"),
        ([{"at": NAIVE}], "a datetime without a time zone"),
        ({1: "a", "1": "b"}, TWINS),
        ([{"x": {1.5: "a", Text("1.5"): "b"}}], TWINS),
        ([Raw(b'{"a":1,"a":2}')], TWINS),
        (Raw(b"not json"), RAW),
        (Raw(b""), RAW),
        ({"a": Raw(b"[1")}, RAW),
        ([Raw(b"NaN")], RAW),
        (Raw(b'"\\ud800"'), RAW),
        (Raw(b'"\xff"'), RAW),
        ("\ud800", "lone surrogate"),
        ({"\udfff": 1}, "lone surrogate"),
        (Path("/\udcff"), "lone surrogate"),
        (10**5000, "digits"),
        (circle(), "contains itself"),
        (nested(100_000), "nested too deeply"),
        ((n for n in ()), "a generator; return a list"),
        ([stream()], "a generator; return a list"),
        (object(), "values of the type object have no JSON form"),
        ([UserDict()], "values of the type UserDict have no JSON form"),
        ({None: 1}, "cannot be written as JSON"),
        ({(1, 2): 1}, "cannot be written as JSON"),
        (threading.Lock(), "have no JSON form"),
        (1j, "values of the type complex have no JSON form"),
        (msgspec.UNSET, "have no JSON form"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_does_not_hold_is_refused(value: Any, says: str) -> None:
    with pytest.raises(NotJson, match=r"^it ") as caught:
        encode_strict(value)
    assert says in str(caught.value)


@pytest.mark.parametrize("inner", [1, "]}[{", "[[[", "}}", '\\"[', {"a": ["]"] * 600}, [[{}]] * 600])
def test_depth_is_limited_whatever_the_strings_hold(inner: Any) -> None:
    levels = {int: 0, str: 0, dict: 2, list: 3}[type(inner)]
    assert encode_strict(nested(MAX_DEPTH - levels, inner)).startswith(b"[[")
    with pytest.raises(NotJson, match="nested too deeply"):
        encode_strict(nested(MAX_DEPTH - levels + 1, inner))


def test_depth_is_limited_also_where_python_is_not() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        with pytest.raises(NotJson, match="more than 500 levels"):
            encode_strict({"a": nested(3000, [True])})
    finally:
        sys.setrecursionlimit(limit)


async def test_an_awaitable_is_closed_and_named() -> None:
    async def number() -> int:
        return 1

    with pytest.raises(NotJson, match=r"return its result: `return await \.\.\.`"):
        encode_strict({"a": number()})  # a coroutine that is never closed would warn, and fail this test


def test_the_refused_value_is_located() -> None:
    assert place_of_fault({"params": [1, {"a/b": [NAN]}]}) == "/params/1/a~1b/0"
    assert place_of_fault({1: "a", "1": "b"}) == ""
    assert len(place_of_fault(circle())) < 1000


@pytest.mark.parametrize(
    ("digits", "number"),
    [
        ("1.10", 1.1),
        ("-0.0", -0.0),
        ("100e2", 10000.0),
        ("0.30000000000000004", 0.30000000000000004),
        ("12345678901234567.89", b"1234567890123456789e-2"),
        ("12345678901234567.8900", b"1234567890123456789e-2"),
        ("1234567890123456789000e-5", b"1234567890123456789e-2"),
        ("-1e-400", b"-1e-400"),
        ("1e-99999999999999999999", b"1e-99999999999999999999"),
    ],
)
def test_a_number_keeps_its_digits(digits: str, number: float | bytes) -> None:
    read = read_number(digits)
    assert (bytes(read) if isinstance(read, Raw) else read) == number
    assert type(read) is (Raw if isinstance(number, bytes) else float)


def by_decimal(digits: str) -> float | bytes:
    """A simple form of `read_number`, whose time grows faster than the number of digits."""
    number = float(digits)
    try:
        if Decimal(digits) == Decimal(repr(number)):
            return number
        sign, figures, exponent = Decimal(digits).as_tuple()
    except ArithmeticError:
        return digits.encode()
    text = "".join(map(str, figures)).lstrip("0")
    short = text.rstrip("0")
    assert isinstance(exponent, int)
    return f"{'-' * sign}{short or 0}e{exponent + len(text) - len(short) if short else 0}".encode()


_figures = st.text("0123456789", max_size=60) | st.sampled_from(["0" * 50, "9" * 50, "1" + "0" * 50])
_exponents = st.integers(-400, 400).map(str) | st.sampled_from(
    ["+007", "0" * 30 + "3", "9" * 18, "-" + "9" * 18, "1" * 25]
)


@given(
    st.sampled_from(["", "-"]), st.integers(0, 10**45).map(str), _figures, st.sampled_from(["e", "E"]),
    st.none() | _exponents,
)  # fmt: skip
@example("", "0", "1000000000000000055511151231257827021181583404541015625", "e", None)
def test_a_number_is_what_decimals_say(sign: str, whole: str, fraction: str, e: str, exponent: str | None) -> None:
    digits = sign + whole + (f".{fraction}" if fraction else "") + ("" if exponent is None else e + exponent)
    if "." in digits or exponent is not None:
        read = read_number(digits)
        assert repr(bytes(read) if isinstance(read, Raw) else read) == repr(by_decimal(digits))


def test_exact_decoding_can_be_written_again() -> None:
    text = b'{"a":[12345678901234567.89,1.10,3,"1.10"]}'
    assert msgspec.json.encode(decode_exact(text)) == b'{"a":[1234567890123456789e-2,1.1,3,"1.10"]}'


def test_a_path_is_read_from_text_alone() -> None:
    assert from_json(Path, "/srv") == Path("/srv")
    with pytest.raises(TypeError, match="Expected `str`, got `int`"):
        from_json(Path, 5)
    with pytest.raises(NotImplementedError):
        from_json(threading.Thread, "x")
