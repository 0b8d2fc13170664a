"""Task types with params of many kinds, and tasks that tell what they do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from tasker import Context, Retry, secret, task


@dataclass(frozen=True)
class Person:
    """Somebody."""

    name: str
    age: int = 0


@task
async def thumbnail(
    url: str,
    width: Annotated[int, Meta(description="In pixels")] = 200,
    *,
    crop: bool = False,
    tags: list[str] | None = None,
    sizes: tuple[int, ...] = (),
    size: Literal["small", "large"] = "small",
    person: Person | None = None,
    labels: dict[str, int] | None = None,
    timeout: float = 1.5,
    token: Annotated[str, secret] = "",
) -> list[Any]:
    """Make a thumbnail of a picture."""
    return [
        url,
        width,
        crop,
        tags,
        list(sizes),
        size,
        person and [person.name, person.age],
        labels,
        timeout,
        len(token),
    ]


@task(retry=2)
async def write(words: list[str], context: Context, ending: str = "") -> str:
    """Put out words, wait for the file `ending` before the last one, and fail in the first attempt if it says so."""
    for word in words[:-1]:
        context.output(word)
    context.log("nearly done", level="warning", left=1)
    while ending and not Path(ending).exists():
        await asyncio.sleep(0.01)
    if ending and Path(ending).read_text(encoding="utf-8") == "fail" and context.attempt == 1:
        raise Retry("broke off", after=0)
    context.output(words[-1])
    return "".join(words)
