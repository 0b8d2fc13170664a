"""Print the OpenAPI document of a service with the built-in task types; nothing is started."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tasker.api.app import make_operations
from tasker.api.openapi import make_document
from tasker.builtin import builtin_registry
from tasker.clock import SystemClock
from tasker.config.settings import GptSettings, Settings
from tasker.engines.sqlite import open_sqlite
from tasker.metrics import Metrics
from tasker.service import Service
from tasker.service.hub import Hub


async def main() -> None:
    clock, registry = SystemClock(), builtin_registry(GptSettings())
    with tempfile.TemporaryDirectory() as folder:
        async with open_sqlite(Path(folder) / "tasker.db", clock) as engine:
            service = Service(engine, registry, Hub(), clock, health=lambda _: {})
            operations = make_operations(service, Metrics(), clock, Settings())
            sys.stdout.write(make_document(operations, registry).decode())


if __name__ == "__main__":
    asyncio.run(main())
