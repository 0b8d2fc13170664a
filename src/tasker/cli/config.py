"""`tasker config`: the settings that a service started here would have."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import msgspec
from cyclopts import App, Parameter
from msgspec import Struct

from tasker.cli.options import Json, print_found
from tasker.cli.serve import NONE_GIVEN, Flags, with_targets
from tasker.config.loading import Setting, describe_settings, find_given, load_settings, show_value

if TYPE_CHECKING:
    from tasker.config.settings import Settings

app = App(name="config", help="Show the settings, and where each comes from.")


class ShownSetting(Struct, frozen=True):
    """A setting as it is printed. value: as it is written in the environment; None if it has none.

    origin: "flag", "environment", ".env line 3" or "default".
    """

    variable: str
    flag: str | None
    value: str | None
    origin: str


@app.command
def show(
    *targets: str,
    origin: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    json: Json = False,
    flags: Any = NONE_GIVEN,
) -> int:
    """Show every setting that `tasker serve` would have here, with the same flags. Secrets are not shown.

    Parameters
    ----------
    targets
        As for `tasker serve`: files, folders or modules of tasks.
    origin
        Also show where each value comes from: a flag, the environment, a line of .env, or the default.
    """
    given = with_targets(asdict(flags), targets)
    settings, found = load_settings(**given), find_given(**given)
    shown = [
        ShownSetting(
            setting.variable,
            setting.flag,
            _value_of(settings, setting),
            found[setting.variable].place if setting.variable in found else "default",
        )
        for setting in describe_settings()
    ]
    header = ["SETTING", "VALUE", *(["ORIGIN"] if origin else [])]

    def row(one: ShownSetting) -> list[str]:
        return [one.variable, one.value or "", *([one.origin] if origin else [])]

    return print_found(shown, header, row, json=json, empty="")


show.__annotations__["flags"] = Annotated[Flags, Parameter(name="*")]


def _value_of(settings: Settings, setting: Setting) -> str | None:
    value: Any = settings
    for name in setting.path:
        value = getattr(value, name)
    if value is None:
        return None
    if hasattr(value, "get_secret_value"):
        return _hide(value.get_secret_value())
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    text = show_value(value)
    return _hide(text) if "@" in text and "://" in text else text


def _hide(secret: str) -> str:
    """Return what may be shown of a secret: of a URL all but its password and its query, of others their length."""
    url = urlsplit(secret)
    if url.scheme and url.hostname:
        user = f"{url.username}:***@" if url.username else ""
        return f"{url.scheme}://{user}{url.hostname}{f':{url.port}' if url.port else ''}{url.path}"
    return f"*** ({len(secret)} characters)"
