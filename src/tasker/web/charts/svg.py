"""SVG elements as text. Every value is escaped."""

from __future__ import annotations

from markupsafe import Markup, escape

Value = str | float | None


def element(name: str, /, *inside: str, **attributes: Value) -> Markup:
    """Return an element. An attribute of None is left out; `text_anchor` is written `text-anchor`, `class_` `class`."""
    parts = ["<", name]
    for key, value in attributes.items():
        if value is not None:
            text = _safe(value) if isinstance(value, str) else number(value)
            parts += (" ", key.rstrip("_").replace("_", "-"), '="', text, '"')
    parts.append(">" if inside else "/>")
    parts += map(_safe, inside)
    if inside:
        parts += ("</", name, ">")
    return Markup("".join(parts))  # noqa: S704  # every text is escaped above


def joined(parts: list[Markup]) -> Markup:
    """Return elements one after the other."""
    return Markup("".join(map(_safe, parts)))  # noqa: S704  # escaped


def _safe(text: str) -> str:
    """Return a text escaped, markup as it is. A chart has a thousand parts: `Markup` alone would take twice as long."""
    return text if isinstance(text, Markup) else str(escape(text))


def number(value: str | float) -> str:
    """Return a number with at most two decimals; a text as it is."""
    if isinstance(value, str):
        return value
    return f"{value:.2f}".rstrip("0").rstrip(".") if value % 1 else str(int(value))


def percent(value: float) -> str:
    """Return a place or a length as a percentage."""
    return f"{number(value)}%"
