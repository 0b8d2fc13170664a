"""The schemas of questions to people, and the check of their answers. It fetches nothing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from tasker.errors import Fault
from tasker.validation.faults import MAX_FAULTS, format_checker, kind_of, schema_faults, validator_class
from tasker.validation.patterns import compile_pattern
from tasker.validation.schemas import check_schema

if TYPE_CHECKING:  # imported with the first answer: it takes 70 ms
    from jsonschema.protocols import Validator


def question_faults(schema: Any) -> tuple[Fault, ...]:
    """Return why no answer could be checked by a JSON Schema, with pointers into it; none if it can be used.

    A boolean is no schema here. See `schemas.check_schema` for what else is refused.
    """
    if not isinstance(schema, dict):
        return (Fault("", f"expected an object, got {kind_of(schema)}"),)
    return check_schema(schema)


def answer_faults(schema: bytes, value: Any) -> list[Fault]:
    """Return every fault (at most MAX_FAULTS) of an answer, with pointers into it.

    schema: JSON text that `question_faults` accepted. References in it can make this slow: call it in a thread.
    """
    try:
        return list(dict.fromkeys(islice(schema_faults(_validator(schema), value), MAX_FAULTS)))
    except RecursionError:
        return [Fault("", "cannot be checked: the schema refers to itself without end")]
    except ArithmeticError:
        return [Fault("", "cannot be checked: a number is too large")]
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of the Rust in jsonschema, if the stack ends there
            raise
        return [Fault("", "cannot be checked: the schema refers to itself without end")]


@lru_cache(maxsize=64)
def _validator(schema: bytes) -> Validator:
    from jsonschema.validators import extend
    from referencing import Registry

    own: Any = extend(validator_class(), {"pattern": _pattern})  # type: ignore[no-untyped-call]
    made: Validator = own(msgspec.json.decode(schema), format_checker=format_checker(), registry=Registry())
    return made


def _pattern(validator: Any, pattern: str, value: Any, _: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if validator.is_type(value, "string") and compile_pattern(pattern).search(value) is None:
        yield ValidationError("no match")
