"""The banner of `tasker serve` and `tasker worker`: address, task types, stored tasks, who may call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import tasker.builtin
from tasker.builtin.gpt import task as gpt
from tasker.cli.terminal import note
from tasker.config.settings import Settings, is_loopback
from tasker.model import PartitionStats
from tasker.release import release
from tasker.tasktypes.registry import Registry, TaskType
from tasker.wiring.app import App

_STOP = "stop: Ctrl-C; a second Ctrl-C stops at once"
_BUILTIN = Path(tasker.builtin.__file__).resolve().parent


async def print_banner(app: App) -> None:
    """Print the banner of a service that has just become ready."""
    note(describe(app.settings, app.registry, await app.service.queues.stats(), keys=app.service.keys.are_used))


def describe(settings: Settings, registry: Registry, stats: Sequence[PartitionStats], *, keys: bool = False) -> str:
    """Return the banner's text. keys: whether the store has any."""
    url = settings_url(settings)
    lines = [
        f"tasks: {_tasks(registry)}{_who_runs_them(settings)}",
        *_not_loaded(registry),
        gpt.describe(settings.gpt),
        f"data: {describe_store(settings)} ({_count_open(stats)})",
        f"access: {_access(settings, keys=keys)}",
        _STOP,
    ]
    return "\n  ".join([f"Tasker {release()} runs at {url} (try it at {url}/docs)", *lines])


async def print_worker_banner(app: App, *, has_probes: bool) -> None:
    """Print the banner of a worker that has just started. has_probes: whether it answers on the settings' port."""
    queues = ", ".join(app.settings.queues) or "every queue"
    lines = [
        f"tasks: {_tasks(app.registry)}",
        *_not_loaded(app.registry),
        f"data: {describe_store(app.settings)} ({_count_open(await app.service.queues.stats())})",
        *([f"probes: {settings_url(app.settings)}/readyz"] if has_probes else []),
        _STOP,
    ]
    name = "" if app.worker is None else f" {app.worker.worker_id}"
    note("\n  ".join([f"Tasker {release()} worker{name} takes tasks of {queues}", *lines]))


def describe_store(settings: Settings) -> str:
    """Return where the tasks are stored, without a password."""
    if settings.database_url is None:
        return str(settings.database_file.absolute())
    url = urlsplit(settings.database_url.get_secret_value())
    return f"PostgreSQL{url.path} at {url.hostname or 'the default host'}"


def settings_url(settings: Settings) -> str:
    """Return the URL of the service for this machine."""
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::", "[::]"} else settings.host  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{settings.port}"


def _who_runs_them(settings: Settings) -> str:
    return "" if settings.worker else ", run by `tasker worker` processes"


def _tasks(registry: Registry) -> str:
    return "; ".join(f"{', '.join(names)} ({where})" for where, names in _by_place(registry).items()) or "none"


def _not_loaded(registry: Registry) -> list[str]:
    return [f"NOT LOADED: {fault.detail}" for fault in registry.faults]


def _by_place(registry: Iterable[TaskType]) -> dict[str, list[str]]:
    places: dict[str, list[str]] = {}
    for task_type in registry:
        file = task_type.source.rpartition(":")[0]
        place = "built in" if Path(file).resolve().is_relative_to(_BUILTIN) else _short(file)
        places.setdefault(place, []).append(task_type.name)
    return places


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _count_open(stats: Sequence[PartitionStats]) -> str:
    counts = {name: sum(getattr(one, name) for one in stats) for name in ("pending", "scheduled", "running")}
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "no open tasks"


def _access(settings: Settings, *, keys: bool) -> str:
    if settings.token is not None:
        return "with a key, or the token of TASKER_TOKEN" if keys else "with the token of TASKER_TOKEN"
    if settings.auth == "on" or (keys and settings.auth == "auto"):
        return "with a key of `tasker key create`" + ("" if keys else ", but there is none yet")
    if is_loopback(settings.host):
        return "from this machine only, without a key"
    return "for everyone who can reach it, without a key (TASKER_AUTH=off)"
