"""The rows of a file as submissions: params of one type, or whole submissions, with the options for all rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

import msgspec
from msgspec import Raw

from tasker.cli.batch.items import Format, Item, read_items
from tasker.cli.params import Accepts, UsageError, read_cell
from tasker.errors import Invalid, Malformed
from tasker.validation.encoding import encode_strict
from tasker.validation.jsontext import read_json

UNREADABLE = "The row cannot be read"
"""The title of a row's own fault."""


class Row(NamedTuple):
    """A submission, or why the row is none. line: as in Item."""

    line: int
    submission: dict[str, Any] | None
    fault: str = ""


@dataclass(frozen=True)
class Shape:
    """How rows become submissions.

    type: of tasks whose params the rows are; None for rows that are whole submissions. columns: the column of each
    param; empty for params as they are, or for columns of the same names. params: the same ones for all rows. options:
    what a submission has unless its row says otherwise. accepts: what the type takes.
    """

    type: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    accepts: Accepts = field(default_factory=lambda: Accepts({}))


def read_rows(file: BinaryIO, format: Format, shape: Shape) -> Iterator[Row]:
    """Yield the rows of a file. Raises UsageError where the file cannot be read on."""
    items = read_items(file, format)
    rows = _read_records(items, shape) if format in {"csv", "tsv"} else (_read_json(item, shape) for item in items)
    return map(_checked, rows)


def find_columns(header: Sequence[str], shape: Shape) -> dict[str, int]:
    """Return where the column of each param is. Raises UsageError."""
    twice = {name for name in header if header.count(name) > 1}
    wanted = shape.columns or {name: name for name in header if name in shape.accepts.named or not shape.accepts.named}
    for name in wanted.values():
        if name not in header or name in twice:
            raise UsageError(f"expected one column {name!r}, got the columns {', '.join(header)}")
    if not wanted:
        params = ", ".join(shape.accepts.named)
        raise UsageError(f"expected a column for a param ({params}), or --map PARAM=COLUMN; got: {', '.join(header)}")
    return {param: header.index(name) for param, name in wanted.items()}


def _read_records(items: Iterator[Item], shape: Shape) -> Iterator[Row]:
    first = next(items, None)
    if first is None:
        return
    header = _cells(first)
    places = find_columns(header, shape)
    for item in items:
        cells = _cells(item)
        if len(cells) != len(header):
            yield Row(item.line, None, f"expected {len(header)} columns, got {len(cells)}")
        else:
            yield _read_cells(item.line, {param: cells[place] for param, place in places.items()}, shape)


def _read_cells(line: int, cells: Mapping[str, str], shape: Shape) -> Row:
    try:
        read = {param: read_cell(param, text, shape.accepts) for param, text in cells.items()}
    except UsageError as error:
        return Row(line, None, str(error))
    given = {param: value for param, value in read.items() if value is not msgspec.UNSET}
    return Row(line, _with_options({"type": shape.type, "params": {**shape.params, **given}}, shape))


def _read_json(item: Item, shape: Shape) -> Row:
    text = item.content
    assert isinstance(text, bytes)
    if not text:
        return Row(item.line, None, "it is longer than a service takes as a submission")
    try:
        is_list = text[:1] == b"[" or (text[:1] != b"{" and shape.type is not None)
        kind: Any = list[Raw] if is_list else dict[str, Raw]
        members: dict[str, Raw] | list[Raw] = msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        wanted = "an object: a submission" if shape.type is None else "the params: an object or array"
        return Row(item.line, None, f"expected {wanted}, in JSON: {error}")
    if fault := _find_refused(text):
        return Row(item.line, None, fault)
    if shape.type is None:
        return _read_submission(item.line, members, shape)
    if isinstance(members, list):
        if shape.columns or shape.params:
            return Row(item.line, None, "expected an object: params by name, to put others beside them")
        return Row(item.line, _with_options({"type": shape.type, "params": Raw(text)}, shape))
    return Row(item.line, _with_options({"type": shape.type, "params": _choose(members, shape)}, shape))


def _find_refused(text: bytes) -> str:
    """Return what a service would refuse and would not get to see: a member that is there twice, too large a number."""
    try:
        read_json(text)
    except Invalid as error:
        return "" if error.faults else str(error)  # the service names faults by their places
    except Malformed as error:
        return str(error)
    return ""


def _read_submission(line: int, members: dict[str, Raw] | list[Raw], shape: Shape) -> Row:
    if isinstance(members, list):
        return Row(line, None, "expected an object: a submission with its type; for rows of params give --type")
    return Row(line, _with_options(members, shape))


def _choose(members: Mapping[str, Raw], shape: Shape) -> dict[str, Any]:
    if not shape.columns:
        return {**shape.params, **members}
    return {**shape.params, **{param: members[name] for param, name in shape.columns.items() if name in members}}


def _checked(row: Row) -> Row:
    """Return the row, or why no request can carry it."""
    try:
        encode_strict(row.submission)
    except ValueError as error:
        return Row(row.line, None, str(error))
    return row


def _with_options(submission: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    return {**shape.options, **submission}


def _cells(item: Item) -> list[str]:
    assert isinstance(item.content, list)
    return item.content
