"""The usual answer to a submission, made from a template: a new task with nothing but a type and params.

To make a Task and to encode it takes four times as long.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from msgspec import Raw, structs

from tasker.api.receipts import show_task
from tasker.api.replies import encode
from tasker.model import Draft
from tasker.model.keys import ANYBODY
from tasker.service.drafts import as_accepted

_MOST = 1000
"""Templates that are kept: one for each type, queue, priority, number of attempts and owner."""
_ID = uuid4()
"""A placeholder that no client knows, as queues may be named like ids."""
_PARAMS = b"\0"
"""A placeholder that no JSON text contains."""
_TIME = datetime(2000, 1, 1, tzinfo=UTC)

_templates: dict[tuple[Any, ...], bytes] = {}


def is_usual(draft: Draft) -> bool:
    """Return whether a draft has no option that its task shows, but for a queue, a priority and attempts."""
    return (
        draft.run_at is None
        and draft.extra is None
        and not draft.tags
        and draft.metadata == b"{}"
        and draft.deadline is None
        and draft.unique_key is None
        and draft.concurrency_key is None
    )


def encode_usual(draft: Draft, task_id: bytes) -> bytes:
    """Return the task of a usual draft as JSON, as `show_task` does for readers. task_id: the id as text."""
    key = draft.type, draft.queue, draft.priority, draft.max_attempts, draft.owner
    template = _templates.get(key)
    if template is None:
        if len(_templates) >= _MOST:
            _templates.clear()
        template = _templates[key] = _template_of(draft)
    created_at = encode(draft.created_at)
    return template % (task_id, draft.params, created_at, task_id, task_id, task_id, task_id)


def _template_of(draft: Draft) -> bytes:
    task = structs.replace(as_accepted(draft), task_id=_ID, params=Raw(_PARAMS), created_at=_TIME)
    text = show_task(ANYBODY, task).replace(b"%", b"%%")
    text = text.replace(b'"created_at":%b' % encode(_TIME), b'"created_at":%b', 1)
    return text.replace(str(_ID).encode(), b"%b").replace(_PARAMS, b"%b")
