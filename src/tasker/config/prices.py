"""Reads and checks the prices of language models in the settings, which are JSON."""

from __future__ import annotations

import json
from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

ANY_MODEL = "*"
"""The name for every model that has no price of its own."""
_Dollars = Annotated[float, Field(strict=True, ge=0, le=1e6, allow_inf_nan=False)]


class ModelPrice(NamedTuple):
    """US dollars for a million tokens of a model. cached_input: for cached input tokens; None: as for `input`."""

    input: _Dollars
    output: _Dollars
    cached_input: _Dollars | None = None


def read_prices(value: object) -> dict[str, ModelPrice] | None:
    """Read prices from JSON. Raises ValueError that names each wrong part."""
    try:
        given = json.loads(value, object_pairs_hook=_once) if isinstance(value, str) else value
        return _prices.validate_python(given)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from None
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
        raise ValueError("; ".join(f"{_place(fault)}: {fault['msg']}" for fault in faults)) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the members of a JSON object. Raises ValueError for a repeated name."""
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return members


def _place(fault: ErrorDetails) -> str:
    return ".".join(str(part) for part in fault["loc"]) or "all of it"


_prices = TypeAdapter(dict[Annotated[str, Field(min_length=1)], ModelPrice] | None)
