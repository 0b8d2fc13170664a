"""Values that steps have stored, as the code expects them now."""

from __future__ import annotations

from typing import Any

from tasker.errors import StepChanged
from tasker.model.steps import Step
from tasker.tasktypes.codecs import Codec


def value_of(step: Step) -> bytes | None:
    """Return the value of a step as its function made it, secrets included."""
    return step.value if step.secret_value is None else step.secret_value


def read_stored(key: str, codec: Codec, value: bytes | None) -> Any:
    """Return a stored value as the type that the code expects now. Raises StepChanged."""
    try:
        return codec.decode(b"null" if value is None else value)
    except ValueError as error:
        raise StepChanged(key, f"its stored value does not fit the code: {error}"[:1000]) from None
