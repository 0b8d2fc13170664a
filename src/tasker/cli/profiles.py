"""`tasker profile`: names for the services that a person uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from tasker.cli.exits import Exit
from tasker.cli.options import Json

if TYPE_CHECKING:
    from tasker.cli.client_config import ClientConfig, Profile
    from tasker.client import Tasker

Name = Annotated[str, Parameter(help="The name of the profile.")]

app = App(name="profile", help="Name the services that you use (tasker ls --profile NAME).")


@app.command
def ls(*, json: Json = False) -> int:
    """List the profiles; tokens are not shown."""
    from tasker.cli.client_config import read_client_config
    from tasker.cli.service import to_json
    from tasker.cli.terminal import note, print_table, show

    config = read_client_config()
    if json:
        show(to_json([_fields(config, profile) for profile in config.profiles.values()]))
    elif config.profiles:
        print_table(("PROFILE", "URL", "TOKEN", "USE"), [_row(config, one) for one in config.profiles.values()])
    else:
        note(f"No profiles in {config.file}: make one with `tasker profile add`.")
    return Exit.OK


@app.command
def add(
    name: Name,
    url: Annotated[str, Parameter(help="Where the service is.")],
    /,
    *,
    token: Annotated[
        str | None,
        Parameter(help="A file with the token (@file), or - to read it from standard input."),
    ] = None,
) -> int:
    """Add a profile to your config.toml, which only you can read."""
    from tasker.cli.client_config import Profile, add_profile, read_client_config
    from tasker.cli.terminal import note
    from tasker.client import Tasker

    read = None if token is None else _read_token(token)
    _check_url(url, Tasker)
    config = read_client_config()
    add_profile(config, Profile(name, url, read))
    note(f"Profile {name} is in {config.file}. Use it with --profile {name}, or always: tasker profile use {name}")
    return Exit.OK


@app.command
def use(name: Name, /) -> int:
    """Use a profile wherever no option, variable or .env names a service."""
    from tasker.cli.client_config import read_client_config, use_profile
    from tasker.cli.terminal import note

    config = read_client_config()
    use_profile(config, name)
    note(f"Profile {name} ({config.profiles[name].url}) is the default one.")
    return Exit.OK


def _check_url(url: str, client: type[Tasker]) -> None:
    """Raise UsageError unless a client takes the URL."""
    from tasker.cli.params import UsageError

    try:
        client(url).close()
    except ValueError as error:
        raise UsageError(f"URL: {error}") from error


def _read_token(source: str) -> str:
    """Return the token that a source holds: not from the command line, which others see. Raises UsageError."""
    from tasker.cli.params import UsageError, is_source, read_source

    if not is_source(source):
        raise UsageError("--token: expected @file or -; on the command line other users of this machine could see it")
    token = read_source(source).strip()
    if not (token and token.isascii() and token.isprintable()):
        raise UsageError("--token: expected one line of visible ASCII characters (what was read is not shown)")
    return token


def _row(config: ClientConfig, profile: Profile) -> tuple[str, ...]:
    return (
        profile.name,
        profile.url,
        "yes" if profile.token else "no",
        "default" if _is_default(config, profile) else "",
    )


def _fields(config: ClientConfig, profile: Profile) -> dict[str, object]:
    has_token, default = profile.token is not None, _is_default(config, profile)
    return {"name": profile.name, "url": profile.url, "has_token": has_token, "default": default}


def _is_default(config: ClientConfig, profile: Profile) -> bool:
    return config.default == profile.name
