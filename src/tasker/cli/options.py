"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar

from cyclopts import Parameter
from cyclopts.validators import Number

from tasker.cli.exits import Exit

if TYPE_CHECKING:
    from tasker.client import AsyncTasker, Tasker

T = TypeVar("T")
Url = Annotated[
    str | None, Parameter(help="Where the service is; else TASKER_URL, else this machine at TASKER_PORT or 5000.")
]
ProfileName = Annotated[
    str | None,
    Parameter(name="--profile", help="The service of this name in your config.toml; else TASKER_PROFILE."),
]
Json = Annotated[bool, Parameter(negative="", show_default=False, help="Print JSON.")]
Timeout = Annotated[
    float | None, Parameter(help="Stop waiting after this many seconds (exit code 124).", validator=Number(gte=0))
]
Quiet = Annotated[
    bool,
    Parameter(alias="-q", negative="", show_default=False, help="Print the result alone: no text as it is written."),
]
Logs = Annotated[bool, Parameter(negative="", show_default=False, help="Show what the task logs, as it comes.")]
Detach = Annotated[
    bool, Parameter(alias="-d", negative="", show_default=False, help="Do not wait: print the task's id.")
]
DataDir = Annotated[
    str | None,
    Parameter(show_default=False, help="Folder that holds the tasks, also where TASKER_DATABASE_URL is set."),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Service:
    """The options that say which service a command uses."""

    url: Url = None
    profile: ProfileName = None

    def connect(self) -> Tasker:
        """Return a client of the service. Raises UsageError, ConfigError."""
        from tasker.cli.service import connect

        return connect(self.url, self.profile)

    def connect_async(self) -> AsyncTasker:
        """Return a client for coroutines. Raises UsageError, ConfigError."""
        from tasker.cli.service import connect_async

        return connect_async(self.url, self.profile)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Output(Service):
    """The options of commands that show something of a service."""

    json: Json = False


DEFAULT_SERVICE = Service()
DEFAULT_OUTPUT = Output()


def print_found(
    found: Sequence[T], header: Sequence[str], row: Callable[[T], Sequence[str]], *, json: bool, empty: str
) -> int:
    """Print what a command has found: as JSON, as a table with a row for each, or else note that it is `empty`."""
    from tasker.cli.service import to_json
    from tasker.cli.terminal import note, print_table, show

    if json:
        show(to_json(found))
    elif found:
        print_table(header, [row(one) for one in found])
    else:
        note(empty)
    return Exit.OK
