"""Params and results of pydantic types: pydantic itself validates, describes and writes them.

Pydantic reads a whole parameter if its type contains a pydantic model anywhere. It is imported here only for such a
type, whose author has already imported it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import msgspec
from msgspec import Meta

from tasker.errors import Fault
from tasker.validation.encoding import check_leaves, is_kept, settle, write
from tasker.validation.faults import missing_field, unknown_field
from tasker.validation.jsontext import escape

if TYPE_CHECKING:
    from decimal import Decimal

_HOMES = ("pydantic", "annotated_types")
_REF = "#/$defs/{model}"
_OF_MEMBERS = ("missing", "missing_argument", "extra_forbidden", "unexpected_keyword_argument")


def is_model(hint: Any) -> bool:
    """Tell whether a type is or contains, at any depth, a pydantic model, dataclass or constraint."""
    if "pydantic" not in sys.modules:
        return False
    return any(_is_pydantics(part) for part in _parts(hint))


def _is_pydantics(part: Any) -> bool:
    kind = part if isinstance(part, type) else type(part)
    home = (getattr(kind, "__module__", None) or "").partition(".")[0]
    return home in _HOMES or hasattr(part, "__pydantic_validator__") or hasattr(part, "__get_pydantic_core_schema__")


def runs_own_code(hint: Any) -> bool:
    """Tell whether reading a value of a type may run code of the type's author, and so take any time."""
    return any(isinstance(part, type) and _has_hook(part) for part in _parts(hint, all_fields=True))


def _has_hook(kind: type) -> bool:
    if kind.__module__ == "builtins":
        return False
    is_enum = issubclass(kind, Enum) and kind._missing_.__func__ is not Enum._missing_.__func__  # type: ignore[attr-defined]
    return is_enum or any(hasattr(kind, name) for name in ("__post_init__", "__attrs_attrs__"))


def _parts(hint: Any, *, all_fields: bool = False) -> Iterator[Any]:
    """Yield a type and everything that it is made of: arguments, metadata and the fields of classes.

    all_fields: the fields of pydantic's classes too.
    """
    stack, seen = [hint], set()
    while stack:
        part = stack.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        stack += get_args(part)
        stack += getattr(part, "__metadata__", ())
        stack.append(getattr(part, "__value__", None))  # of a `type` statement
        is_whole = hasattr(part, "__pydantic_validator__") and not all_fields
        if isinstance(part, type) and part.__module__ != "builtins" and not is_whole:
            stack += _fields(part)


def _fields(kind: type) -> list[Any]:
    try:
        return list(get_type_hints(kind, include_extras=True).values())
    except Exception:  # annotations of a user's class may raise anything
        return []


_OWN_CODE = re.compile(
    r"'type': '(?:function-|call)|'custom_init': True|'post_init': (?!False)|'regex_engine': 'python"
)
"""Matches validators and slow regular expressions in the schema that pydantic has made."""


class Model:
    """Reads, describes and writes values of one type by pydantic. Raises TypeError (pydantic's message) if it cannot.

    has_own_code: whether code of the type's author may run when a value is read, and so take any time.
    """

    def __init__(self, hint: Any, *, secret: Meta | None = None) -> None:
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticUserError

        if any(isinstance(part, Meta) and part is not secret for part in _parts(hint)):
            raise TypeError("pydantic ignores msgspec.Meta; use pydantic.Field with a pydantic type")
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(hint)
            made = repr(self._adapter.core_schema)
            self._has_decimals = "'type': 'decimal'" in made
            self.has_own_code = _OWN_CODE.search(made) is not None or runs_own_code(hint)
            self.input_schema = self._adapter.json_schema(ref_template=_REF, mode="validation")
            self.output_schema = self._adapter.json_schema(ref_template=_REF, mode="serialization")
        except PydanticUserError as error:
            raise TypeError(str(error.message)) from None

    def read(self, text: bytes) -> Any:
        """Return the value of a JSON text. Raises ValueError (see `faults`)."""
        value = self._adapter.validate_json(text)
        if not self._has_decimals:
            return value
        # pydantic reads each number with a fraction as a float, even for a Decimal.
        exact, has_more = _read_decimals(text)
        if not has_more:
            return value
        try:
            return self._adapter.validate_python(exact)
        except ValueError:  # a strict model
            raise ValueError("a number in it has more digits than a float keeps; send it as a string") from None

    def faults(self, value: Any, pointer: str) -> Iterator[Fault]:
        """Yield the faults of a value as decoded from JSON."""
        from pydantic import ValidationError

        try:
            self._adapter.validate_json(msgspec.json.encode(value))
        except ValidationError as error:
            for found in error.errors(include_url=False, include_context=False, include_input=False):
                yield _fault_of(found, value, pointer)  # type: ignore[arg-type]

    def check(self, value: Any) -> None:
        """Raise ValueError if a Python value is not of the type."""
        self._adapter.validate_python(value)

    def write(self, value: Any) -> bytes:
        """Return the JSON text of a value, under its aliases. Raises NotJson, ValueError (it is not of the type)."""
        checked = self._adapter.validate_python(value)
        plain = self._adapter.dump_python(checked, mode="json", by_alias=True, warnings="error")
        text = write(plain)
        check_leaves(plain, text)
        return settle(text)

    def refusal(self, error: Exception) -> str:
        """Return the first reason why a value was refused: pydantic's message without the value."""
        from pydantic import ValidationError

        if not isinstance(error, ValidationError):  # raised by a serializer or the author's validator
            return str(error)[:300]
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = "".join(f"/{step}" for step in first["loc"])
        return f"{_sentence(first)} at {place}" if place else _sentence(first)


def _read_decimals(text: bytes) -> tuple[Any, bool]:
    """Decode JSON text with a Decimal for each number that no float represents; return also whether there is any."""
    from decimal import Decimal

    found: list[Decimal] = []

    def read(digits: str) -> float | Decimal:
        number = float(digits)
        if is_kept(digits, number):
            return number
        found.append(Decimal(digits))
        return found[-1]

    return msgspec.json.Decoder(float_hook=read).decode(text), bool(found)


def _fault_of(error: dict[str, Any], value: Any, pointer: str) -> Fault:
    """Return a pydantic error as a fault; its pointer has only the steps that exist in the value."""
    steps = list(error["loc"])
    member = str(steps.pop()) if error["type"] in _OF_MEMBERS else ""
    for step in steps:
        is_there = step in value if isinstance(value, dict) else isinstance(value, list) and step in range(len(value))
        if is_there:  # other steps name a union member, a validator or a key
            value = value[step]
            pointer = f"{pointer}/{escape(str(step))}"
    if member:
        return missing_field(pointer, member) if "missing" in error["type"] else unknown_field(pointer, member, ())
    return Fault(pointer, _sentence(error)[:300])


def _sentence(error: Any) -> str:
    message: str = error["msg"]
    if error["type"] in ("value_error", "assertion_error"):  # the message of the author's validator
        return message.partition(", ")[2] or message
    if message.startswith("Input should be "):
        return "expected " + message.removeprefix("Input should be ")
    return message[:1].lower() + message[1:]
