"""Bodies that are one JSON object: every fault of one is told at once."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar

import msgspec
from msgspec import NODEFAULT, Struct, structs

from tasker.clock import to_utc
from tasker.errors import Fault, Invalid
from tasker.validation.faults import Faults, missing_field, refusal_fault, unknown_field
from tasker.validation.jsontext import escape, read_json

_T = TypeVar("_T", bound=Struct)


def read_form(body: bytes, form: type[_T]) -> _T:
    """Return the body as a `form`; a member that is null is the same as left out.

    Raises Malformed (not JSON that is taken) or Invalid with every fault.
    """
    value = read_json(body)
    if not isinstance(value, dict):
        raise Invalid("expected an object", faults=[Fault("", "expected an object")])
    faults = Faults()
    read = _read_members(value, form, "", faults)
    faults.check()
    return form(**read)


def _read_members(value: dict[str, Any], form: type[Struct], pointer: str, faults: Faults) -> dict[str, Any]:
    """Return the members that are right, by the names of the form's fields; add every fault."""
    fields = {field.encode_name: field for field in structs.fields(form)}
    read: dict[str, Any] = {}
    for name, member in value.items():
        if faults.is_full:
            break
        if name not in fields:
            faults.put(unknown_field(pointer, name, fields), "unknown-field")
        elif member is not None:
            read[fields[name].name] = _read_member(member, fields[name].type, f"{pointer}/{escape(name)}", faults)
    for name, field in fields.items():
        if _is_missing(field, value):
            faults.put(missing_field(pointer, name))
    return read


def _read_member(member: Any, type_: Any, pointer: str, faults: Faults) -> Any:
    if isinstance(type_, type) and issubclass(type_, Struct) and isinstance(member, dict):
        before = len(faults)
        read = _read_members(member, type_, pointer, faults)
        return type_(**read) if len(faults) == before else None
    try:
        read = msgspec.convert(member, type_)
        return to_utc(read) if isinstance(read, datetime) else read
    except msgspec.ValidationError as error:
        faults.put(refusal_fault(str(error), pointer))
    except ValueError as error:
        faults.add(pointer, str(error))
    return None


def _is_missing(field: structs.FieldInfo, value: dict[str, Any]) -> bool:
    is_required = field.default is NODEFAULT and field.default_factory is NODEFAULT
    return is_required and value.get(field.encode_name) is None
