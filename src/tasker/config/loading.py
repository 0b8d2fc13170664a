"""Loads the settings from flags, TASKER_* variables and `.env`, and names every fault in them.

A flag wins over the environment, the environment over `.env` in the working folder; an empty string is unset.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ByteSize, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from tasker.config.dotenv import find_lines, read_dotenv
from tasker.config.kinds import Expected
from tasker.config.settings import GptSettings, Settings
from tasker.errors import ConfigError

_CLIENT_VARIABLES = {"TASKER_URL"}  # read by the command line and the client; no fault among a server's settings
_SPECIAL_VARIABLES = {"gpt_api_key": "OPENAI_API_KEY", "gpt_base_url": "OPENAI_BASE_URL"}


@dataclass(frozen=True)
class Setting:
    """One setting as users meet it: its variable, flag (None for none), default and description.

    path: where the field is in Settings: ("port",), ("gpt", "model").
    """

    variable: str
    flag: str | None
    default: str
    description: str
    path: tuple[str, ...]
    expected: Expected


@dataclass(frozen=True)
class Given:
    """A value as it was given, and the name by which the user knows it.

    place: where it was given: "flag", "environment", ".env line 3" or "command" (by what the command itself sets).
    """

    name: str
    value: object
    place: str


def describe_settings() -> list[Setting]:
    """Return every setting in order of declaration: README, `.env.example`, flags and errors use this table."""
    own = [(("gpt", name), field) for name, field in GptSettings.model_fields.items()]
    rest = [((name,), field) for name, field in Settings.model_fields.items() if name != "gpt"]
    return [_setting(path, field) for path, field in [*rest, *own] if field.description]


def load_settings(defaults: Mapping[str, object] | None = None, /, **flags: object) -> Settings:
    """Return the settings of this process. flags: values by name of the field (`gpt_model`...), None for not given.

    defaults: what takes the place of the settings' own defaults, by the same names.
    Raises ConfigError that names every wrong or unknown variable, what was expected and what was got.
    """
    variables = _read_variables()
    table = describe_settings()
    faults = [_unknown(given.name, name, table) for name, given in variables.items() if _is_unknown(name, table)]
    given = _find_all(table, flags, variables, defaults or {})
    try:
        settings = Settings.model_validate(_nest(given))
    except ValidationError as error:
        faults += [line for fault in error.errors() for line in _explain(fault, table, given)]
    if faults:
        count = "A setting is" if len(faults) == 1 else f"{len(faults)} settings are"
        raise ConfigError("\n  ".join([f"{count} wrong:", *faults]))
    return settings


def find_given(**flags: object) -> dict[str, Given]:
    """Return what is given for each setting that has no default value now, by variable. Raises ConfigError."""
    table = describe_settings()
    found = _find_all(table, flags, _read_variables(), {})
    return {setting.variable: found[setting.path] for setting in table if setting.path in found}


def _find_all(
    table: list[Setting],
    flags: Mapping[str, object],
    variables: Mapping[str, Given],
    defaults: Mapping[str, object],
) -> dict[tuple[str, ...], Given]:
    found = ((setting.path, _find_given(setting, flags, variables, defaults)) for setting in table)
    return {path: given for path, given in found if given is not None}


def _setting(path: tuple[str, ...], field: FieldInfo) -> Setting:
    name = "_".join(path)
    expected = [item for item in field.metadata if isinstance(item, Expected)][-1]
    return Setting(
        variable=_SPECIAL_VARIABLES.get(name, f"TASKER_{name.upper()}"),
        flag=None if expected.secret or not expected.flag else f"--{name.replace('_', '-')}",
        default=show_value(field.default if field.default_factory is None else None),
        description=field.description or "",
        path=path,
        expected=expected,
    )


def show_value(value: object) -> str:
    """Return a value of a setting as it is written in the environment; "" for None."""
    match value:
        case None:
            return ""
        case bool():
            return "on" if value else "off"
        case timedelta():
            return f"{value.total_seconds():.10g}"
        case tuple():
            return ",".join(value)
        case ByteSize():
            return value.human_readable().replace(".0", "")
    return str(value)


def _read_variables() -> dict[str, Given]:
    """Return the variables that are set; the environment wins over `.env`, empty values are unset."""
    file = Path(".env")
    from_file, lines = read_dotenv(file), find_lines(file)
    found = {
        name: Given(f"{name} (in .env)", value, f".env line {lines[name]}")
        for name, value in from_file.items()
        if value
    }
    return found | {name: Given(name, value, "environment") for name, value in os.environ.items() if value}


def _find_given(
    setting: Setting, flags: Mapping[str, object], variables: Mapping[str, Given], defaults: Mapping[str, object]
) -> Given | None:
    name = "_".join(setting.path)
    value = flags.get(name)
    if value is not None and value != "":
        return Given(setting.flag or setting.variable, value, "flag")
    if setting.variable in variables:
        return variables[setting.variable]
    return Given(setting.variable, defaults[name], "command") if name in defaults else None


def _nest(given: Mapping[tuple[str, ...], Given]) -> dict[str, Any]:
    nested: dict[str, Any] = {"gpt": {}}
    for path, found in given.items():
        (nested["gpt"] if len(path) > 1 else nested)[path[-1]] = found.value
    return nested


def _is_unknown(name: str, table: list[Setting]) -> bool:
    return name.startswith("TASKER_") and name not in {setting.variable for setting in table} | _CLIENT_VARIABLES


def _unknown(shown: str, name: str, table: list[Setting]) -> str:
    close = get_close_matches(name, [setting.variable for setting in table], n=1, cutoff=0.0)
    return f"{shown}: expected a setting of Tasker, got an unknown name; the nearest is {close[0]}"


def _explain(fault: ErrorDetails, table: list[Setting], given: Mapping[tuple[str, ...], Given]) -> list[str]:
    """Return the lines of an error message for a fault; a secret, or a URL that may carry a password, is not shown."""
    if not fault["loc"]:
        return fault["msg"].removeprefix("Value error, ").split("\n")
    setting = next(entry for entry in table if entry.path == fault["loc"][: len(entry.path)])
    found = given.get(setting.path, Given(setting.variable, fault["input"], ""))
    text = str(found.value)
    hidden = setting.expected.secret or "@" in text
    got = f"a value of {len(text)} characters, not shown" if hidden else f"{text!r:.200}"
    why = "" if hidden or fault["type"] != "value_error" else fault["msg"].removeprefix("Value error, ")
    return [f"{found.name}: expected {setting.expected.words}{why and f' ({why})'}, got {got}"]
