"""Tasks of a list, with what wide params and results begin with. No wide value is read as a whole.

So the begin of a result that has a file is not checked against its digest.
"""

from __future__ import annotations

import contextlib

import apsw
from msgspec import structs

from tasker.engines.shared.values import preview_of
from tasker.engines.sqlite.reads import loaded
from tasker.engines.sqlite.result_files import Results, is_reference
from tasker.engines.sqlite.rows import Row, task_of
from tasker.model import Task
from tasker.model.tasks import PREVIEW_BYTES


def shown(connection: apsw.Connection, row: Row, now: int, results: Results) -> Task | None:
    """Return the Task of a row of LIST_COLUMNS; None if it was erased meanwhile."""
    *columns, has_wide_params, has_wide_result = row
    task = task_of(tuple(columns), now)
    if has_wide_params:
        task = structs.replace(task, params_preview=_begin(connection, "params", row[0]))
    if has_wide_result:
        return structs.replace(task, result_preview=_begin(connection, "result", row[0]))
    return _with_file(connection, task, now, results) if is_reference(task.result) else task


def _begin(connection: apsw.Connection, column: str, seq: int) -> str | None:
    """Return what a wide column begins with; None if its task was erased meanwhile."""
    try:
        blob = connection.blob_open("main", "task", column, seq, False)
    except apsw.SQLError:  # there is no such row any more
        return None
    with contextlib.closing(blob):
        return preview_of(blob.read(PREVIEW_BYTES))


def _with_file(connection: apsw.Connection, task: Task, now: int, results: Results) -> Task | None:
    """Return a task whose result has a file, without the result if that is lost; None if erased meanwhile."""
    begin = results.begin(bytes(task.result or b""), PREVIEW_BYTES + 1)
    if begin is None or len(begin) <= PREVIEW_BYTES:
        return loaded(connection, task, now, results)
    return structs.replace(task, result=None, result_preview=preview_of(begin[:PREVIEW_BYTES]))
