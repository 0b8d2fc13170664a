"""Batches: items that share a commit."""

from __future__ import annotations

from collections import deque
from typing import Protocol, TypeVar

from tasker.model import Draft

MAX_BATCH = 256
"""Items in one commit at most. With COMMIT_BYTES it bounds how long others wait for a batch."""
COMMIT_BYTES = 4 << 20
"""Maximum size of the drafts and results that share a commit; a larger one is alone in it.

Storing takes about a millisecond of the event loop for each MiB; other coroutines run between two commits.
"""


class Sized(Protocol):
    """An item to store. size: its bytes; 0 if small."""

    @property
    def size(self) -> int: ...


I = TypeVar("I", bound=Sized)  # noqa: E741


def take_batch(queue: deque[I]) -> list[I]:
    """Remove and return the first items that may share a commit; at least one unless the queue is empty."""
    batch: list[I] = []
    left = COMMIT_BYTES
    while queue and len(batch) < MAX_BATCH:
        left -= queue[0].size
        if left < 0 and batch:
            break
        batch.append(queue.popleft())
    return batch


def draft_size(draft: Draft) -> int:
    """Return the bytes of the large parts of a draft."""
    size = len(draft.params) + len(draft.metadata)
    if draft.idempotency is not None:
        size += len(draft.idempotency.reply)
    return size if draft.secrets is None else size + len(draft.secrets)
