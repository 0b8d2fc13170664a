"""The same service without its store: `python -m bench.null_app PORT FOLDER [--idle]`.

Everything but the engine is what `tasker serve` runs. With --idle tasks are accepted and never run.
"""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import uvloop

from bench.noop import __file__ as noop_file
from bench.null_engine import NullEngine, open_null
from tasker.cli.ports import claim as claim_port
from tasker.clock import Clock
from tasker.config.loading import load_settings
from tasker.logs.setup import configure_logs
from tasker.wiring import app as wiring


def main(port: int, folder: Path, *, idle: bool) -> int:
    """Serve until SIGTERM."""

    def engine(_path: Path, clock: Clock, **_: Any) -> AbstractAsyncContextManager[NullEngine]:
        return open_null(clock, runs=not idle)

    vars(wiring)["open_sqlite"] = engine  # the only change to the wiring
    settings = load_settings(port=str(port), data_dir=str(folder), tasks=str(noop_file))
    configure_logs(settings.log_level, settings.log_format)
    claim = claim_port(settings.host, settings.port)
    assert claim is not None, f"port {settings.port} is taken"
    with claim:
        return uvloop.run(wiring.serve(settings, claim.socket, started=_nothing))


async def _nothing(_: wiring.App) -> None:
    """Print no banner."""


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2]), idle="--idle" in sys.argv))
