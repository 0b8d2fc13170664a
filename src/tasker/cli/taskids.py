"""Ids of tasks on a command line: several of them, from standard input, or the beginning of one."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from tasker.cli.exits import Exit
from tasker.cli.params import UsageError

if TYPE_CHECKING:
    from tasker.client import Tasker

_BEGIN = re.compile(r"[0-9a-f]{8}-?[0-9a-f-]*", re.IGNORECASE)
_TIME_DIGITS = 12
"""The hexadecimal digits of a UUID of version 7 that are its time, in milliseconds."""
_MOST = 1000
"""Tasks of the same minute that are looked at."""


def read_task_id(task_id: str) -> UUID:
    """Return the id of a task from a command line. Raises UsageError."""
    try:
        return UUID(task_id)
    except ValueError:
        raise UsageError(f"TASK_ID: expected a UUID, got {task_id!r}; `tasker ls -q` lists them") from None


def find_task_id(client: Tasker, text: str) -> UUID:
    """Return the id that a text is, or that begins with it: at least 8 digits, the minute. Raises UsageError."""
    digits = text.replace("-", "").lower()
    if len(digits) >= 32 or not _BEGIN.fullmatch(text):
        return read_task_id(text)
    first, last = (int(digits.ljust(_TIME_DIGITS, filler)[:_TIME_DIGITS], 16) for filler in "0f")
    around = timedelta(seconds=1)
    tasks = client.find_many(
        created_after=datetime.fromtimestamp(first / 1000, UTC) - around,
        created_before=datetime.fromtimestamp(last / 1000, UTC) + around,
        limit=_MOST,
    )
    found = [task.task_id for task in tasks if task.task_id.hex.startswith(digits)]
    if len(found) != 1:
        several = f"{len(found)} tasks begin with {text}: give more digits"
        what = several if found else f"no task begins with {text}"
        raise UsageError(f"TASK_ID: {what}; `tasker ls -q` lists them")
    return found[0]


def read_many(words: Sequence[str]) -> list[str]:
    """Return the ids that words name; `-` stands for those on standard input, the first word of each line."""
    ids: list[str] = []
    for word in words:
        ids += [line.split()[0] for line in sys.stdin if line.strip()] if word in ("-", "@-") else [word]
    return ids


def for_each(client: Tasker, words: Sequence[str], act: Callable[[UUID], int]) -> int:
    """Do something with each task that words name; report what fails, go on, and return the largest exit code.

    Only a service that does not answer ends it early.
    """
    from tasker.cli.faults import explain
    from tasker.cli.terminal import note
    from tasker.client import Unreachable
    from tasker.errors import TaskerError

    ids, codes = read_many(words), [Exit.OK.value]
    if not ids:
        note("No tasks.")
    for text in ids:
        try:
            codes.append(act(find_task_id(client, text)))
        except TaskerError as error:
            if len(ids) > 1:
                note(f"{text}:")
            codes.append(explain(error))
            if isinstance(error, Unreachable):
                break
    return max(codes)
