"""Results: JSON text of the declared type, or a clear ResultError."""

from __future__ import annotations

import enum
import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pydantic.dataclasses
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Raw, Struct

from tasker.errors import ResultError
from tasker.tasktypes.registry import Registry, TaskType

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


class Text(str):
    """As libraries have them."""

    __slots__ = ()

    def __str__(self) -> str:
        return "another text"


class Number(int):
    pass


class Real(float):
    pass


class Items(list[int]):
    pass


class Item(pydantic.BaseModel):
    price: Annotated[Decimal, pydantic.Field(gt=0, alias="Price")]
    note: float | None = None


@pydantic.dataclasses.dataclass
class Place:
    x: int


class Loose(pydantic.BaseModel):
    count: int = 1
    anything: Any = None


def changed(name: str, value: Any) -> Loose:
    """Return a model with a field set to a value that it would not accept."""
    loose = Loose()
    setattr(loose, name, value)
    return loose


NAIVE = datetime(2026, 1, 2)  # noqa: DTZ001


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
        (str, Text("text"), b'"text"'),
        (int, Number(5), b"5"),
        (float, Real(1.5), b"1.5"),
        (float, Number(5), b"5"),
        (list[int], Items([Number(1)]), b"[1]"),
        (dict[str, int], Counter({Text("a"): 1}), b'{"a":1}'),
        (Any, [Text("text"), Number(5), Real(1.5)], b'["text",5,1.5]'),
        (object, {"a": None}, b'{"a":null}'),
        (list[object], [1, None, {"a": Path("/x")}], b'[1,null,{"a":"/x"}]'),
        (NoReturn, None, b"null"),
        (Path, Path("/srv"), b'"/srv"'),
        (dict[str, Path | None], {"a": Path("/srv"), "b": None}, b'{"a":"/srv","b":null}'),
        (Annotated[datetime, Meta(tz=False)], NAIVE, b'"2026-01-02T00:00:00"'),
        (list[Any], [Raw(b"[1]")], b"[[1]]"),
        (Item, Item(Price=Decimal("1.10")), b'{"Price":"1.10","note":null}'),
        (list[Item | None], [None, Item(Price=Decimal(3))], b'[null,{"Price":"3","note":null}]'),
        (dict[str, Place], {"a": Place(1)}, b'{"a":{"x":1}}'),
        (Any, [Item(Price=Decimal("1.10")), Place(1)], b'[{"Price":"1.10","note":null},{"x":1}]'),
        (Annotated[int, pydantic.Field(gt=0)], 1, b"1"),
    ],
    ids=lambda value: str(value)[:30].partition(" at 0x")[0],
)
def test_results_are_json_of_the_declared_type(type_: Any, value: Any, text: bytes) -> None:
    assert returning(type_).encode_result(value) == text


def test_without_a_declared_type_any_json_value_is_accepted() -> None:
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
        (Any, object(), "cannot be written as JSON (values of the type object have no JSON form)"),
        (Any, print, "cannot be written as JSON"),
        (Any, (n for n in ()), "cannot be written as JSON"),
        (Any, {(1, 2): 3}, "cannot be written as JSON"),
        (str, "\ud800", "cannot be written as JSON"),
        (int, 10**5000, "cannot be written as JSON"),
        (Any, circle(), "cannot be written as JSON"),
        (Any, 1j, "cannot be written as JSON"),
        (Any, Raw(b"not json"), "msgspec.Raw that is not JSON"),
        (list[Any], [Raw(b"{")], "msgspec.Raw that is not JSON"),
        (dict[str, Any], {"a": Raw(b"")}, "msgspec.Raw that is not JSON"),
        (int, Raw(b"1"), "it holds a msgspec.Raw"),
        (list[int], [Raw(b"1")], "it holds a msgspec.Raw"),
        (Any, {1: "a", "1": "b"}, "two keys of a dict have the same text"),
        (dict[str, Any], {"a": {1: "a", "1": "b"}}, "two keys of a dict have the same text"),
        (dict[int | str, str], {1: "a", "1": "b"}, "two keys of a dict have the same text"),
        (str, Text("\ud800"), "a lone surrogate"),
        (float, Real("nan"), "NaN or an infinity"),
        (Decimal, Decimal("NaN"), "NaN or an infinity"),
        (list[Decimal | None], [None, Decimal("Infinity")], "NaN or an infinity"),
        (datetime, NAIVE, "a datetime without a time zone"),
        (list[datetime | None], [None, NAIVE], "a datetime without a time zone"),
        (Any, [NAIVE], "a datetime without a time zone"),
        (dict[str, Any], {"a": NAIVE}, "a datetime without a time zone"),
        (NoReturn, 5, "expected null, got integer"),
        (Path, 5, "expected string, got integer"),
        (Item, {"Price": 0}, "expected greater than 0 at /Price"),
        (Item, 5, "expected a valid dictionary or instance of Item"),
        (list[Place], [Place(1), "x"], "at /1"),
        (Loose, changed("count", "x"), "Expected `int`"),
        (Loose, changed("anything", object()), "Unable to serialize unknown type"),
        (Any, [changed("anything", object())], "Unable to serialize unknown type"),
        (Item, Item(Price=Decimal(1), note=NAN), "NaN or an infinity"),
        (list[int], [NAN], "expected integer, got number at /0"),
    ],
    ids=lambda value: "" if isinstance(value, int | list | str) else str(value)[:30].partition(" at 0x")[0],
)
def test_results_of_another_type_are_refused(type_: Any, value: Any, says: str) -> None:
    with pytest.raises(ResultError) as caught:
        returning(type_).encode_result(value)
    assert caught.value.name == "result-not-serializable"
    assert says in str(caught.value)
    assert len(str(caught.value)) <= 500


@dataclass
class Chain:
    next: Chain | None


def test_a_type_that_holds_itself_is_limited_in_depth() -> None:
    chain = Chain(None)
    for _ in range(600):
        chain = Chain(chain)
    with pytest.raises(ResultError, match="more than 500 levels"):
        returning(Chain).encode_result(chain)


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
