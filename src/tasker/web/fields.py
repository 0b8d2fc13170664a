"""Forms of settings: their fields, and the JSON body that a posted one stands for.

The body goes through the reader of the API's operation, so nothing here checks a value: a fault comes back with the
pointer of its field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from tasker.errors import Fault
from tasker.web.page import Form

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_GROUPED = re.compile(r"[0-9]{1,3}(,[0-9]{3})+")

Kind = Literal["text", "number", "length", "flag", "choice", "choices", "json", "moment", "secret"]


class Field(NamedTuple):
    """A field. name: the path of its value in the body, like `rate/limit`. kind: how it is shown and read.

    A `length` of time is a number of seconds, or a text like PT5M.
    empty: what an empty field stands for: it is left out, or null. choices: of the kinds `choice` and `choices`.
    """

    name: str
    kind: Kind = "text"
    hint: str = ""
    choices: tuple[str, ...] = ()
    empty: Literal["leave", "null"] = "leave"
    required: bool = False

    @property
    def pointer(self) -> str:
        return f"/{self.name}"

    @property
    def label(self) -> str:
        """Its label: the name of the param."""
        return self.name.replace("/", ".")


class Control(NamedTuple):
    """A field with what it holds and what is wrong with it. values: those chosen, of the kind `choices`."""

    field: Field
    value: str
    values: tuple[str, ...]
    error: str


def read_body(fields: Iterable[Field], form: Form) -> bytes:
    """Return the JSON body that a posted form stands for. A group without any value is null."""
    body: dict[str, Any] = {}
    for field in fields:
        group, _, name = field.name.rpartition("/")
        value = _value(field, form)
        target = body.setdefault(group, {}) if group else body
        if value is not msgspec.UNSET:
            target[name] = value
    return msgspec.json.encode({name: None if value == {} else value for name, value in body.items()})


def _value(field: Field, form: Form) -> Any:
    """Return the value of a field, UNSET if it is left out."""
    if field.kind == "flag":
        return form.get(field.pointer) != ""
    if field.kind == "choices":
        return list(form.all(field.pointer)) or (None if field.empty == "null" else msgspec.UNSET)
    text = form.get(field.pointer)
    if text == "":
        return None if field.empty == "null" else msgspec.UNSET
    if field.kind in ("number", "length"):
        plain = text.strip().replace(",", "") if _GROUPED.fullmatch(text.strip()) else text.strip()
        return msgspec.Raw(plain.encode()) if _NUMBER.fullmatch(plain) else text
    if field.kind == "json":
        return _json(text)
    if field.kind == "moment":
        return f"{text}Z" if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?", text) else text
    return text


def _json(text: str) -> Any:
    """Return JSON text as it is; text that is no JSON as a string, for the reader to refuse."""
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return msgspec.Raw(text.encode())


def controls(fields: Sequence[Field], given: Form | Mapping[str, Any], faults: Sequence[Fault] = ()) -> list[Control]:
    """Return the fields with what a form or a body has given, and with their faults."""
    return [_control(field, given, faults) for field in fields]


def _control(field: Field, given: Form | Mapping[str, Any], faults: Sequence[Fault]) -> Control:
    if isinstance(given, Form):
        value, values = given.get(field.pointer), given.all(field.pointer)
    else:
        value, values = _shown(given.get(field.name)), tuple(map(str, _listed(given.get(field.name))))
    error = "; ".join(fault.detail for fault in faults if belongs(fault, field))
    return Control(field, value, values, error)


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _shown(value: Any) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return "on"
    return str(value)


def belongs(fault: Fault, field: Field) -> bool:
    """Tell whether a fault is about a field, or about a part of its value."""
    return fault.pointer == field.pointer or fault.pointer.startswith(field.pointer + "/")


def others(fields: Sequence[Field], faults: Sequence[Fault]) -> list[Fault]:
    """Return the faults that belong to no field."""
    return [fault for fault in faults if not any(belongs(fault, field) for field in fields)]
