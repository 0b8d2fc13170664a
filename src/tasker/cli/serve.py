"""`tasker serve`: load the settings, claim the port, run the service and print where it is."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, field, make_dataclass
from socket import socket
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from tasker.cli.exits import Exit
from tasker.config.loading import Setting, describe_settings, load_settings
from tasker.config.settings import SECRET_VARIABLES, Settings

if TYPE_CHECKING:
    from tasker.cli.ports import Claim

_GROUP = Group(
    "Settings", help="Each wins over the variable of the same name (TASKER_PORT...), which wins over `.env`."
)


def _flag(setting: Setting) -> tuple[str, Any, Any]:
    default = f" [{setting.default}]" if setting.default else ""
    help = f"{setting.description}.{default}"
    name = "_".join(setting.path)
    annotation = Annotated[str | None, Parameter(name=setting.flag, help=help, group=_GROUP, show_default=False)]
    return name, annotation, field(default=None)


Flags = make_dataclass(
    "Flags",
    [_flag(setting) for setting in describe_settings() if setting.flag],
    namespace={"__module__": __name__},  # without it the parser treats the class as a built-in one, without fields
)


NONE_GIVEN = Flags()


def serve(
    *targets: str,
    no_worker: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    flags: Any = NONE_GIVEN,
) -> int:
    """Run the service until it is stopped (Ctrl-C, SIGTERM).

    Tokens and keys have no flag, because others could read them in the list of processes: set TASKER_TOKEN and
    OPENAI_API_KEY in the environment or in `.env`.

    Parameters
    ----------
    targets
        Where your own task functions are: files (mytasks.py), folders or modules (package.module).
    no_worker
        Serve only the API, and leave the tasks to `tasker worker` processes on the same TASKER_DATABASE_URL.
    """
    given = with_targets(asdict(flags), targets)
    if no_worker:
        given["worker"] = "false"
    return run_claimed(load_settings(**given), _run)


def with_targets(given: dict[str, Any], targets: Sequence[str]) -> dict[str, Any]:
    """Return the flags, with the targets of the command line before those of --tasks."""
    return given | {"tasks": ",".join([*targets, *filter(None, [given.get("tasks")])])} if targets else given


serve.__annotations__["flags"] = Annotated[Flags, Parameter(name="*")]  # made from the table of settings


def run_claimed(settings: Settings, run: Callable[[Settings, socket], int]) -> int:
    """Run a server on a port of its own, and return its exit code. If the port is taken, offer another one.

    run: called with the settings, which have the real address and port, and a socket that is bound to them.
    """
    from tasker.errors import PortTaken

    while (claimed := _claim(settings)) is not None:
        settled, claim = claimed
        with claim:
            try:
                return run(settled, claim.socket)
            except PortTaken:  # another program began to listen while the service started
                settings = settled
    return Exit.CONFLICT


def _claim(settings: Settings) -> "tuple[Settings, Claim] | None":
    """Claim the settings' port, or another that the user agrees to; return None if the user does not."""
    from tasker.cli import ports, terminal

    settings = Settings.model_validate(settings.model_dump() | {"host": ports.resolve(settings.host)})
    claim = ports.claim(settings.host, settings.port)
    if claim is None:
        terminal.note(f"Port {settings.port} is taken{ports.describe_holder(settings.port)}.")
        claim = ports.claim_after(settings.host, settings.port)  # held while we ask, so that it stays free
        if not terminal.confirm(f"Use port {claim.port} instead?"):
            terminal.note(f"Free it, or use another: {_command_with_port(sys.argv[1:], claim.port)}")
            claim.close()
            return None
    return settings.model_copy(update={"port": claim.port}), claim


def _command_with_port(arguments: Sequence[str], port: int) -> str:
    """Return the given command line with another port."""
    from shlex import join

    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--port":
            next(rest, None)
        elif not argument.startswith("--port="):
            kept.append(argument)
    return join(["tasker", *kept, "--port", str(port)])


def prepare(settings: Settings) -> None:
    """Hide the secrets of the environment, and set up the log."""
    from tasker.config.environment import take_out
    from tasker.logs.redaction import redact_prints
    from tasker.logs.setup import configure_logs

    take_out(SECRET_VARIABLES)
    configure_logs(settings.log_level, settings.log_format)
    redact_prints()


def _run(settings: Settings, socket: socket) -> int:
    from tasker.cli.banner import print_banner
    from tasker.wiring import app as wiring
    from tasker.wiring import shutdown

    prepare(settings)
    return shutdown.run(wiring.serve(settings, socket, started=print_banner))
