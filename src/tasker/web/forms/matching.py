"""Which variant of a union a value belongs to."""

from __future__ import annotations

from tasker.web.forms.exact import Broken, Number, Value
from tasker.web.forms.shapes import Kind, Shape
from tasker.web.forms.texts import text_of

_NO_MATCH = (-1, 0)


def best_variant(shape: Shape, value: Value) -> int | None:
    """Return the index of the variant of a union that fits a value best, None if none has its type."""
    scores = [_score(one.shape, value) for one in shape.variants]
    best = max(scores)
    return scores.index(best) if best > _NO_MATCH else None


def _score(shape: Shape, value: Value) -> tuple[int, int]:
    """Return how well a value fits: larger is better, `_NO_MATCH` for another type."""
    if isinstance(value, Broken):
        return _NO_MATCH
    match shape.kind:
        case Kind.OBJECT if isinstance(value, dict):
            return _score_of_object(shape, value)
        case Kind.MAP if isinstance(value, dict):
            return (1, 0)
        case Kind.LIST if isinstance(value, list):
            return (1, 0)
        case Kind.JSON:
            return (0, 0)
        case Kind.NUMBER if isinstance(value, Number):
            is_whole = value.text.lstrip("-").isdigit()
            return (0, 1) if shape.is_whole and not is_whole else (1, int(shape.is_whole))
        case Kind.OBJECT | Kind.MAP | Kind.LIST | Kind.UNION | Kind.NUMBER:
            return _NO_MATCH
        case Kind.TEXT if isinstance(value, str):
            return (0, 1)
    return (2, 0) if text_of(shape, value) is not None else _NO_MATCH


def _score_of_object(shape: Shape, value: dict[str, Value]) -> tuple[int, int]:
    """Return how many members fit; an object whose tag is another's does not."""
    fitting = 0
    for member in shape.members:
        given = value.get(member.name)
        if member.name in value:
            if member.shape.kind is Kind.CONST and given not in member.shape.options:
                return _NO_MATCH
            fitting += 3 if member.shape.kind is Kind.CONST else 1
        elif member.is_required:
            fitting -= 1
    known = {member.name for member in shape.members}
    return (1, fitting - sum(name not in known for name in value))
