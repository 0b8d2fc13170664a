"""An archive's records, each of which is one row: keys, queues, schedules, webhooks, deliveries and usage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasker.engines.shared.rows import Rows
from tasker.engines.shared.stores.usage import find_all_usage, find_usage, insert_usage
from tasker.engines.shared.tables import ARCHIVED, USAGE, WEBHOOKS, InTheWay, Row, Shape
from tasker.model.archive import StoredRecord


async def find_records_of(rows: Rows, shape: Shape[Any]) -> list[StoredRecord]:
    """Return every record of a shape, in order."""
    found = await (find_all_usage(rows) if shape is USAGE else rows.find_all(shape))
    return [shape.record(value) for value in found]


async def find_records(rows: Rows, given: Sequence[Row]) -> list[StoredRecord | None]:
    """Return the stored record with the key of each given row; None if there is none."""
    found = [(ARCHIVED[row.table], await _find(rows, row)) for row in given]
    return [None if value is None else shape.record(value) for shape, value in found]


async def put_records(rows: Rows, given: Sequence[Row]) -> int:
    """Store the records that do not exist yet; return how many.

    Raises InTheWay, and RuntimeError if one was not stored as given; then the transaction must be rolled back.
    """
    stored = 0
    for row in given:
        if await _insert(rows, row):
            row.check_stored(await _find(rows, row))
            if row.table == WEBHOOKS.name:  # it gets only events that come after it in this store
                await rows.run("mark_webhook", webhook_id=row.key)
            stored += 1
        elif await _find(rows, row) is None:
            raise InTheWay(row)
    return stored


async def _find(rows: Rows, row: Row) -> Any:
    return await (find_usage(rows, row.key) if row.table == USAGE.name else rows.find(ARCHIVED[row.table], row.key))


async def _insert(rows: Rows, row: Row) -> bool:
    if row.table == USAGE.name:
        return await insert_usage(rows, row.value)
    return await rows.insert(ARCHIVED[row.table], row.value)
