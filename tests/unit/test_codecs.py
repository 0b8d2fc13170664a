"""Values of steps as JSON text and back, by their types; and what functions say of theirs."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

import pytest
from pydantic import BaseModel

from tasker.errors import ResultError
from tasker.tasktypes.codecs import codec_of, returned_by


@dataclass
class Point:
    x: int
    y: int


class Colour(Enum):
    RED = "red"


class Pet(BaseModel):
    name: str
    age: int = 3


class Odd:
    pass


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Any, {"a": [1, None, "x", 1.5]}),
        (Any, 2**70),
        (None, None),
        (int, 5),
        (str | None, None),
        (tuple[int, str], (1, "a")),
        (list[Point], [Point(1, 2)]),
        (dict[str, Point], {"a": Point(1, 2)}),
        (Colour, Colour.RED),
        (set[int], {1, 2}),
        (bytes, b"\x00\xff"),
        (Decimal, Decimal("1.10000000000000000000001")),
        (datetime, datetime(2026, 1, 2, tzinfo=UTC)),
        (UUID, UUID(int=5)),
        (Path, Path("/a/b")),
        (Pet, Pet(name="Rex")),
        (list[Pet], [Pet(name="Rex", age=4)]),
        (object, {"a": 1}),
    ],
)
def test_a_value_comes_back_as_its_type(hint: Any, value: Any) -> None:
    codec = codec_of(hint)
    back = codec.decode(codec.encode(value))
    assert back == value
    assert type(back) is type(value)


def test_a_value_comes_back_as_json_if_its_type_says_nothing() -> None:
    codec = codec_of(Any)
    assert codec.decode(codec.encode((Point(1, 2), Colour.RED, {1}))) == [{"x": 1, "y": 2}, "red", [1]]


@pytest.mark.parametrize(("hint", "value"), [(int, "5"), (Point, {"x": 1}), (Odd, Odd()), (Any, Odd()), (None, 5)])
def test_a_value_of_another_type_is_refused(hint: Any, value: Any) -> None:
    with pytest.raises(ResultError):
        codec_of(hint).encode(value)


@pytest.mark.parametrize(
    ("hint", "text"), [(int, b'"5"'), (Point, b'{"x":1}'), (Pet, b"{}"), (None, b"5"), (str, b"null")]
)
def test_a_text_of_another_type_is_refused(hint: Any, text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        codec_of(hint).decode(text)


def test_a_schema_describes_the_values() -> None:
    assert codec_of(int).schema() == {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "integer"}
    schema = codec_of(Point).schema()
    assert schema["$ref"] == "#/$defs/Point"
    assert set(schema["$defs"]["Point"]["properties"]) == {"x", "y"}
    assert codec_of(Pet).schema()["required"] == ["name"]
    assert codec_of(list[Pet]).schema()["items"] == {"$ref": "#/$defs/Pet"}


class Shop:
    def sell(self) -> Point:
        return Point(1, 2)

    def __call__(self) -> Colour:
        return Colour.RED


def plain() -> Point:
    return Point(1, 2)


async def awaited() -> Point:
    return Point(1, 2)


def gives_awaitable() -> Awaitable[Point]:
    return awaited()


def gives_coroutine() -> Coroutine[Any, Any, Point]:
    return awaited()


def never() -> NoReturn:
    raise RuntimeError


def unresolvable() -> Nowhere:  # type: ignore[name-defined]  # noqa: F821
    pass


def silent():  # type: ignore[no-untyped-def]
    return 1


@functools.wraps(awaited)
def wrapping(*args: Any) -> Any:
    return awaited(*args)


@pytest.mark.parametrize(
    ("function", "hint"),
    [
        (plain, Point),
        (awaited, Point),
        (gives_awaitable, Point),
        (gives_coroutine, Point),
        (wrapping, Point),
        (Shop().sell, Point),
        (Shop(), Colour),
        (functools.partial(functools.partial(plain)), Point),
        (lambda: 1, Any),
        (silent, Any),
        (unresolvable, Any),
        (len, Any),
        (asyncio.to_thread, Any),
    ],
)
def test_finds_the_type_that_a_function_returns(function: Callable[..., Any], hint: Any) -> None:
    found = returned_by(function)
    assert found is hint or function is asyncio.to_thread
    assert returned_by(function) is found


def test_a_function_that_never_returns_gives_nothing() -> None:
    assert codec_of(returned_by(never)).encode(None) == b"null"
