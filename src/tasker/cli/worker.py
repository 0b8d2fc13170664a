"""`tasker worker`: run tasks, and serve only probes."""

from dataclasses import asdict
from functools import partial
from socket import socket
from typing import Annotated, Any

from cyclopts import Parameter

from tasker.cli.serve import NONE_GIVEN, Flags, prepare, run_claimed, with_targets
from tasker.config.loading import load_settings
from tasker.config.settings import Settings
from tasker.errors import ConfigError


def worker(*targets: str, flags: Any = NONE_GIVEN) -> int:
    """Run tasks from TASKER_DATABASE_URL until it is stopped (Ctrl-C, SIGTERM).

    With --port it answers /livez, /readyz and /metrics there, for probes. `tasker worker ls` lists the workers of a
    service; run a file of that name as ./ls.

    Parameters
    ----------
    targets
        Where your own task functions are: files (mytasks.py), folders or modules (package.module).
    """
    # worker: this process is one, whatever .env says
    settings = load_settings(**with_targets(asdict(flags), targets), worker="true")
    if settings.database_url is None:
        raise ConfigError(
            "TASKER_DATABASE_URL: expected a PostgreSQL database, got none: a worker by itself shares one with"
            f" `tasker serve`. Without it `tasker serve` runs the tasks in {settings.database_file} itself"
        )
    return _run(settings, None) if flags.port is None else run_claimed(settings, _run)


worker.__annotations__["flags"] = Annotated[Flags, Parameter(name="*")]


def _run(settings: Settings, probes: socket | None) -> int:
    from tasker.cli.banner import print_worker_banner
    from tasker.wiring import app as wiring
    from tasker.wiring import shutdown

    prepare(settings)
    banner = partial(print_worker_banner, has_probes=probes is not None)
    return shutdown.run(wiring.work(settings, probes, started=banner))
