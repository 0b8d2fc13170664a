"""Tasks for tests that look at the service from outside."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from tasker import Context, Fail, task


@task
async def echo(value: dict[str, int] | list[int] | str | int | None) -> dict[str, int] | list[int] | str | int | None:
    """Return what was given."""
    return value


@task
async def fail(detail: str) -> None:
    """Fail, for good."""
    raise Fail(detail)


@task
async def explode(message: str) -> None:
    """Raise an exception."""
    raise ValueError(message)


@task
async def wait_for_file(file: str, context: Context) -> str:
    """Return the file's content once it is there: a file that is being written is empty at first."""
    context.progress(0.25, message="waiting for the file")
    while not (content := Path(file).read_text(encoding="utf-8") if Path(file).exists() else ""):
        await asyncio.sleep(0.01)
    return content


@dataclass(frozen=True)
class Approval:
    """What a person says to an order."""

    ok: bool
    by: str


async def charge(total: float) -> str:
    return f"receipt of {total:g}"


@task
async def order(context: Context, total: float) -> list[str]:
    """Charge, compute with a child, ask a person, and ask for a word."""
    receipt = await context.step("charge", charge, total)
    await context.call(echo, receipt)
    approval = await context.ask("approve", Approval, message=f"Ship for {total:g}?")
    word = await context.ask("word", str, message="How?", choices=["fast", "slow"], timeout=3600)
    if not approval.ok:
        raise Fail(f"refused by {approval.by}")
    return [receipt, approval.by, word]
