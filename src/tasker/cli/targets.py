"""Which service a command uses, and with which token.

An option comes first, then the environment, then `.env`, then the default profile of config.toml, then this machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasker.cli.client_config import Profile, read_client_config
from tasker.cli.params import UsageError
from tasker.client import DEFAULT_URL

_TOKEN = "TASKER_TOKEN"  # noqa: S105  the name of the variable


@dataclass(frozen=True)
class Target:
    """A service and the token for it; the origins name what gave them, for messages."""

    url: str
    token: str | None = field(default=None, repr=False)
    origin: str = ""
    token_origin: str = _TOKEN


def find_target(url: str | None = None, profile: str | None = None) -> Target:
    """Return the service at `url` or of a profile, else the one that the surroundings name, else that of this machine.

    Like the service, it takes TASKER_URL, TASKER_TOKEN and TASKER_PORT from the environment or from `.env`. There
    TASKER_PROFILE may name a profile. A profile's token goes only to its own URL; a token of `.env` to none.
    Raises UsageError, ConfigError.
    """
    if url and profile:
        raise UsageError("give --url or --profile, and not both")
    if profile:
        return _of_profile("--profile", profile)
    environment = {name: value for name, value in os.environ.items() if value}
    dotenv = _read_dotenv()
    if url:
        return Target(url, ({**dotenv, **environment}).get(_TOKEN), "--url")
    if "TASKER_PROFILE" in environment and not _names_service(environment):
        return _of_profile("TASKER_PROFILE", environment["TASKER_PROFILE"])
    if _names_service({**dotenv, **environment}):
        return _of_variables({**dotenv, **environment})
    return _of_file(dotenv, environment)


def _of_variables(variables: Mapping[str, str]) -> Target:
    token = variables.get(_TOKEN)
    if "TASKER_URL" in variables:
        return Target(variables["TASKER_URL"], token, "TASKER_URL")
    return Target(f"http://127.0.0.1:{variables['TASKER_PORT']}", token, "TASKER_PORT")


def _of_file(dotenv: Mapping[str, str], environment: Mapping[str, str]) -> Target:
    """Return the profile of `.env`, or the default one; a token in `.env` is that of this machine's service."""
    if "TASKER_PROFILE" in dotenv:
        return _of_profile("TASKER_PROFILE", dotenv["TASKER_PROFILE"])
    default = None if _TOKEN in dotenv else read_client_config().default
    if default is not None:
        return _of_profile("default_profile", default)
    return Target(DEFAULT_URL, ({**dotenv, **environment}).get(_TOKEN))


def _of_profile(origin: str, name: str) -> Target:
    """Return the target of a profile; the environment's token comes before the profile's, unless an option named it."""
    profile: Profile = read_client_config().get(name, origin)
    given = os.environ.get(_TOKEN) or None
    is_own = profile.token is not None and (origin == "--profile" or given is None)
    token, token_origin = (profile.token, f"profile {name}: token") if is_own else (given, _TOKEN)
    return Target(profile.url, token, f"profile {name}", token_origin)


def _names_service(variables: Mapping[str, str]) -> bool:
    return "TASKER_URL" in variables or "TASKER_PORT" in variables


def _read_dotenv() -> dict[str, str]:
    if not os.path.exists(".env"):
        return {}
    from tasker.config.dotenv import read_dotenv

    return {name: value for name, value in read_dotenv(Path(".env")).items() if value}
