"""Bodies that are one JSON object: every fault of one is told at once."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import NODEFAULT, Struct, structs

from tasker.errors import Fault, Invalid
from tasker.faults import missing_field, refusal_fault, unknown_field
from tasker.jsontext import escape, read_json

_T = TypeVar("_T", bound=Struct)


def read_form(body: bytes, form: type[_T]) -> _T:
    """Return the body as a `form`; a member that is null is the same as left out.

    Raises Malformed (not JSON that is taken) or Invalid with every fault.
    """
    value = read_json(body)
    if not isinstance(value, dict):
        raise Invalid("expected an object", faults=[Fault("", "expected an object")])
    fields = {field.encode_name: field for field in structs.fields(form)}
    faults: list[Fault] = []
    read: dict[str, Any] = {}
    for name, member in value.items():
        if name not in fields:
            faults.append(unknown_field("", name, fields))
        elif member is not None:
            try:
                read[fields[name].name] = msgspec.convert(member, fields[name].type)
            except msgspec.ValidationError as error:
                faults.append(refusal_fault(str(error), f"/{escape(name)}"))
    unknown = len(faults) > 0 and all(fault.detail.startswith("unknown field") for fault in faults)
    faults += [missing_field("", name) for name, field in fields.items() if _is_missing(field, value)]
    if faults:
        detail = "; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults[:3])
        raise Invalid(detail, name="unknown-field" if unknown and len(faults) == 1 else None, faults=faults)
    return form(**read)


def _is_missing(field: structs.FieldInfo, value: dict[str, Any]) -> bool:
    is_required = field.default is NODEFAULT and field.default_factory is NODEFAULT
    return is_required and value.get(field.encode_name) is None
