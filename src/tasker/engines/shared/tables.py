"""Tables whose rows are structs, a column for each field: what the engines' own tables of them have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from types import NoneType
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_args, get_origin
from uuid import UUID

import msgspec
from msgspec import Raw, Struct

from tasker.clock import check_storable
from tasker.errors import ArchiveError, Conflict
from tasker.model.archive import StoredRecord
from tasker.model.keys import Key
from tasker.model.queues import QueueSettings
from tasker.model.schedules import Schedule
from tasker.model.usage import DayUsage
from tasker.model.webhooks import Delivery, Webhook

S = TypeVar("S", bound=Struct)
_PLAIN = (str, int, float, bool, bytes, UUID, datetime, timedelta)
_encode = msgspec.json.Encoder().encode


class Shape(Generic[S]):
    """A struct as a row of the table `name`; its row is found by the field `key`.

    UUIDs, times, durations and the plain types are columns of that kind; a Raw is one of bytes, and any other value one
    of JSON as bytes. Every such table has a column `seq` beside them, in order of insertion. kept: which of the rows an
    archive has, as a condition.
    """

    def __init__(self, name: str, struct: type[S], key: str, *, kept: str = "true") -> None:
        self.name = name
        self.kept = kept
        self.struct = struct
        self.key = key
        self.fields = {field.name: _base_of(field.type) for field in msgspec.structs.fields(struct)}
        self.columns = ", ".join(self.fields)
        self.key_type = self.fields[key]

    def record(self, value: S) -> StoredRecord:
        """Return what an archive keeps of a row."""
        return StoredRecord(record=self.name, key=str(getattr(value, self.key)), data=Raw(_encode(value)))


class Codec(NamedTuple):
    """How an engine keeps the values of a type in a column, and reads them back."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def codec_of(type_: Any, own: dict[Any, Codec]) -> Codec:
    """Return how a field's values are kept: by the engine's `own` way, as they are, or as JSON."""
    if type_ in own:
        return own[type_]
    if type_ in _PLAIN:
        return Codec(_same, _same)
    if type_ is Raw:
        return Codec(bytes, Raw)
    decode = msgspec.json.Decoder(type_).decode
    return Codec(_encode, decode)


def write_row(shape: Shape[Any], codecs: Sequence[Codec], value: Struct) -> list[Any]:
    """Return the columns of a row."""
    given = [getattr(value, name) for name in shape.fields]
    return [None if one is None else codec.write(one) for codec, one in zip(codecs, given, strict=True)]


def read_row(shape: Shape[S], codecs: Sequence[Codec], columns: Sequence[Any]) -> S:
    """Return the struct of a row's columns."""
    values = [None if one is None else codec.read(one) for codec, one in zip(codecs, columns, strict=True)]
    return shape.struct(**dict(zip(shape.fields, values, strict=True)))


def _same(value: Any) -> Any:
    return value


def _base_of(type_: Any) -> Any:
    """Return the type of a field without its None, and `str` for a choice of words."""
    if get_origin(type_) is Literal:
        return str
    members = [one for one in get_args(type_) if one is not NoneType]
    return members[0] if NoneType in get_args(type_) and len(members) == 1 else type_


SCHEDULES = Shape("schedule", Schedule, "schedule_id")
KEYS = Shape("api_key", Key, "key_id")
WEBHOOKS = Shape("webhook", Webhook, "webhook_id")
DELIVERIES = Shape("webhook_delivery", Delivery, "delivery_id", kept="status = 'pending'")
QUEUES = Shape("queue", QueueSettings, "name")
SHAPES: tuple[Shape[Any], ...] = (KEYS, QUEUES, SCHEDULES, WEBHOOKS, DELIVERIES)
"""Every such table, in the order in which an archive has them."""
USAGE = Shape("usage", DayUsage, "name")
"""What an archive has of usage; the engines' tables of it have a shape of their own."""
_SHAPE_OF = {shape.name: shape for shape in (*SHAPES, USAGE)}


class Row(NamedTuple):
    """An archive's record as the row that it becomes."""

    table: str
    key: Any
    value: Any

    def check_stored(self, there: Any) -> None:
        """Raise RuntimeError, which undoes the transaction, if the row was not stored as it was given."""
        if there != self.value:
            raise RuntimeError(f"{self.table} {self.key} would not be stored as it is in the archive: {there}")


class InTheWay(Exception):
    """A row has what only one may have, and another one has it."""

    def __init__(self, row: Row) -> None:
        super().__init__(row.key)
        self.conflict = Conflict(
            f"{row.table} {row.key} cannot be stored beside another one that is there, by the same name or the like:"
            " rename or delete the one that you do not want"
        )


def read_records(records: Sequence[StoredRecord]) -> list[Row]:
    """Return the rows of an archive's records. Raises ArchiveError."""
    return [_read_record(record) for record in records]


def _read_record(record: StoredRecord) -> Row:
    shape = _SHAPE_OF.get(record.record)
    if shape is None:
        raise ArchiveError(
            f"{record.record} {record.key}: expected one of {', '.join(_SHAPE_OF)}: upgrade, then import"
        )
    try:
        value = msgspec.json.decode(record.data, type=shape.struct)
        for member in (getattr(value, name) for name in shape.fields):
            if isinstance(member, datetime):
                check_storable(member)
    except (msgspec.DecodeError, ValueError) as error:
        raise ArchiveError(f"{record.record} {record.key}: {error}") from None
    key = getattr(value, shape.key)
    if str(key) != record.key:
        raise ArchiveError(f"{record.record} {record.key}: expected what it holds to have this key, got {key}")
    return Row(shape.name, key, value)
