"""Task types of an imagined shop, for the pages that a browser looks at."""

from __future__ import annotations

import asyncio
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from tasker import Context, task
from tasker.web import bulk

bulk.WITHIN = 0.0  # the receipt of a bulk action is shown after its first step


class Address(BaseModel):
    """Where a report goes."""

    street: str
    city: str
    country: Annotated[str, Field(pattern="^[A-Z]{2}$")] = "DE"


@task(queue="reports")
async def report(
    context: Context,
    customer: str,
    since: date | None = None,
    format: Literal["pdf", "xlsx", "csv"] = "pdf",
    address: Address | None = None,
    currency: str = "EUR",
) -> str:
    """Write a customer's report and deliver it."""
    context.log("reading orders", since=str(since))
    if currency not in ("EUR", "USD"):
        context.log("nobody knows the currency", level="error", currency=currency)
        raise ValueError(f"unknown currency {currency!r}")
    return f"{customer}.{format}"


@task(queue="reports")
async def import_orders(context: Context, file: str, rows: int = 120_000) -> int:
    """Read orders from a file, until somebody stops it."""
    for row in range(0, rows, 10):
        context.progress(row / rows, current=row, total=rows, message=f"{row:,} of {rows:,} rows")
        await asyncio.sleep(0.2)
    return rows


@task(queue="llm")
async def story(context: Context, prompt: str, words: int = 40) -> str:
    """Tell a story, word by word."""
    for number in range(words):
        context.output(f"{prompt} {number} ")
        await asyncio.sleep(0.05)
    return "The end"


class Approval(BaseModel):
    """What the person who ships says."""

    approved: bool
    comment: str = ""


class Guest(BaseModel):
    name: Annotated[str, Field(min_length=2)]
    age: Annotated[int, Field(ge=0)]
    wishes: list[str] = []


async def charge(amount: float) -> dict[str, float]:
    """Take the money."""
    await asyncio.sleep(0.1)
    return {"amount": amount}


@task(queue="orders")
async def order(context: Context, number: int, pages: int = 3) -> str:
    """Charge, print every page, and ship it if somebody says so."""
    await context.step("charge", charge, 12.5)
    await context.map(page, list(range(pages)))
    answer = await context.ask("approve", Approval, message=f"Ship order {number}?", timeout="P3D")
    await context.step("ship", charge, 1.0)
    return f"shipped, {answer.comment}" if answer.approved else "not shipped"


@task(queue="orders")
async def page(number: int) -> str:
    """Print a page; the seventh fails."""
    if number == 7:
        raise ValueError("there is no picture on page 7")
    return f"page {number}"


@task(queue="orders")
async def invite(context: Context, text: str = "Who comes?") -> str:
    """Ask who comes."""
    guest = await context.ask("guest", Guest, message=text)
    return f"{guest.name}, {guest.age}, {','.join(guest.wishes)}"


@task(queue="orders")
async def album(context: Context, pages: int) -> int:
    """Print many pages, of which some may fail, and fail in the end."""
    for number in range(5):
        await context.step("look", charge, number)
    done = await context.map(page, list(range(pages)), return_errors=True)
    await context.call(order_some, pages)
    raise RuntimeError(f"{len(done)} pages, and no cover")


@task(queue="orders")
async def order_some(context: Context, pages: int) -> int:
    """Print a few pages more: a child with children."""
    return len(await context.map(page, list(range(min(pages, 3)))))


@task(queue="orders")
async def slowly(context: Context, gate: str) -> int:
    """Do a step, wait for a file at `gate`, do another one."""

    await context.step("first", charge, 1)
    return await context.step("second", opened, gate)


async def opened(gate: str) -> int:
    """Wait for a file."""
    while not Path(gate).exists():
        await asyncio.sleep(0.02)
    return 2


@task(queue="orders")
async def party(context: Context, gate: str) -> str:
    """Ask who comes; meanwhile wait for a file at `gate`, and then ask a second thing."""

    async def shop() -> bool:
        await context.step("shop", opened, gate)
        return await context.ask("more", bool, message="Is that enough?")

    guest, _ = await asyncio.gather(context.ask("guest", Guest, message="Who comes?"), shop())
    return guest.name


@task(queue="orders")
async def doze(context: Context) -> None:
    """Sleep for a long time."""
    await context.sleep("until it is spring", days=90)


@task
async def say(text: str) -> str:
    """Return what came, whatever it is."""
    return text


@task
async def fail(message: str) -> str:
    """Fail with any message."""
    raise RuntimeError(message)


@task(queue="talk")
async def tell(context: Context, word: str, count: int, gate: str = "") -> str:
    """Say and log a word again and again; stop half-way until there is a file at `gate`."""
    for number in range(count):
        while gate and number == count // 2 and not Path(gate).exists():
            await asyncio.sleep(0.02)
        context.output(f"{word} {number}\n")
        context.log(f"said {number}", number=number)
        await asyncio.sleep(0.01)
    return "The end"


@task(queue="talk")
async def shout(context: Context, text: str, times: int = 1) -> str:
    """Say, log and return a text, many times over."""
    context.output(text * times)
    context.log(text, text=text)
    context.progress(0.5, message=text)
    return text * times
