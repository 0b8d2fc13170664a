"""Task types of all kinds, and inputs for them, good and bad: what every way into the service is tried with."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID

import pydantic
from msgspec import Meta, Struct

from tasker.rules.secrets import secret
from tasker.tasktypes.registry import Registry, TaskType, task


class Format(enum.Enum):
    CSV = "csv"
    PDF = "pdf"
    XLSX = "xlsx"


class Address(Struct):
    street: Annotated[str, Meta(min_length=1)]
    city: str
    country: Annotated[str, Meta(pattern="^[A-Z]{2}$", description="ISO 3166 code, two letters")] = "DE"
    note: str | None = None


class Line(Struct):
    sku: str
    quantity: Annotated[int, Meta(ge=1, le=999)] = 1


class ByMail(Struct, tag_field="via", tag="mail"):
    to: Annotated[list[str], Meta(min_length=1)]
    subject: str = "Your report"


class ByBucket(Struct, tag_field="via", tag="bucket"):
    bucket: str
    prefix: str = "reports/"


class Tree(Struct):
    name: str
    children: list[Tree] = []


class Partial(TypedDict, total=False):
    width: int
    height: int


@task(name="report")
async def report(
    customer: Annotated[str, Meta(min_length=3, max_length=40, description="Whose report")],
    since: date,
    format: Format = Format.PDF,
    address: Address | None = None,
    lines: list[Line] = [],  # noqa: B006  the service only describes it
    deliver: ByMail | ByBucket | None = None,
    discount: Annotated[float, Meta(ge=0, le=1)] | None = None,
    locale: Literal["de", "en", "fr", "it", "nl", "pl"] = "en",
    dry_run: bool = False,
    labels: dict[str, str] = {},  # noqa: B006
    size: int | str = 10,
) -> None:
    """Write a customer's report."""


@task(name="texts")
async def texts(
    text: str,
    name: Annotated[str, Meta(max_length=5)] = "x",
    maybe: str | None = None,
    number_or_none: int | None = 5,
    yes: bool = True,
    either: bool | None = None,
    must: bool = False,
) -> None: ...


@task(name="formats")
async def formats(
    day: date | None = None,
    moment: datetime | None = None,
    at: time | None = None,
    span: timedelta | None = None,
    id: UUID | None = None,
    amount: Decimal | None = None,
    one: Literal["only"] = "only",
    mixed: Literal["a", 1, None] = "a",
    raw: bytes | None = None,
) -> None: ...


@task(name="deep")
async def deep(
    tree: Tree,
    pairs: dict[str, list[int]],
    matrix: list[list[float]],
    any: Any,
    both: tuple[int, str],
    part: Partial,
    unions: list[int | str | Line | None],
    whole: dict[str, Any],
) -> None: ...


@task(name="hidden")
async def hidden(token: Annotated[str, secret], keys: Annotated[list[str], secret] = []) -> None:  # noqa: B006
    ...


@task(name="sums")
async def sums(a: int | float, b: int | float, *more: int | float) -> None: ...


@task(name="nothing")
async def nothing() -> None: ...


