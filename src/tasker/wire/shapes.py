"""How a field is sent, where that differs from how the client reads it.

A default is for the client, which reads replies of older services, and receipts, which have fewer fields.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, TypeVar, get_args

from msgspec import Meta, Struct

T = TypeVar("T")
S = TypeVar("S", bound=Struct)

SENT = "x-sent"
"""The mark in a field's JSON Schema; the OpenAPI document does not contain it."""

Always = Annotated[T, Meta(extra_json_schema={SENT: "always"})]
"""The service always sends this field. `Always[str] | None`: the service never sends null."""
Sometimes = Annotated[T, Meta(extra_json_schema={SENT: "sometimes"})]
"""The service leaves this field out if it does not apply. `Sometimes[str] | None`: it never sends null."""

Moment = Annotated[datetime, Meta(tz=True)]


def choices(literal: Any) -> Meta:
    """Describe a string as one of a Literal's values; the client accepts those of later versions, too."""
    return Meta(extra_json_schema={"enum": sorted(get_args(literal))})


def like(name: str) -> Meta:
    """Describe a plain object by the schema of this name."""
    return Meta(extra_json_schema={"$ref": f"#/components/schemas/{name}"})


def show(view: type[S], source: Any, **others: Any) -> S:
    """Return a `view` with the attributes of `source` that have the same names; `others` take precedence."""
    own = {
        name: getattr(source, name) for name in view.__struct_fields__ if name not in others and hasattr(source, name)
    }
    return view(**own, **others)
