"""What a browser without scripts sends for a page: the successful controls of its form, read from the HTML."""

from __future__ import annotations

import re
from functools import lru_cache
from html.parser import HTMLParser
from typing import Any

from tasker.web.forms.fields import Field
from tasker.web.frame import make_templates

Pairs = list[tuple[str, str]]
_DATE = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])-([0-2][0-9]|3[01])")


@lru_cache(maxsize=1)
def _macros() -> Any:
    return make_templates().get_template("form.html").module


def html_of(form: Field) -> str:
    """Return the HTML of a form, as the page of a type has it."""
    macros = _macros()
    return str(macros.members(form) if form.kind == "object" else macros.control(form))


def sent(form: Field) -> Pairs:
    """Return what a browser sends if nobody touches the form."""
    return controls_of(html_of(form))


def controls_of(html: str) -> Pairs:
    """Return the names and values of the successful controls, in the order of the page."""
    parser = _Controls()
    parser.feed(html)
    parser.close()
    return parser.pairs


class _Controls(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pairs: Pairs = []
        self._area: list[str] | None = None
        self._name = ""
        self._options: list[tuple[str, bool]] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        name = given.get("name", "")
        if tag == "input" and name:
            self._input(name, given)
        elif tag == "textarea":
            self._name, self._area = name, []
        elif tag == "select":
            self._name, self._options = name, []
        elif tag == "option" and self._options is not None:
            self._options.append((given["value"], "selected" in given))

    def _input(self, name: str, given: dict[str, str]) -> None:
        kind, value = given.get("type", "text"), given.get("value", "")
        if kind in ("checkbox", "radio"):
            if "checked" in given:
                self.pairs.append((name, value))
            return
        if kind != "hidden":  # the sanitization of HTML's text controls
            value = value.replace("\r", "").replace("\n", "")
        if kind == "date" and not _DATE.fullmatch(value):
            value = ""
        self.pairs.append((name, value))

    def handle_data(self, data: str) -> None:
        if self._area is not None:
            self._area.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea" and self._area is not None:
            text = "".join(self._area).removeprefix("\n")  # the parser drops a first line break
            self.pairs.append((self._name, text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")))
            self._area = None
        elif tag == "select" and self._options is not None:
            chosen = [value for value, is_selected in self._options if is_selected]
            self.pairs.append((self._name, (chosen or [value for value, _ in self._options])[0]))
            self._options = None
