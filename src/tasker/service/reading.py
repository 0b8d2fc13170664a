"""Reading what clients ask for: at once, or in a thread where code of a task type's author has a word in it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import structlog

from tasker.clock import Clock
from tasker.errors import Fault, Invalid
from tasker.model import Draft
from tasker.requests.replay import read_replay
from tasker.requests.schedules import OpenedSchedule
from tasker.requests.submissions import Opened, Submission
from tasker.service.check_threads import CheckThreads, CheckTimeout
from tasker.tasktypes.registry import Registry, TaskType

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class Reading:
    """Reads bodies. Each method raises Malformed, Invalid with every fault, and Unavailable (as CheckThreads)."""

    def __init__(self, registry: Registry, clock: Clock, threads: CheckThreads | None = None) -> None:
        self._registry = registry
        self._clock = clock
        self._threads = threads or CheckThreads()

    async def submission(self, owner: str, body: bytes, *, type_name: str | None = None) -> tuple[TaskType, Submission]:
        """Read a submission as `submission.read_submission` does."""
        opened = Opened(body, self._registry, self._clock.now(), type_name=type_name)
        return await self._read(owner, opened.task_type, opened.read, opened.params_pointer)

    async def replay(self, owner: str, body: bytes, original: Draft) -> tuple[TaskType, Submission]:
        """Read a replay as `replay.read_replay` does."""
        read = partial(read_replay, body, original, self._registry, self._clock.now())
        return await self._read(owner, self._registry.find(original.type), read, "/params")

    async def schedule(self, owner: str, body: bytes) -> dict[str, Any]:
        """Read a new schedule as `scheduling.OpenedSchedule` does."""
        opened = OpenedSchedule(body, self._registry, self._clock.now())
        return await self._read(owner, opened.task_type, opened.read_new, "/task/params")

    async def patch(self, owner: str, body: bytes) -> dict[str, Any]:
        """Read a change of a schedule as `scheduling.OpenedSchedule` does."""
        opened = OpenedSchedule(body, self._registry, self._clock.now())
        return await self._read(owner, opened.task_type, opened.read_patch, "/task/params")

    async def _read(self, owner: str, task_type: TaskType | None, read: Callable[[], T], pointer: str) -> T:
        """Return what `read` returns; pointer: of the params that it checks, of this type if it is known."""
        if task_type is None or not task_type.has_own_code:
            return read()
        try:
            return await self._threads.run(owner, read)
        except CheckTimeout:
            detail = "the params are refused: make the check of their type faster"
            _log.warning("check.timed_out", type=task_type.name, owner=owner, detail=detail)
            words = f"cannot be checked: that takes more than {self._threads.within:g} s; send smaller ones"
            fault = Fault(pointer, words)
            raise Invalid(f"the params {words}", name="invalid-params", faults=[fault]) from None
