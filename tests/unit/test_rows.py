"""The SQL of stores that both engines share: placeholders, named values, and coroutines that never wait."""

from __future__ import annotations

import asyncio

import pytest

from tasker.engines.postgres.sql import queries
from tasker.engines.postgres.tables import numbered
from tasker.engines.shared.sql import fill
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.tables import at_once


def test_placeholders_are_filled_in_with_their_arguments() -> None:
    words = {"schema": "main", "any": "IN (SELECT value FROM json_each(:{}))", "index": ""}
    text = "SELECT 1 FROM {schema}.a {index:by_name} WHERE b {any:names}\n"
    assert fill(text, words) == "SELECT 1 FROM main.a  WHERE b IN (SELECT value FROM json_each(:names))"


def test_a_name_without_a_word_is_refused() -> None:
    with pytest.raises(KeyError, match="shcema"):
        fill("SELECT 1 FROM {shcema}.a", {"schema": "main"})


def test_named_values_get_numbers_and_casts_stay() -> None:
    text = "SELECT :b::text, :a, :b WHERE c > :a::interval"
    assert numbered(text) == ("SELECT $1::text, $2, $1 WHERE c > $2::interval", ("b", "a"))


def test_both_engines_have_the_shared_queries() -> None:
    assert {"audit_page", "schedules_due", "settle_delivery", "find_usage"} <= QUERIES.keys() & queries("s").keys()


def test_work_on_rows_runs_to_its_end_at_once() -> None:
    async def add(one: int, other: int) -> int:
        return one + other

    async def work() -> int:
        return await add(await add(1, 2), 3)

    async def failing() -> None:
        raise ValueError("no")

    assert at_once(work()) == 6
    with pytest.raises(ValueError, match="no"):
        at_once(failing())


async def test_work_that_waits_for_something_else_is_refused() -> None:
    async def waiting() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waited for something else"):
        at_once(waiting())
