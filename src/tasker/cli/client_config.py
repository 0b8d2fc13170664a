"""The file of profiles: which services a person uses, and with which tokens. No command imports this without need.

It is `~/.config/tasker/config.toml` (or `tasker/config.toml` in XDG_CONFIG_HOME):

    default_profile = "prod"

    [profile.prod]
    url = "https://tasker.example.org"
    token = "..."
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasker.cli.terminal import note
from tasker.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_DEFAULT = re.compile(r"^default_profile\s*=.*$\n?", re.MULTILINE)
_MEMBERS = {"url", "token"}
_OF_OTHERS = 0o077
"""Permission bits of everybody but the owner of a file."""


@dataclass(frozen=True)
class Profile:
    """A service under a name of one's own. The token is sent to this URL only."""

    name: str
    url: str
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ClientConfig:
    """What the file says. default: the profile that is used if nothing names a service."""

    file: Path
    profiles: Mapping[str, Profile]
    default: str | None = None

    def get(self, name: str, origin: str) -> Profile:
        """Return the profile of that name. origin: what named it, for the message. Raises ConfigError."""
        found = self.profiles.get(name)
        if found is None:
            known = ", ".join(sorted(self.profiles)) or "none"
            raise ConfigError(f"{origin}: there is no profile {name!r} in {self.file}; there is: {known}")
        return found


def config_file() -> Path:
    """Return where the file is, or would be."""
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(folder) / "tasker" / "config.toml"


def read_client_config(file: Path | None = None) -> ClientConfig:
    """Return what the file says; without a file, no profiles. Raises ConfigError.

    Notes on standard error if others may read the tokens in it.
    """
    file = file or config_file()
    if not os.path.exists(file):  # nearly always: without the import of a reader
        return ClientConfig(file, {})
    import tomllib

    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        mode = file.stat().st_mode
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: expected a readable file in TOML, got: {error}") from None
    config = _read(file, content)
    if mode & _OF_OTHERS and any(profile.token for profile in config.profiles.values()):
        note(f"tasker: others may read the tokens in {file}: chmod 600 {file}")
    return config


def add_profile(config: ClientConfig, profile: Profile) -> None:
    """Add a profile to the file, which is made with rights for its owner only. Raises ConfigError."""
    if not _NAME.fullmatch(profile.name):
        raise ConfigError(f"NAME: expected letters, digits, _ and -, got {profile.name!r}")
    if profile.name in config.profiles:
        raise ConfigError(f"there is a profile {profile.name!r} already: change it in {config.file}")
    members = {"url": profile.url, "token": profile.token}
    lines = [f"{name} = {json.dumps(value)}" for name, value in members.items() if value is not None]
    text = _text(config.file)
    begin = f"{text.rstrip()}\n\n" if text.strip() else ""
    _write(config.file, begin + "\n".join([f"[profile.{profile.name}]", *lines, ""]))


def use_profile(config: ClientConfig, name: str) -> None:
    """Make a profile the default one, and leave the rest of the file as it is. Raises ConfigError."""
    config.get(name, "NAME")
    text = _text(config.file)
    tables = re.search(r"^\s*\[", text, re.MULTILINE)
    begin = text if tables is None else text[: tables.start()]  # only there a name belongs to no table
    _write(config.file, f'default_profile = "{name}"\n' + _DEFAULT.sub("", begin) + text[len(begin) :])


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


def _write(file: Path, text: str) -> None:
    """Replace the file at once, readable by its owner only. Raises ConfigError."""
    fresh = file.with_suffix(".new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh.unlink(missing_ok=True)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as new:
            new.write(text)
        fresh.replace(file)
    except OSError as error:
        raise ConfigError(f"{file}: cannot write it: {error.strerror}") from None


def _read(file: Path, content: Mapping[str, Any]) -> ClientConfig:
    unknown = sorted(set(content) - {"default_profile", "profile"})
    if unknown:
        raise ConfigError(f"{file}: expected default_profile and [profile.NAME], got {unknown[0]!r}")
    tables, default = content.get("profile", {}), content.get("default_profile")
    if not isinstance(tables, dict) or not (default is None or isinstance(default, str)):
        raise ConfigError(f'{file}: expected [profile.NAME] and default_profile = "NAME"')
    return ClientConfig(file, {name: _profile(file, name, table) for name, table in tables.items()}, default)


def _profile(file: Path, name: str, table: Any) -> Profile:
    if not isinstance(table, dict) or not set(table) <= _MEMBERS or "url" not in table:
        raise ConfigError(f"{file}: [profile.{name}]: expected url, and a token if the service asks for one")
    if not all(isinstance(value, str) for value in table.values()):
        raise ConfigError(f"{file}: [profile.{name}]: expected texts for url and token")
    return Profile(name, table["url"], table.get("token"))
