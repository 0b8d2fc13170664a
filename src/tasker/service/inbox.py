"""The use case of the inbox: make tasks of what other programs have submitted in their own transactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import msgspec
import structlog
from msgspec import Raw

from tasker.clock import Clock
from tasker.engines.protocol.inbox import InboxStore, Look
from tasker.errors import Invalid, RequestError, Unavailable
from tasker.model import Draft, Policy, Retention, Task
from tasker.model.inbox import Arrival, TakenIn
from tasker.model.keys import SCOPES, Caller
from tasker.requests.submissions import Submission
from tasker.rules.arrivals import refused
from tasker.rules.secrets import Places
from tasker.service.admission import Admission, OpenQueues
from tasker.service.drafts import as_accepted, draft_of
from tasker.service.pauses import Pauses
from tasker.service.reading import Reading
from tasker.tasktypes.registry import Registry

AT_ONCE = 500
"""Arrivals that are taken in together."""
PATIENCE = timedelta(minutes=10)
"""How long an arrival waits for a process that knows its type: longer than a rolling upgrade of the workers."""
LATE = timedelta(seconds=2)
"""Age of arrivals that any process takes in: the one that has the lead is then stuck, or does not know the inbox."""
READ_FOR = 1.0
"""Seconds after which those that are read are taken in: checks of params by code of types' authors may take long."""
MAX_BODY = 1 << 20
"""Bytes of params and options together, by default."""

_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode
_RIGHTS = frozenset(scope for scope in SCOPES if scope != "admin")


_DEFAULTS = Policy()


@dataclass(frozen=True)
class _UnknownType:
    """The defaults of a task of a type that nobody knows; see TaskType."""

    retention: Retention
    policy: Policy = _DEFAULTS
    policy_json: bytes = _encode(_DEFAULTS)
    queue: str = "default"
    priority: int = 0
    secrets: Places | None = None


