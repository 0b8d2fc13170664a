"""The stores that tests get (tests/stores.py, tests/contract/engines.py) are as those that the migrations make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
from tests.contract.engines import ENGINES, free_schemas, own_schema, postgres_engine, schema_of
from tests.postgres import cluster
from tests.stores import open_store

from tasker.engines.sqlite import open_sqlite
from tasker.testing import ManualClock


async def test_a_schema_that_is_used_again_has_what_a_new_one_has(tmp_path: Path, clock: ManualClock) -> None:
    async with postgres_engine(tmp_path, clock):
        new = _counts(own_schema(tmp_path))
    used, again = tmp_path / "used", tmp_path / "again"
    async with ENGINES["postgres"](used, clock):
        pass
    free_schemas()
    async with ENGINES["postgres"](again, clock):
        assert _counts(schema_of(again, clock)) == new
    free_schemas()


def _counts(schema: str) -> list[list[str]]:
    """Return the names of the tables and how many rows each has."""
    tables = cluster().sql(f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}' ORDER BY 1")
    return cluster().sql(" UNION ALL ".join(f"SELECT '{name}', count(*) FROM {schema}.{name}" for [name] in tables))


async def test_a_copied_store_has_what_a_new_one_has(tmp_path: Path, clock: ManualClock) -> None:
    stores = []
    for number, opening in enumerate((open_sqlite, open_sqlite, open_store, open_store)):
        path = tmp_path / str(number) / "tasker.db"
        async with opening(path, clock):
            stores.append(_content(path))
    new, other, copied, another = stores
    random = {name for name in new if new[name] != other[name]}
    assert len(random) == 2, "what each store has for itself"
    assert {name for name in new if copied[name] != new[name]} == random
    assert {name for name in new if copied[name] != another[name]} == random


def _content(path: Path) -> dict[str, Any]:
    """Return the rows of each table, and the tables themselves."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    schema = connection.execute("SELECT name, type, sql FROM sqlite_schema ORDER BY name").fetchall()
    tables = [name for name, type, _ in schema if type == "table"]
    found: dict[str, Any] = {name: connection.execute(f'SELECT * FROM "{name}"').fetchall() for name in tables}
    connection.close()
    return found | {"sqlite_schema": schema}
