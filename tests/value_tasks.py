"""Tasks whose params and results are of every kind; for tests that look at the service from outside."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import pydantic

from tasker import Context, task


@dataclass
class Line:
    """A position of a bill."""

    price: Decimal
    count: int = 1


@task
def pay(amount: Decimal) -> Decimal:
    """Return what is paid."""
    return amount


@task
async def pay_on_the_loop(amount: Decimal, lines: list[Line | None] = [], *more: Decimal) -> list[str]:  # noqa: B006
    """Return all amounts as text."""
    return [str(one) for one in (amount, *(line.price for line in lines if line), *more)]


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    YES = "yes"


class Text(str):
    """As libraries have them: a text that shows itself in its own way."""

    __slots__ = ()

    def __str__(self) -> str:
        return "another text"


_naive = datetime(2026, 1, 1)  # noqa: DTZ001
RESULTS: dict[str, Callable[[], Any]] = {
    "raw": lambda: msgspec.Raw(b"not json"),
    "raw in a list": lambda: [msgspec.Raw(b"1"), msgspec.Raw(b"{")],
    "keys of one text": lambda: {1: "a", "1": "b"},
    "nan": lambda: [{"a": math.nan}],
    "decimal nan": lambda: Decimal("NaN"),
    "surrogate": lambda: "\ud800",
    "no zone": lambda: {"at": _naive},
    "generator": lambda: (n for n in ()),
    "circle": lambda: (ring := [], ring.append(ring))[0],
    "awaitable": lambda: [asyncio.sleep(0)],
    "subclasses": lambda: [Level.LOW, Word.YES, Text("text"), {Text("key"): Level.LOW}, Path("/tmp")],
    "large": lambda: 10**1000,
    "nul": lambda: "a\0b",
    "set": lambda: {1},
}


@task
def give(which: str) -> Any:
    """Return one of RESULTS."""
    return RESULTS[which]()


@task
async def give_on_the_loop(which: str) -> Any:
    """Return one of RESULTS."""
    return RESULTS[which]()


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inside


@task
@logged
async def wrapped(number: int) -> int:
    """Return the next number."""
    await asyncio.sleep(0)
    return number + 1


@task
@logged
async def wrapped_and_waiting(context: Context) -> None:
    """Say that it has started, and wait for ever."""
    context.output("started")
    await asyncio.Event().wait()


@task
@logged
async def wrapped_and_failing() -> None:
    raise ValueError("from within")


@task
def never() -> NoReturn:
    raise ValueError("as declared")


@task
def anything(value: object) -> object:
    return value


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
    folder: Path = Path("/tmp")


@task
def place(order: Order, count: int, log: Path | None = None) -> Order:
    """Return the order."""
    assert isinstance(order, Order)
    assert log is None or isinstance(log, Path)
    return order


@task
async def tell(context: Context, cost: str) -> None:
    """Say a cost, and what JSON has no word for."""
    context.log("odd", raw=msgspec.Raw(b"{"), twice={1: "a", "1": "b"}, nan=math.nan, word=Text("text"))
    context.progress(current=Level.LOW, total=Decimal(4), message=Text("text"))
    context.output(Text("text"))
    context.usage(cost=Decimal(cost), input_tokens=Level.LOW)
