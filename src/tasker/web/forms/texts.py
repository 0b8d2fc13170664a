"""How a value is written into one control and read back from it. What a control cannot hold is shown as JSON."""

from __future__ import annotations

import re
from datetime import date

from tasker.web.forms.exact import ABSENT, Given, Number, Value, is_number, is_visible, write
from tasker.web.forms.shapes import Kind, Shape

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_YES_NO = {"true": True, "false": False}


def text_of(shape: Shape, value: Value) -> str | None:
    """Return the text that stands for a value in the control of a shape; None if it cannot hold the value.

    An empty control stands for no value: where one is needed, in a list, it stands for an empty text.
    """
    if shape.kind is Kind.BOOL:
        return option_text(value) if isinstance(value, bool) else None
    if shape.kind in (Kind.CHOICE, Kind.CONST):
        found = option_text(value) if isinstance(value, str | Number | bool) and value in shape.options else None
    elif isinstance(value, Number):
        found = value.text
    else:
        found = value if isinstance(value, str) else None
    is_kept = found is not None and is_visible(found) and value_of(shape, found) == value
    return found if is_kept else None


def value_of(shape: Shape, text: str) -> Given:
    """Return the value that a text in the control of a shape stands for. A wrong one remains a text, for the API."""
    if text == "":
        return ABSENT
    if shape.kind in (Kind.NUMBER, Kind.SECONDS):
        return Number(text.strip()) if is_number(text.strip()) else text
    if shape.kind is Kind.BOOL:
        return _YES_NO.get(text, text)
    if shape.kind in (Kind.CHOICE, Kind.CONST):
        return next((option for option in shape.options if option_text(option) == text), text)
    return text


def option_text(option: Value) -> str:
    """Return how an option of a choice is shown and posted."""
    return option if isinstance(option, str) else write(option)


def has_own_control(shape: Shape, text: str) -> bool:
    """Tell whether a browser keeps a text in the control: one of dates holds dates alone, others but texts one line."""
    if shape.kind is Kind.DATE:
        try:
            return bool(_DATE.fullmatch(text)) and date.fromisoformat(text).year >= 1000
        except ValueError:
            return False
    return shape.kind is Kind.TEXT or not ("\n" in text or "\t" in text)
