"""The types of what `tasker.postgres.submit` returns. mypy checks this file; it is never run."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, assert_type
from uuid import UUID

import psycopg
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from tasker import task
from tasker.postgres import submit


@task
def email(to: str) -> None: ...


def sync(one: psycopg.Connection[dict[str, Any]], two: Connection, three: Session) -> None:
    assert_type(submit(one, email, {"to": "ada"}, delay=timedelta(minutes=1)), UUID)
    assert_type(submit(two, "email", ["ada"], unique_key="k", owner="shop"), UUID)
    assert_type(submit(three, "email"), UUID)
    submit(one, "email", colour=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    submit(one, "email", on_conflict="ignore")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def by_loop(one: psycopg.AsyncConnection[Any], two: AsyncConnection, three: AsyncSession) -> None:
    assert_type(submit(one, "email"), Awaitable[UUID])
    assert_type(await submit(two, "email"), UUID)
    assert_type(await submit(three, "email"), UUID)