class Item(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    sku: Annotated[str, pydantic.Field(min_length=3, alias="SKU")]
    price: Annotated[Decimal, pydantic.Field(gt=0)]

    @pydantic.field_validator("sku")
    @classmethod
    def _is_upper(cls, sku: str) -> str:
        if not sku.isupper():
            raise ValueError("expected capital letters")
        return sku


class Order(pydantic.BaseModel):
    items: list[Item]
    note: str = ""


@task(name="order")
async def order(order: Order, count: Annotated[int, Meta(multiple_of=2)] = 2) -> None: ...


@dataclass
class Point:
    x: float
    y: float = 0.0


@task(name="places")
async def places(point: Point, *path: Point, by: Annotated[str, Meta(pattern="^[a-z]+$")] = "a") -> None: ...


@task(name="sets")
async def sets(
    tags: Annotated[list[Annotated[str, Meta(max_length=3)]], Meta(max_length=3)],
    unique: set[int] = set(),  # noqa: B006
    by_number: dict[int, str] = {},  # noqa: B006
    text: str = "",
) -> None: ...


def corpus() -> list[TaskType]:
    """Return the task types of the corpus."""
    registry = Registry()
    return [registry.add(one) for one in (report, texts, formats, deep, hidden, sums, nothing, order, places, sets)]


_LEAF = {"name": "d", "children": [{"name": "e"}]}
_ADDRESS = {"street": "Hafenstr. 4", "city": "Hamburg"}
INPUTS: dict[str, list[Any]] = {
    "report": [
        {"customer": "acme", "since": "2026-11-01"},
        {"customer": "acme", "since": "2026-11-01", "address": _ADDRESS, "lines": [{"sku": "A"}, {"sku": "B"}]},
        {"customer": "ac", "since": "2026-13-01", "format": "doc", "address": {"street": "", "country": "Germany"}},
        {"customer": "acme", "since": "2026-11-01", "lines": [{"sku": "A", "quantity": 1200}, {"quantity": 1}, 3]},
        {"customer": "acme", "since": "2026-11-01", "deliver": {"via": "mail", "to": []}, "discount": 1.5},
        {"customer": "acme", "since": "2026-11-01", "deliver": {"via": "bucket", "bucket": "b"}, "size": "large"},
        {"customer": "acme", "since": "2026-11-01", "deliver": {"via": "pigeon"}, "labels": {"a": 1, "b": "x"}},
        {"customer": "acme", "since": "2026-11-01", "deliver": None, "dry_run": "yes", "locale": "xx", "size": 1.5},
        {"customer": 7, "since": None, "unknown": 1},
        {},
    ],
    "texts": [
        {"text": ""},
        {"text": "a\nb\n", "maybe": "", "name": ""},
        {"text": "\nfirst line is empty", "maybe": None, "number_or_none": None},
        {"text": "‮gnp.exe", "yes": False, "either": True, "must": True},
        {"text": " <b>&amp;</b> \t", "either": False, "yes": True},
        {"text": "5", "number_or_none": "5", "name": "abcdef", "either": None},
        {"text": None},
        {"name": 1},
    ],
    "formats": [
        {},
        {"day": "2026-01-31", "moment": "2026-01-31T12:00:00Z", "at": "12:00:00Z", "span": "PT30S"},
        {"day": "31.1.2026", "moment": "2026-01-31T12:00:00", "at": "noon", "span": "30 s", "id": "x"},
        {"id": "0198c0de-0000-7000-8000-000000000000", "amount": "1.50", "one": "only", "mixed": 1, "raw": "aGk="},
        {"amount": 1.5, "one": "other", "mixed": None, "raw": "***"},
    ],
    "deep": [
        {
            "tree": {"name": "a", "children": [{"name": "b", "children": [{"name": "c", "children": [_LEAF]}]}]},
            "pairs": {"one": [1, 2], "two": []},
            "matrix": [[1.5, 2], [], [3]],
            "any": {"x": [1, None, "y"]},
            "both": [1, "x"],
            "part": {"width": 3},
            "unions": [1, "a", {"sku": "x"}, None],
            "whole": {"k": {"deep": True}},
        },
        {"tree": {"name": "a", "children": [{"nome": "b"}]}, "pairs": {"one": ["x"]}, "matrix": [["x"], 3], "any": None,
         "both": [1], "part": {"width": "wide", "depth": 3}, "unions": [1.5, {"sku": 1}, []], "whole": []},
        {"tree": {}, "pairs": {}, "matrix": [], "any": "", "both": [], "part": {}, "unions": [], "whole": {}},
    ],
    "sums": [
        {"a": 4, "b": 2},
        {"a": 123456789012345678901234567890, "b": 0.1, "more": [1, 2.50, 1e5]},
        {"a": "x", "b": None, "more": [1, "y", True]},
        {"a": 1},
    ],
    "nothing": [{}, {"x": 1}],
    "order": [
        {"order": {"items": [{"SKU": "ABC", "price": 1}, {"SKU": "DEF", "price": "2.50"}]}, "count": 4},
        {"order": {"items": [{"SKU": "abc", "price": -1, "size": 1}, {"SKU": 3}]}, "count": 3},
        {"order": {}, "count": "2"},
        {"order": "[]"},
    ],
    "places": [
        {"point": {"x": 1}, "path": [{"x": 2, "y": 3}], "by": "z"},
        {"point": {"x": "1"}, "path": [{}, {"x": None}], "by": "Z", "x": 1},
        {"point": [1, 2], "path": {"x": 1}},
    ],
    "sets": [
        {"tags": ["a", "abc"], "unique": [1, 2], "by_number": {"1": "x"}, "text": "[1]"},
        {"tags": ["a", "abcd", "b", "c"], "unique": [1, "2"], "by_number": {"x": "y", "2": 3}, "text": ["a"]},
        {"tags": [], "unique": [1, 1], "by_number": {}, "text": "true"},
        {"tags": "a"},
    ],
}  # fmt: skip

BY_POSITION: dict[str, list[Any]] = {
    "report": [["acme", "2026-11-01"], ["ac"], ["acme", "2026-11-01", "doc", {"street": ""}], []],
    "texts": [["5", "abc", None, None, True], ["a", "abcdef", None, "5"], ["x"] * 9],
    "sums": [[1, 2], [1], [1, 2, 3, "x", None], ["1", True], []],
    "nothing": [[], [1]],
    "places": [[{"x": 1}, {"x": 2}, {"y": 1}], [[1, 2]], [{"x": 1}, 5]],
    "sets": [[["a"], [1, 2], {"1": "x"}, "[1]"], [["abcd"]]],
}
"""Params in an array."""
