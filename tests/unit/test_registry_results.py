"""Results: JSON text of the declared type, or a clear ResultError."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypedDict
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from tasker.errors import ResultError
from tasker.registry import Registry, TaskType

NAN, INF = float("nan"), float("inf")


class Color(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: float | None = None


class Shape(Struct):
    corners: list[Point]


class Options(TypedDict):
    level: int


def returning(type_: Any) -> TaskType:
    def function(): ...

    function.__annotations__ = {"return": type_}
    return Registry().add(function)


@pytest.mark.parametrize(
    ("type_", "value", "text"),
    [
        (int, 6, b"6"),
        (float, 6, b"6"),
        (float, 0.1, b"0.1"),
        (int | float, 10**999, b"1" + b"0" * 999),
        (str, "äöü 👩‍👩‍👧", '"äöü 👩‍👩‍👧"'.encode()),
        (str, "null and NaN", b'"null and NaN"'),
        (None, None, b"null"),
        (int | None, None, b"null"),
        (float | None, None, b"null"),
        (list[float | None], [None, 1.5], b"[null,1.5]"),
        (tuple[int, str], (1, "a"), b'[1,"a"]'),
        (list[int], (1, 2), b"[1,2]"),
        (set[int], {1}, b"[1]"),
        (dict[int, str], {1: "a"}, b'{"1":"a"}'),
        (Color, Color.RED, b'"red"'),
        (datetime, datetime(2020, 1, 1, tzinfo=UTC), b'"2020-01-01T00:00:00Z"'),
        (UUID, UUID(int=0), b'"00000000-0000-0000-0000-000000000000"'),
        (Decimal, Decimal("1.10"), b'"1.10"'),
        (bytes, b"x", b'"eA=="'),
        (Point, Point(1), b'{"x":1,"y":null}'),
        (list[Shape], [Shape([Point(1, 2.5)])], b'[{"corners":[{"x":1,"y":2.5}]}]'),
        (Options, {"level": 1}, b'{"level":1}'),
        (Any, {"a": [1, None, Point(1)]}, b'{"a":[1,null,{"x":1,"y":null}]}'),
        (Any, b"x", b'"eA=="'),
    ],
    ids=lambda value: str(value)[:30].partition(" at 0x")[0],
)
def test_results_are_json_of_the_declared_type(type_: Any, value: Any, text: bytes) -> None:
    assert returning(type_).encode_result(value) == text


def test_without_a_declared_type_everything_with_json_text_is_taken() -> None:
    def function(): ...

    task_type = Registry().add(function)
    assert task_type.encode_result([1, "a", None]) == b'[1,"a",null]'
    with pytest.raises(ResultError):
        task_type.encode_result({"a": [NAN]})


def circle() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    ("type_", "value", "says"),
    [
        (int, "6", "expected integer, got string"),
        (int, 6.0, "expected integer, got number"),
        (int, True, "expected integer, got boolean"),
        (int, None, "expected integer, got null"),
        (None, 0, "expected null, got integer"),
        (str, b"x", "expected string, got base64 string"),
        (str, bytearray(b"x"), "expected string, got"),
        (list[int], [1, "x"], "expected integer, got string at /1"),
        (list[Point], [Point(1), Point("x")], "expected integer, got string at /1/x"),
        (Point, {"y": 1}, "missing required field"),
        (Color, "blue", "expected one of the allowed values"),
        (tuple[int, str], (1,), "expected array of length 2, got 1"),
        (float, NAN, "NaN or an infinity"),
        (float, INF, "NaN or an infinity"),
        (float | None, -INF, "NaN or an infinity"),
        (list[float | None], [1.0, NAN], "NaN or an infinity"),
        (Point, Point(1, NAN), "NaN or an infinity"),
        (dict[str, Any], {"a": ({"b": NAN},)}, "NaN or an infinity"),
        (Any, [[NAN]], "NaN or an infinity"),
        (Any, object(), "cannot be written as JSON (Encoding objects of type object is unsupported)"),
        (Any, print, "cannot be written as JSON"),
        (Any, (n for n in ()), "cannot be written as JSON"),
        (Any, {(1, 2): 3}, "cannot be written as JSON"),
        (str, "\ud800", "cannot be written as JSON"),
        (int, 10**5000, "cannot be written as JSON"),
        (Any, circle(), "cannot be written as JSON"),
        (Any, 1j, "cannot be written as JSON"),
    ],
    ids=lambda value: "" if isinstance(value, int | list | str) else str(value)[:30].partition(" at 0x")[0],
)
def test_what_is_no_json_of_the_declared_type_is_refused(type_: Any, value: Any, says: str) -> None:
    with pytest.raises(ResultError) as caught:
        returning(type_).encode_result(value)
    assert caught.value.name == "result-not-serializable"
    assert says in str(caught.value)
    assert len(str(caught.value)) <= 500


def test_the_refusal_does_not_repeat_the_value() -> None:
    with pytest.raises(ResultError) as caught:
        returning(Color).encode_result("s3cret")
    assert "s3cret" not in str(caught.value)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(_values)
def test_a_result_reads_as_it_was_or_is_refused(value: Any) -> None:
    try:
        text = returning(Any).encode_result(value)
    except ResultError as error:
        assert "NaN or an infinity" in str(error)  # noqa: PT017
        with pytest.raises(ValueError, match="not JSON compliant"):
            json.dumps(value, allow_nan=False)
    else:
        assert msgspec.json.decode(text) == value
