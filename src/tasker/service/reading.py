"""Read request bodies that name a task type: at once, or in a thread if code of the type's author checks them."""

from __future__ import annotations

from typing import Protocol, TypeVar

import structlog

from tasker.clock import Clock
from tasker.errors import Fault, Invalid
from tasker.model import Draft
from tasker.requests.children import OpenedChild
from tasker.requests.replay import OpenedReplay
from tasker.requests.schedules import OpenedSchedule, ReadSchedule
from tasker.requests.submissions import Context, OpenedSubmission, Submission, read_ordinary
from tasker.rules.urls import UrlRules
from tasker.service.check_threads import CheckThreads, CheckTimeout
from tasker.tasktypes.registry import Registry, TaskType

T = TypeVar("T", covariant=True)
_log = structlog.get_logger(__name__)


class _Opened(Protocol[T]):
    """A body as JSON, the task type that it names, and the pointer of the params; `read` reads and checks the rest."""

    @property
    def task_type(self) -> TaskType | None: ...
    @property
    def params_pointer(self) -> str: ...
    def read(self) -> T: ...


class Reading:
    """Reads bodies. Each method raises Malformed, Invalid with every fault, and Unavailable (as CheckThreads).

    rules: where the webhooks of submissions may lead.
    """

    def __init__(self, registry: Registry, clock: Clock, rules: UrlRules) -> None:
        self._registry = registry
        self._clock = clock
        self._rules = rules
        self.threads = CheckThreads()

    async def submission(self, owner: str, body: bytes, *, type_name: str | None = None) -> tuple[TaskType, Submission]:
        """Read a submission; with `type_name` the body is the params alone."""
        if type_name is None and (read := read_ordinary(body, self._registry)) is not None:
            return read
        return await self._read(owner, OpenedSubmission(body, self._context(), type_name=type_name))

    async def replay(self, owner: str, body: bytes, original: Draft) -> tuple[TaskType, Submission]:
        """Read what a replay changes of its original."""
        return await self._read(owner, OpenedReplay(body, original, self._context()))

    async def schedule(self, owner: str, body: bytes, *, is_new: bool) -> ReadSchedule:
        """Read a new schedule, or a change of one."""
        return await self._read(owner, OpenedSchedule(body, self._context(), is_new=is_new))

    def task_type(self, name: str) -> TaskType:
        """Return the task type of children. Raises Invalid ("unknown-type", "type-not-loaded")."""
        return self._registry.get(name)

    async def child(self, owner: str, child: OpenedChild) -> bytes:
        """Read the params of a child."""
        return await self._read(owner, child)

    def _context(self) -> Context:
        return Context(self._registry, self._clock.now(), self._rules)

    async def _read(self, owner: str, opened: _Opened[T]) -> T:
        task_type = opened.task_type
        if task_type is None or not task_type.has_own_code:
            return opened.read()
        try:
            return await self.threads.run(owner, opened.read)
        except CheckTimeout:
            detail = "the params are refused: make the check of their type faster"
            _log.warning("check.timed_out", type=task_type.name, owner=owner, detail=detail)
            reason = f"cannot be checked: that takes more than {self.threads.within:g} s; send smaller ones"
            fault = Fault(opened.params_pointer, reason)
            raise Invalid(f"the params {reason}", name="invalid-params", faults=[fault]) from None
