"""`tasker migrate`: bring the store up to date, before the processes of a new version start."""

from typing import Annotated

from cyclopts import Parameter

from tasker.cli.exits import Exit
from tasker.cli.terminal import show
from tasker.config.loading import load_settings


def migrate(*, data_dir: Annotated[str | None, Parameter(show_default=False)] = None) -> int:
    """Bring the store up to date and print what was done; every start does the same by itself.

    Processes of the previous version go on meanwhile. Useful where the services may not change the schema: run it once
    with a role that may.

    Parameters
    ----------
    data_dir
        Folder that holds the tasks, where TASKER_DATABASE_URL is not set.
    """
    import asyncio

    from tasker.logs.setup import configure_logs
    from tasker.wiring import app as wiring

    settings = load_settings(data_dir=data_dir)
    configure_logs(settings.log_level, settings.log_format)
    done = asyncio.run(wiring.migrate(settings))
    show("\n".join(done) if done else "up to date")
    return Exit.OK
