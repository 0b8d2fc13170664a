"""The task types that ship with Tasker: `sum`, `reverse` and `gpt`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from tasker.model import Retention
from tasker.tasktypes.registry import Registry

if TYPE_CHECKING:  # slow to import, and child processes that run users' functions do not need it
    from tasker.config.settings import GptSettings


def builtin_registry(
    gpt: GptSettings | None,
    *,
    default_timeout: timedelta = timedelta(seconds=300),
    default_retention: Retention = timedelta(days=30),
) -> Registry:
    """Return a registry of `sum`, `reverse` and, if its settings are given, `gpt`."""
    from tasker.builtin.reverse import reverse
    from tasker.builtin.sum import sum as sum_

    registry = Registry(default_timeout=default_timeout, default_retention=default_retention)
    registry.add(sum_)
    registry.add(reverse)
    if gpt is not None:
        from tasker.builtin.gpt.task import make_gpt

        registry.add(make_gpt(gpt))
    return registry