class Inbox:
    """Takes arrivals in, with the checks and limits of every submission; `store` is None where there is no inbox.

    max_size: of params and options together, in bytes. patience: how long an arrival waits for a process that knows its
    type. An invalid one becomes a failed task. Whoever may call the function of the database acts for every owner.
    """

    def __init__(
        self,
        store: InboxStore | None,
        registry: Registry,
        reading: Reading,
        clock: Clock,
        *,
        admission: Admission,
        open_queues: OpenQueues,
        max_size: int,
        patience: timedelta = PATIENCE,
    ) -> None:
        self.store = store
        self._registry = registry
        self._reading = reading
        self._clock = clock
        self._admission = admission
        self._open_queues = open_queues
        self._max_size = max_size
        self._patience = patience

    async def run_once(self, *, late: timedelta = timedelta(0), is_awake: bool = False) -> int:
        """Take in the next arrivals; return how many. late: only those that have waited for so long.

        is_awake: see InboxStore.take_in.

        Raises Unavailable, also while too many tasks are pending.
        """
        if self.store is None:
            return 0
        arrivals = await self.store.find_many(self._look(late), limit=AT_ONCE)
        return await self._take_in(await self._read_many(arrivals), is_awake)

    async def find(self, task_id: UUID) -> Task | None:
        """Take in the arrival with this id, if there is one and its type is known, or it has waited long enough.

        Return its task as it will be while its type is not known; None in every other case. Raises Unavailable.
        """
        arrival = None if self.store is None else await self.store.find(task_id, self._look())
        if arrival is None:
            return None
        taken = await self._read(arrival)
        if self._is_due(arrival):
            await self._take_in([taken])
            return None
        return as_accepted(taken.draft)

    async def admit(self, task_id: UUID) -> bool:
        """Make a task of an arrival whatever its type, so that it can be cancelled; return whether there was one."""
        arrival = None if self.store is None else await self.store.find(task_id, self._look())
        if arrival is None:
            return False
        taken = await self._read(arrival)
        await self._take_in([taken if self._is_due(arrival) else TakenIn(taken.draft)])
        return True

    def _look(self, late: timedelta = timedelta(0)) -> Look:
        return Look(self._registry.known_names(), self._patience, self._max_size, late)

    def _is_due(self, arrival: Arrival) -> bool:
        return arrival.is_overdue or arrival.type in self._registry

    async def _read_many(self, arrivals: Sequence[Arrival]) -> list[TakenIn]:
        """Read arrivals in their order, as far as checks of params allow it now: one may depend on those before.

        Raises Unavailable if that are none.
        """
        taken, pauses, start = [], Pauses(), self._clock.monotonic()
        for arrival in arrivals:
            if self._is_due(arrival):  # the known types may change meanwhile
                try:
                    taken.append(await self._read(arrival))
                except Unavailable:  # its owner's other checks take long
                    if not taken:
                        raise
                    break
            if self._clock.monotonic() - start > READ_FOR:
                break
            if pauses.due():
                await pauses.pause()
        return taken

    async def _read(self, arrival: Arrival) -> TakenIn:
        """Return the draft of an arrival, or of a task that fails for the reason given."""
        caller = Caller(arrival.owner, scopes=_RIGHTS)
        now = self._clock.now()
        try:
            task_type, submission = await self._reading.submission(arrival.owner, self._body(arrival))
            return TakenIn(draft_of(caller, task_type, submission, now, arrival.task_id))
        except Unavailable:
            raise
        except RequestError as error:
            return TakenIn(self._empty_draft(caller, arrival), refused(error))
        except Exception:  # a bug: it must not keep the others waiting
            _log.exception("inbox.fault", task_id=str(arrival.task_id))
            fault = Invalid("it cannot be read", name="internal")
            return TakenIn(self._empty_draft(caller, arrival), refused(fault))

    def _body(self, arrival: Arrival) -> bytes:
        """Return the body that POST /task would get. Raises Invalid."""
        if arrival.params is None or arrival.options is None:
            detail = f"expected params and options of at most {self._max_size:,} bytes, as TASKER_MAX_BODY allows"
            raise Invalid(detail, name="payload-too-large")
        options = arrival.options.strip()
        if not options.startswith("{"):
            raise Invalid("expected an object of options")
        rest = options[1:].lstrip()
        more = "" if rest == "}" else ","
        return f'{{"type":"{arrival.type}","params":{arrival.params}{more}{rest}'.encode()

    def _empty_draft(self, caller: Caller, arrival: Arrival) -> Draft:
        """Return the draft of a task that cannot run: with its params, unless they could hold a secret."""
        task_type = self._registry.find(arrival.type)
        params = (arrival.params or "").strip()
        if not params.startswith(("[", "{")) or (task_type is not None and task_type.secrets is not None):
            params = "[]"
        submission = Submission(type=arrival.type, params=Raw(params.encode()))
        defaults = task_type or _UnknownType(self._registry.default_retention)
        return draft_of(caller, defaults, submission, self._clock.now(), arrival.task_id)

    async def _take_in(self, taken: Sequence[TakenIn], is_awake: bool = False) -> int:
        """Store arrivals, as many as there is room for; return how many of these are ours."""
        if not taken:
            return 0
        try:
            return await self._store_part(taken, is_awake)
        except Unavailable as error:
            if error.kind.name != "queue-full" or len(taken) == 1:
                raise
            return await self._take_in(taken[: len(taken) // 2], is_awake)
        except Exception as error:  # a refusal of the whole, a bug, a value that the database refuses
            if len(taken) == 1:
                return await self._fail(taken[0], error)
        return sum([await self._take_in([one]) for one in taken])  # one must not keep the others waiting

    async def _store_part(self, part: Sequence[TakenIn], is_awake: bool) -> int:
        """Store arrivals in one commit, within the limits of pending tasks and open queues."""
        assert self.store is not None
        good = [one.draft for one in part if one.error is None]
        await self._admission.check(len(good))
        store = self.store

        async def take_in(bound: list[Draft]) -> int:
            drafts = {draft.task_id: draft for draft in bound}
            whole = [TakenIn(drafts.get(one.draft.task_id, one.draft), one.error) for one in part]
            count = await store.take_in(whole, is_awake=is_awake)
            for one in whole:
                if one.error is not None:
                    refusal = {"type": one.draft.type, "problem": one.error.type}  # its detail may quote a secret
                    _log.warning("inbox.refused", task_id=str(one.draft.task_id), **refusal)
            return count

        return await self._open_queues.let_in(good, take_in)

    async def _fail(self, taken: TakenIn, error: Exception) -> int:
        """Store an arrival as a failed task, without its options."""
        assert self.store is not None
        if not isinstance(error, RequestError):
            _log.error("inbox.fault", task_id=str(taken.draft.task_id), exc_info=error)
            error = Invalid("it cannot be stored", name="internal")
        draft = taken.draft
        caller = Caller(draft.owner, scopes=_RIGHTS)
        submission = Submission(type=draft.type, params=Raw(draft.params))
        empty = draft_of(
            caller, _UnknownType(draft.retention or "forever"), submission, draft.created_at, draft.task_id
        )
        return await self.store.take_in([TakenIn(empty, refused(error))])
