"""The programs and packages that the measures need besides Tasker: checked before any measure."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec

from tests.postgres import find_binaries


@dataclass(frozen=True)
class Need:
    """A program or a package of a peer, and how to install it."""

    name: str
    install: str
    is_there: Callable[[], bool]


def _package(module: str, extra: str) -> Need:
    return Need(f"the package {module}", f"pip install -e '.[{extra}]'", lambda: find_spec(module) is not None)


POSTGRESQL = Need("PostgreSQL's server", "apt install postgresql", lambda: find_binaries() is not None)
REDIS = Need(
    "Redis's server", "apt install redis-server", lambda: all(map(shutil.which, ("redis-server", "redis-cli")))
)
_HUEY = tuple(_package(module, "dev") for module in ("flask", "gunicorn", "huey"))
_FASTAPI = tuple(_package(module, "bench") for module in ("fastapi", "uvicorn", "procrastinate"))
_CELERY = tuple(_package(module, "bench") for module in ("celery", "redis"))
_SHARED = (POSTGRESQL, _package("asyncpg", "dev"), _package("pgqueuer", "dev"))

NEEDS: dict[str, tuple[Need, ...]] = {
    "submit": _HUEY,
    "end_to_end": _HUEY,
    "shared_submit": (*_SHARED, *_FASTAPI),
    "shared_end_to_end": (*_SHARED, *_FASTAPI, REDIS, *_CELERY),
    "shared_latency": _SHARED,
    "shared_stats": _SHARED,
    "shared_history": _SHARED,
    "shared_resume": _SHARED,
    "queue_rate": _SHARED,
    "workers_cost": (*_SHARED, *_FASTAPI),
    "workers_curve": (*_SHARED, *_FASTAPI),
    "workers_lone": _SHARED,
    "workers_idle": _SHARED,
    "steps": (*_SHARED, *(_package(module, "bench") for module in ("dbos", "fastapi", "uvicorn"))),
}


def missing(measures: Iterable[str]) -> list[str]:
    """Return a line for each missing thing: its name, the measures that need it, and how to install it."""
    lacking: dict[Need, list[str]] = {}
    for measure in measures:
        for need in NEEDS.get(measure, ()):
            if not need.is_there():
                lacking.setdefault(need, []).append(measure)
    return [f"{need.name} is missing, for {', '.join(names)}: {need.install}" for need, names in lacking.items()]
