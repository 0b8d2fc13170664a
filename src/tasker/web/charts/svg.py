"""SVG elements as text. Every value is escaped."""

from __future__ import annotations

from markupsafe import Markup, escape

Value = str | float | None


def element(name: str, /, *inside: str, **attributes: Value) -> Markup:
    """Return an element. An attribute of None is left out; `text_anchor` is written `text-anchor`, `class_` `class`."""
    parts = ["<", name]
    for key, value in attributes.items():
        if value is not None:
            parts += (" ", key.rstrip("_").replace("_", "-"), '="', escape(number(value)), '"')
    parts.append(">" if inside else "/>")
    parts += [escape(part) for part in inside]
    if inside:
        parts += ("</", name, ">")
    return Markup("".join(parts))  # noqa: S704  # every value is escaped above


def joined(parts: list[Markup]) -> Markup:
    """Return elements one after the other."""
    return Markup("").join(parts)


def number(value: str | float) -> str:
    """Return a number with at most two decimals; a text as it is."""
    if isinstance(value, str):
        return value
    return f"{value:.2f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"


def percent(value: float) -> str:
    """Return a place or a length as a percentage."""
    return f"{number(value)}%"
