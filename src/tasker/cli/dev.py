"""`tasker dev`: serve, and load the code of tasks again when it changes."""

from dataclasses import asdict
from functools import partial
from socket import socket
from typing import Annotated, Any

from cyclopts import Parameter

from tasker.cli.serve import NONE_GIVEN, Flags, run_claimed, with_targets
from tasker.config.loading import load_settings
from tasker.config.settings import Settings
from tasker.tasktypes.loading import find_sources

_LOCAL = "127.0.0.1"


def dev(
    *targets: str,
    in_process: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    flags: Any = NONE_GIVEN,
) -> int:
    """Run the service while you write tasks: it loads your code again when a file of it changes.

    Tasks are kept: one that runs gets a second to end (--drain), else it is given back and runs again, with the new
    code; requests wait meanwhile. Code that cannot be loaded is shown with its file and line, and the code from before
    goes on. It listens on this machine alone, unless --host says otherwise, and logs as text.

    Parameters
    ----------
    targets
        Where your own task functions are: files (mytasks.py), folders or modules (package.module).
    in_process
        Run `def` tasks in the service's own process, so that breakpoint() opens the debugger on this terminal.
    """
    from tasker.cli.developing.service import dev_defaults

    given = with_targets(asdict(flags), targets)
    given["host"] = given["host"] or _LOCAL  # TASKER_HOST of .env is that of a server
    settings = load_settings(dev_defaults(given["host"]), **given)
    for target in settings.tasks:
        find_sources(target)  # what is not there is refused at once, as by `tasker serve`
    return run_claimed(settings, partial(_run, given=given, in_process=in_process))


dev.__annotations__["flags"] = Annotated[Flags, Parameter(name="*")]


def _run(settings: Settings, bound: socket, *, given: dict[str, Any], in_process: bool) -> int:
    import asyncio

    from tasker.cli.developing.messages import Order
    from tasker.cli.developing.supervisor import Supervisor

    order = Order(given | {"port": str(settings.port)}, settings.host, settings.port, True, in_process)

    async def supervise() -> int:
        return await Supervisor(bound, order, settings.tasks).run()

    return asyncio.run(supervise())
