"""What a check finds: that something is well, or what is wrong and what to do."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

State = Literal["ok", "warning", "problem"]


class Finding(Struct, frozen=True, omit_defaults=True):
    """One line of the report. name: what was checked. advice: what to do."""

    name: str
    state: State
    detail: str
    advice: str | None = None


def ok(name: str, detail: str) -> Finding:
    """Return that something is well."""
    return Finding(name, "ok", detail)


def warning(name: str, detail: str, advice: str) -> Finding:
    """Return what works and may surprise."""
    return Finding(name, "warning", detail, advice)


def problem(name: str, detail: str, advice: str) -> Finding:
    """Return what does not work."""
    return Finding(name, "problem", detail, advice)
