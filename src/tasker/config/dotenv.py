"""Reads the file `.env` as python-dotenv does, but raises an error for lines that python-dotenv would skip."""

from __future__ import annotations

from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import Original, parse_stream

from tasker.errors import ConfigError

_OURS = ("TASKER_", "OPENAI_")


def read_dotenv(file: Path) -> dict[str, str | None]:
    """Return the variables that the file sets; {} without a file. Raises ConfigError that names the line."""
    try:
        _check(file)
        return dotenv_values(file)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: expected a readable file in UTF-8, got: {error}") from error


def find_lines(file: Path) -> dict[str, int]:
    """Return the line, from 1, of each variable's last setting in a file that `read_dotenv` has read."""
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8") as text:
        return {part.key: _line_of(part.original) for part in parse_stream(text) if part.key is not None}


def _line_of(original: Original) -> int:
    """Return the line of a setting: its text may begin with empty lines."""
    text = original.string
    return original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _check(file: Path) -> None:
    """Raise ConfigError for an unreadable line that names one of our variables: it would be silently ignored."""
    if not file.is_file():
        return
    with file.open(encoding="utf-8") as text:
        for part in parse_stream(text):
            line, text_of_line = part.original.line, part.original.string
            is_ours = any(name in text_of_line for name in _OURS)
            if is_ours and (part.error or (part.key is not None and part.value is None)):
                raise ConfigError(f"{file}: line {line}: expected NAME=value, with every quote closed")
            if "\0" in text_of_line:
                raise ConfigError(f"{file}: line {line}: expected text, got a NUL character")
