"""Durations and moments on a command line: `90s`, `2h`, `PT5M`; `2026-12-01T08:00`, or a duration from now."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from tasker.cli.params import UsageError, read_seconds


def read_duration(text: str | None) -> Any:
    """Return the seconds of a duration (`90`, `1.5`, `90s`, `5m`, `2h`); other texts as they are, for the service."""
    if text is None:
        return None
    seconds = read_seconds(text)
    if seconds is not None:
        return seconds
    try:
        return float(text)
    except ValueError:
        return text


def read_moment(option: str, text: str | None, now: datetime, *, ahead: bool = False) -> datetime | None:
    """Return the moment that a text names: a time, in this machine's zone if it has none, or a duration before `now`.

    ahead: the duration is from `now` on. Raises UsageError.
    """
    if text is None:
        return None
    seconds = read_seconds(text)
    if seconds is not None:
        return now + timedelta(seconds=seconds if ahead else -seconds)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        example = f"{now:%Y-%m-%d}T08:00"
        raise UsageError(f"{option}: expected a time like {example}, or a duration like 2h, got {text!r}") from None
    return moment.astimezone() if moment.tzinfo is None else moment


def local(time: datetime) -> str:
    """Return a time as this machine's clock shows it."""
    return time.astimezone().isoformat(sep=" ", timespec="milliseconds")
