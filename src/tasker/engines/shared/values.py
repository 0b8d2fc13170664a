"""JSON columns of tasks, and sizes."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from tasker.model import Claim, Extra, Policy, Progress, TaskProblem
from tasker.model.queues import Pause, Rate

CLAIM_FIELDS = Claim.__struct_fields__[:-2]
"""The fields of a Claim that are columns of its task, in order: all but `secrets` and `has_steps`."""
encode = msgspec.json.Encoder().encode
PAGE_BYTES = 1 << 20
"""Maximum size of the tasks of schedules on one page of a list; a larger item is alone on its page."""
NULL = b"null"
DUE_BYTES = 16 << 20
"""Maximum size of the tasks of schedules that are read together to be fired; a larger one is read alone."""
NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""The due time of a task that waits for others."""
decode_problem = msgspec.json.Decoder(TaskProblem).decode
decode_progress = msgspec.json.Decoder(Progress).decode
decode_rate = msgspec.json.Decoder(Rate).decode
decode_pause = msgspec.json.Decoder(Pause).decode
_decode_extra = msgspec.json.Decoder(Extra).decode
decode_policy = lru_cache(maxsize=1000)(msgspec.json.Decoder(Policy).decode)  # tasks of a type share one text


def encode_problem(error: TaskProblem | None) -> bytes | None:
    """Return the column `error` of a task or an attempt."""
    return None if error is None else encode(error)


def read_extra(text: bytes) -> dict[str, Any]:
    """Return the options in a task's column `extra`, by their names in a Task."""
    return _decode_extra(text).shown()


def preview_of(begin: bytes | None) -> str | None:
    """Return the text of the first bytes of a JSON text; a character that is cut off is left out."""
    return None if begin is None else begin.decode(errors="ignore")
