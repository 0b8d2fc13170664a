"""The file `.env` of the working folder: read as python-dotenv reads it, but for what that leaves out in silence."""

from __future__ import annotations

from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from tasker.errors import ConfigError

_OURS = ("TASKER_", "OPENAI_")


def read_dotenv(file: Path) -> dict[str, str | None]:
    """Return what the file sets; nothing if there is none. Raises ConfigError, with the line."""
    try:
        _check(file)
        return dotenv_values(file)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: expected a readable file in UTF-8, got: {error}") from error


def _check(file: Path) -> None:
    """Look for lines of ours that cannot be read: what they set would be something else than was meant."""
    if not file.is_file():
        return
    with file.open(encoding="utf-8") as text:
        for part in parse_stream(text):
            line, words = part.original.line, part.original.string
            is_ours = any(name in words for name in _OURS)
            if is_ours and (part.error or (part.key is not None and part.value is None)):
                raise ConfigError(f"{file}: line {line}: expected NAME=value, with every quote closed")
            if "\0" in words:
                raise ConfigError(f"{file}: line {line}: expected text, got a NUL character")
