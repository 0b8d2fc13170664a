"""One reader for all request bodies: a JSON object against a Struct, every fault at once, each with its JSON Pointer.

The Struct that describes a body to OpenAPI also defines how the body is read: names, required fields, types. A type
that msgspec does not read as needed has a reader, `Annotated[type, Reads(reader)]`. Rules across fields, or with the
time or the settings, are in a function next to each Struct, which adds to the same faults.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, UNSET, Meta, Struct, UnsetType, structs

from tasker.clock import to_utc
from tasker.errors import Fault, Invalid
from tasker.validation.durations import read_duration
from tasker.validation.faults import Faults, kind_of, missing_field, refusal_fault, unknown_field
from tasker.validation.jsontext import read_json

T = TypeVar("T", bound=Struct)
Reader = Callable[[Any, str, Faults], Any]
"""Converts a member's value, given its pointer and the faults to add to. May raise ValueError instead."""
_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Reads:
    """The reader of an annotated type."""

    reader: Reader


def by(read: Callable[[Any], Any]) -> Reads:
    """Return the reader that calls `read` with the value; `read` raises ValueError for a wrong one."""
    return Reads(lambda value, _pointer, _faults: read(value))


def duration(most: timedelta, *, least: timedelta = timedelta(0), zero: bool = True) -> Reads:
    """Return the reader of seconds or an ISO 8601 duration, as a timedelta; see `read_duration`."""
    return Reads(lambda value, _pointer, _faults: read_duration(value, most, least=least, zero=zero))


def array(element: Any, most: int, name: str) -> Reads:
    """Return the reader of an array of at most `most` elements, as a tuple. Every wrong element is a fault."""
    typed = _typed(element)

    def read(value: Any, pointer: str, faults: Faults) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > most:
            raise ValueError(f"expected an array of at most {most} {name}")
        return tuple(_read(typed, each, f"{pointer}/{index}", faults) for index, each in enumerate(value))

    return Reads(read)


Moment = Annotated[datetime, Meta(tz=True), by(lambda value: to_utc(msgspec.convert(value, _Zoned)))]
"""A time with a zone, read as UTC."""
_Zoned = Annotated[datetime, Meta(tz=True)]


def read_body(body: bytes, form: type[T]) -> T:
    """Return the body as a `form`; null is the same as left out.

    Raises Malformed (not valid JSON) or Invalid with every fault.
    """
    faults = Faults()
    fields = read_whole(read_object(body), form, faults)
    faults.check()
    return form(**fields)


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body. Raises Malformed, Invalid."""
    value = read_json(body)
    if not isinstance(value, dict):
        raise Invalid("expected an object", faults=[Fault("", f"expected an object, got {kind_of(value)}")])
    return value


def read_whole(value: Mapping[str, Any], form: type[Struct], faults: Faults, pointer: str = "") -> dict[str, Any]:
    """Read the members of an object as `read_members` does, and find the required ones that are missing."""
    fields = read_members(value, form, faults, pointer)
    for name, member in _members(form).items():
        if member.is_required and value.get(name) is None:
            faults.put(missing_field(pointer, name))
    return fields


def read_members(
    value: Mapping[str, Any],
    form: type[Struct],
    faults: Faults,
    pointer: str = "",
    *,
    skip: Collection[str] = (),
    resets: Mapping[str, Any] = _NOTHING,
    synonyms: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the members of `value` by the names of the form's fields; add every fault.

    Wrong members are left out, unless their reader returns the valid part of them for later checks.

    skip: known members that are read elsewhere. resets: the values that null sets fields to in a change; for other
    fields null is the same as left out. synonyms: other names that clients may use, for hints.
    """
    members = _members(form)
    fields: dict[str, Any] = {}
    for name, given in value.items():
        if faults.found and faults.is_full:
            break
        if name in skip:
            continue
        member = members.get(name)
        if member is None:
            faults.put(unknown_field(pointer, name, members, synonyms), "unknown-field")
        elif given is None and member.takes_null:
            if name in resets:
                fields[member.field] = resets[name]
        else:
            before = len(faults)
            read = _read(member.reader, given, f"{pointer}/{name}", faults)
            if read is not None or len(faults) == before:
                fields[member.field] = read
    return fields


class _Member(NamedTuple):
    """How one member of a body is read. takes_null: null means left out or reset; else the reader gets it."""

    field: str
    reader: Reader
    is_required: bool
    takes_null: bool


def _read(reader: Reader, value: Any, pointer: str, faults: Faults) -> Any:
    try:
        return reader(value, pointer, faults)
    except msgspec.ValidationError as error:
        faults.put(refusal_fault(str(error), pointer))
    except ValueError as error:
        faults.add(pointer, str(error))
    return None


@cache
def _members(form: type[Struct]) -> dict[str, _Member]:
    return {field.encode_name: _member(field) for field in structs.fields(form)}


def _member(field: structs.FieldInfo) -> _Member:
    is_union = get_origin(field.type) in (Union, UnionType)
    types = get_args(field.type) if is_union else (field.type,)
    kept = tuple(each for each in types if each not in (NoneType, UnsetType))
    is_required = field.default is NODEFAULT and field.default_factory is NODEFAULT
    return _Member(
        field=field.name,
        reader=_reader_of(kept[0] if len(kept) == 1 else Union[kept]),  # noqa: UP007  of a tuple
        is_required=is_required,
        takes_null=is_required or NoneType in types or field.default is not UNSET,
    )


def _reader_of(type_: Any) -> Reader:
    """Return the reader that a type carries, that of a nested body, or msgspec's."""
    for mark in getattr(type_, "__metadata__", ()):
        if isinstance(mark, Reads):
            return mark.reader
    is_body = isinstance(type_, type) and issubclass(type_, Struct)
    return _nested(type_) if is_body else _typed(type_)


def _nested(form: type[Struct]) -> Reader:
    def read(value: Any, pointer: str, faults: Faults) -> Any:
        if not isinstance(value, dict):
            return msgspec.convert(value, form)
        before = len(faults)
        fields = read_whole(value, form, faults, pointer)
        return form(**fields) if len(faults) == before else None

    return read


def _typed(type_: Any) -> Reader:
    """Return a reader that takes exactly what msgspec takes: no bool for a number, no string for one."""
    return lambda value, _pointer, _faults: msgspec.convert(value, type_)
