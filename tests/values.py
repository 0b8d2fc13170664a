"""What tests of params have in common."""

from __future__ import annotations

from typing import Any

import msgspec

from tasker.tasktypes.registry import TaskType


def bind(task_type: TaskType, params: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of the function for params as Python has them."""
    return task_type.bind(msgspec.json.encode(params))
