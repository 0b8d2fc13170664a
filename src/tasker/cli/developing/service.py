"""The serving process of `tasker dev`: `python -m tasker.cli.developing.service SOCKET CONTROL` (two descriptors).

It loads the users' code, says what it found, and waits until it may serve: by then the process before has ended, which
had the database. So the code is checked in a fresh process, and the gap in which nobody answers stays short.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import inspect
import os
import signal
import socket
import sys
from typing import BinaryIO

import msgspec

from tasker.cli.developing import breakpoints
from tasker.cli.developing.messages import Fault, Loaded, Order, Refused, Started, encode, read_order
from tasker.config.loading import load_settings
from tasker.config.settings import Settings, is_loopback
from tasker.errors import TaskerError
from tasker.tasktypes.published import publish
from tasker.tasktypes.registry import TaskType, load, load_entry_points
from tasker.tasktypes.sources import is_own, record_modules

DRAIN = "1"
"""Seconds that running tasks get to end before a reload, unless the settings say otherwise."""


def main(arguments: list[str]) -> int:
    for number in (signal.SIGINT, signal.SIGHUP):  # of the terminal: the supervisor has them too, and decides
        signal.signal(number, signal.SIG_IGN)
    bound, control = (socket.socket(fileno=int(number)) for number in arguments)
    # before the order: a spare process waits with all of Tasker loaded, so that a reload loads the users' code alone
    importlib.import_module("tasker.wiring.app")
    with control.makefile("rb") as lines:
        first = lines.readline()
        if not first:
            return 0
        order = read_order(first)
        try:
            settings = settings_of(order)
            loaded = _load(settings)
        except TaskerError as error:
            control.sendall(encode(Refused(str(error))) + b"\n")
            return 2
        control.sendall(encode(loaded) + b"\n")
        return _serve(settings, bound, control, order) if _may_go(lines) else 0


def settings_of(order: Order) -> Settings:
    """Return the settings of `tasker dev`, for the address that the supervisor holds. Raises ConfigError."""
    settings = load_settings(dev_defaults(order.host), **order.flags | {"host": order.host})
    return settings.model_copy(update={"port": order.port, "in_process": order.in_process})


def dev_defaults(host: str) -> dict[str, str]:
    """Return what `tasker dev` sets where neither flags nor variables do. host: what it listens on."""
    local = {"webhook_insecure": "on"} if is_loopback(host) else {}
    return {"drain": DRAIN, "log_format": "text"} | local


def _may_go(lines: BinaryIO) -> bool:
    """Wait for the supervisor's word; tell whether it came, or the supervisor has ended."""
    return bool(lines.readline())


def _load(settings: Settings) -> Loaded:
    """Load the task types. Raises NoSuchTarget."""
    from tasker.builtin import builtin_registry
    from tasker.cli.serve import prepare

    prepare(settings)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # of child processes
    breakpoints.install(in_process=settings.in_process)
    recorded = record_modules(settings.tasks)
    registry = builtin_registry(settings.gpt)
    load(registry, settings.tasks)
    load_entry_points(registry)
    return Loaded(
        types={one.name: _digest_of(one) for one in registry if is_own(one.source)},
        files={os.path.abspath(file): digest(source) for file, source in recorded.files.items()},
        faults=tuple(Fault(fault.target, fault.detail) for fault in registry.faults),
        drain=settings.drain.total_seconds(),
    )


def digest(source: bytes) -> str:
    """Return a digest of a file's content."""
    return hashlib.sha256(source).hexdigest()


def _digest_of(task_type: TaskType) -> str:
    try:
        text = inspect.getsource(inspect.unwrap(task_type.function))
    except (OSError, TypeError):  # made at run time
        text = ""
    return digest(text.encode("utf-8", "replace") + msgspec.json.encode(publish(task_type)))


def _serve(settings: Settings, bound: socket.socket, control: socket.socket, order: Order) -> int:
    from tasker.cli.banner import print_banner
    from tasker.cli.faults import explain
    from tasker.wiring import app as wiring
    from tasker.wiring import shutdown

    async def started(app: wiring.App) -> None:
        if order.is_first:
            await print_banner(app)
        control.sendall(encode(Started()) + b"\n")
        asyncio.get_running_loop().add_reader(control, _follow_supervisor, control)

    try:
        shutdown.run(wiring.serve(settings, bound, started=started, hands_over=True))
    except TaskerError as error:
        return explain(error)


def _follow_supervisor(control: socket.socket) -> None:
    """End as by a signal when the supervisor has ended, even if it was killed."""
    asyncio.get_running_loop().remove_reader(control)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
