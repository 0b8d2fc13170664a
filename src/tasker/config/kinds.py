"""The kinds of values that settings take: how each is read and checked, and what an error says was expected."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, SecretStr, TypeAdapter

from tasker.config.prices import ModelPrice, read_prices
from tasker.model import MAX_RETENTION, queue_name_pattern

MIN_TOKEN_LENGTH = 16
_VISIBLE_ASCII = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Expected:
    """The values of a setting in words: the X of "expected X, got Y". flag: whether it has a generated flag."""

    words: str
    secret: bool = False
    flag: bool = True


def whole(least: int, most: int | None = None, words: str | None = None) -> tuple[Any, Expected]:
    """Return the annotations of a whole number in a range."""
    to_most = "" if most is None else f" to {most}"
    return Field(ge=least, le=most), Expected(words or f"a whole number from {least}{to_most}")


def choice(words: str) -> tuple[Any, Expected]:
    """Return the annotations of a Literal of lower-case words, given in any case."""
    return BeforeValidator(_lower), Expected(words)


def span(least: timedelta, most: timedelta, words: str) -> tuple[Any, Any, Expected]:
    """Return the annotations of a duration in a range."""
    return BeforeValidator(_seconds), Field(ge=least, le=most), Expected(words)


def _seconds(value: object) -> object:
    """Take plain numbers as seconds; leave the rest (ISO 8601, H:MM:SS) to pydantic."""
    try:
        return timedelta(seconds=float(value)) if isinstance(value, int | float | str) else value
    except (ValueError, OverflowError):
        return value


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _check_token(token: SecretStr | None) -> SecretStr | None:
    text = token.get_secret_value() if token else None
    if text is not None and (len(text) < MIN_TOKEN_LENGTH or not _VISIBLE_ASCII.fullmatch(text)):
        raise ValueError
    return token


def _check_http_url(url: str | None) -> str | None:
    if url is not None and (urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname):
        raise ValueError
    return url


def _check_postgres_url(url: SecretStr | None) -> SecretStr | None:
    if url is not None and urlsplit(url.get_secret_value()).scheme not in {"postgresql", "postgres"}:
        raise ValueError
    return url


def _check_queue_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if not all(re.fullmatch(queue_name_pattern, name) for name in names):
        raise ValueError
    return names


def _read_retention(value: object) -> object:
    if _lower(value) == "forever":
        return "forever"
    length = _read_duration(_seconds(value))
    if not timedelta(0) < length <= MAX_RETENTION:
        raise ValueError
    return length


_read_duration = TypeAdapter(timedelta).validate_python

Switch = Annotated[bool, Expected("on or off")]
SwitchWithoutFlag = Annotated[bool, Expected("on or off", flag=False)]
Host = Annotated[str, Field(min_length=1, pattern=r"^[^\s/]+$"), Expected("an address or host name")]
Size = Annotated[ByteSize, Field(ge=1024), Expected("a size of 1 KiB or more (1048576, 1MiB, 512MB)")]
Dollars = Annotated[float | None, Field(ge=0, le=1e9), Expected("US dollars, 0 or more")]
Duration = Annotated[
    timedelta,
    BeforeValidator(_seconds),
    Field(gt=timedelta(0), le=timedelta(days=365)),
    Expected("more than 0 seconds (30, 0.5, or ISO 8601: PT5M)"),
]
RetentionTime = Annotated[
    timedelta | Literal["forever"],
    BeforeValidator(_read_retention),
    Expected("more than 0 seconds, at most ten years, or forever (2592000, or ISO 8601: P30D)"),
]
Names = Annotated[tuple[str, ...], BeforeValidator(_split), Expected("names, separated by commas")]
HostNames = Annotated[Names, Expected("host names, separated by commas")]
QueueNames = Annotated[Names, AfterValidator(_check_queue_names), Expected("names of queues, separated by commas")]
Targets = Annotated[Names, Expected("files, folders or modules, separated by commas")]
Token = Annotated[
    SecretStr | None,
    AfterValidator(_check_token),
    Expected(f"a token of {MIN_TOKEN_LENGTH} or more visible ASCII characters", secret=True),
]
HttpUrl = Annotated[str | None, AfterValidator(_check_http_url), Expected("a URL with http:// or https://")]
PostgresUrl = Annotated[
    SecretStr | None,
    AfterValidator(_check_postgres_url),
    Expected("a URL with postgresql:// (postgresql://user:password@host:5432/database)", secret=True),
]
Prices = Annotated[
    dict[str, ModelPrice] | None,
    BeforeValidator(read_prices),
    Expected('prices as JSON, {"model": {"input": 0.15, "output": 0.6, "cached_input": 0.075}}'),
]
