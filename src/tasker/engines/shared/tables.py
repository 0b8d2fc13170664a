"""Tables whose rows are structs, with a column for each field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta
from types import NoneType
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar, get_args, get_origin
from uuid import UUID

import msgspec
from msgspec import Raw, Struct

from tasker.clock import check_storable
from tasker.errors import ArchiveError, Conflict
from tasker.model.archive import StoredRecord
from tasker.model.bulk import BulkAction
from tasker.model.groups import StoredGroup
from tasker.model.keys import Key
from tasker.model.queues import QueueSettings
from tasker.model.schedules import Schedule
from tasker.model.steps import Step
from tasker.model.usage import DayUsage, UsageRow
from tasker.model.webhooks import Delivery, Webhook

S = TypeVar("S", bound=Struct)
_PLAIN = (str, int, float, bool, bytes, UUID, date, datetime, timedelta)
_encode = msgspec.json.Encoder().encode


class Shape(Generic[S]):
    """Maps a struct to a row of the table `name`, whose key column is the field `key`.

    UUIDs, times, durations and plain types have columns of their own type; a Raw is stored as bytes, and any other
    value as JSON in bytes. Every such table also has a column `seq`, in order of insertion. kept: SQL condition that
    selects the rows of an archive.
    """

    def __init__(self, name: str, struct: type[S], key: str, *, kept: str = "true") -> None:
        self.name = name
        self.kept = kept
        self.struct = struct
        self.key = key
        self.fields = {field.name: _base_of(field.type) for field in msgspec.structs.fields(struct)}
        self.columns = ", ".join(self.fields)

    def record(self, value: S) -> StoredRecord:
        """Return the archive record of a row."""
        return StoredRecord(record=self.name, key=str(getattr(value, self.key)), data=Raw(_encode(value)))


class Codec(NamedTuple):
    """How an engine writes the values of a type to a column, and reads them back."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def codec_of(type_: Any, own: dict[Any, Codec]) -> Codec:
    """Return the codec of a type: the engine's `own`, none for values stored as they are, else JSON."""
    if type_ in own:
        return own[type_]
    if type_ in _PLAIN:
        return _AS_IT_IS
    if type_ is Raw:
        return _AS_BYTES
    return Codec(_encode, msgspec.json.Decoder(type_).decode)


class Table(Generic[S]):
    """A shape's table in one engine: statements with named values, and the conversion of rows."""

    def __init__(self, shape: Shape[S], schema: str, own: dict[Any, Codec]) -> None:
        self.shape = shape
        self._codecs = [codec_of(type_, own) for type_ in shape.fields.values()]
        table, where = f"{schema}.{shape.name}", f"WHERE {shape.key} = :{shape.key}"
        marks = ", ".join(f":{name}" for name in shape.fields)
        sets = ", ".join(f"{name} = :{name}" for name in shape.fields)
        self.insert = f"INSERT INTO {table} ({shape.columns}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608
        self.update = f"UPDATE {table} SET {sets} {where}"  # noqa: S608
        self.delete = f"DELETE FROM {table} {where}"  # noqa: S608
        self.find = f"SELECT {shape.columns} FROM {table} {where}"  # noqa: S608
        self.all = f"SELECT {shape.columns} FROM {table} WHERE {shape.kept} ORDER BY seq"  # noqa: S608

    def value(self, columns: Iterable[Any]) -> S:
        """Return the struct of a row of the shape's columns."""
        values = [None if one is None else codec.read(one) for codec, one in zip(self._codecs, columns, strict=True)]
        return self.shape.struct(**dict(zip(self.shape.fields, values, strict=True)))

    def row(self, value: S) -> dict[str, Any]:
        """Return the columns of a struct's row, by name."""
        given = (
            (name, codec, getattr(value, name)) for name, codec in zip(self.shape.fields, self._codecs, strict=True)
        )
        return {name: None if one is None else codec.write(one) for name, codec, one in given}


def _same(value: Any) -> Any:
    return value


_AS_IT_IS = Codec(_same, _same)
_AS_BYTES = Codec(bytes, Raw)


def _base_of(type_: Any) -> Any:
    """Return the type of a field without None; `str` for a Literal."""
    if get_origin(type_) is Literal:
        return str
    if get_origin(type_) is Annotated:
        return get_args(type_)[0]
    members = [one for one in get_args(type_) if one is not NoneType]
    return members[0] if NoneType in get_args(type_) and len(members) == 1 else type_


SCHEDULES = Shape("schedule", Schedule, "schedule_id")
KEYS = Shape("api_key", Key, "key_id")
WEBHOOKS = Shape("webhook", Webhook, "webhook_id")
DELIVERIES = Shape("webhook_delivery", Delivery, "delivery_id", kept="status = 'pending'")
QUEUES = Shape("queue", QueueSettings, "name")
SHAPES: tuple[Shape[Any], ...] = (KEYS, QUEUES, SCHEDULES, WEBHOOKS, DELIVERIES)
"""Every such table, in their order in an archive."""
USAGE = Shape("usage", DayUsage, "name")
"""Usage in an archive; the engines store it in tables of another shape."""
USAGE_ROWS = Shape("usage_by_day", UsageRow, "day")
"""Sums of usage, as the engines read them."""
BULKS = Shape("bulk", BulkAction, "bulk_id")
GROUPS = Shape("task_group", StoredGroup, "group_id")
STEPS = Shape("step", Step, "number")
OWN_SHAPES: tuple[Shape[Any], ...] = (*SHAPES, USAGE_ROWS, BULKS, STEPS, GROUPS)
"""The shapes of an engine's tables: those of an archive, and what archives do not carry."""
ARCHIVED: dict[str, Shape[Any]] = {shape.name: shape for shape in (*SHAPES, USAGE)}
"""The shapes of an archive's records by name, in their order."""


class Row(NamedTuple):
    """The row that an archive's record becomes."""

    table: str
    key: Any
    value: Any

    def check_stored(self, there: Any) -> None:
        """Raise RuntimeError, which rolls the transaction back, if the row was not stored as given."""
        if there != self.value:
            raise RuntimeError(f"{self.table} {self.key} would not be stored as it is in the archive: {there}")


class InTheWay(Exception):
    """Another row has a unique value of this one. Not a RequestError: the transaction must be rolled back."""

    def __init__(self, row: Row) -> None:
        super().__init__(row.key)
        self.conflict = Conflict(
            f"{row.table} {row.key} cannot be stored: another one has the same name or the like; rename or delete the"
            " one that you do not want"
        )


def read_records(records: Sequence[StoredRecord]) -> list[Row]:
    """Return the rows of an archive's records. Raises ArchiveError."""
    return [_read_record(record) for record in records]


def _read_record(record: StoredRecord) -> Row:
    shape = ARCHIVED.get(record.record)
    if shape is None:
        raise ArchiveError(f"{record.record} {record.key}: expected one of {', '.join(ARCHIVED)}; upgrade, then import")
    try:
        value = msgspec.json.decode(record.data, type=shape.struct)
        for member in (getattr(value, name) for name in shape.fields):
            if isinstance(member, datetime):
                check_storable(member)
    except (msgspec.DecodeError, ValueError) as error:
        raise ArchiveError(f"{record.record} {record.key}: {error}") from None
    key = getattr(value, shape.key)
    if str(key) != record.key:
        raise ArchiveError(f"{record.record} {record.key}: expected its content to have this key, got {key}")
    return Row(shape.name, key, value)
