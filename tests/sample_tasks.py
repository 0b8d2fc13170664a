"""Tasks for tests that look at the service from outside."""

from __future__ import annotations

import asyncio
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
