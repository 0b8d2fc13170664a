"""Make the draft of a submission, and the task of a draft. Pure, except for the new task's id."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

import msgspec
from msgspec import Raw, structs

from tasker.errors import Fault, Forbidden, Invalid
from tasker.model import (
    Draft,
    Extra,
    Policy,
    Reason,
    Retention,
    RetryPolicy,
    Status,
    Task,
    new_task_id,
)
from tasker.model.keys import Caller
from tasker.requests.submissions import RetryOptions, Submission
from tasker.rules.secrets import Places, hide
from tasker.service.webhooks import with_webhook
from tasker.validation.encoding import decode_exact

_encode = msgspec.json.Encoder().encode
_AT_ONCE = timedelta(0)
_NO_EXTRA = Extra()
_NOTHING = Raw(b"{}")
_FRACTION = re.compile(rb"[0-9][.eE]")
_MOST_FRACTIONS = 10_000


def fingerprint(submission: Submission, schedule_id: UUID | None = None) -> bytes:
    """Return a digest that is equal for requests of equal meaning, whatever their white space."""
    text = _meaning(_encode(submission))
    return hashlib.sha256(text if schedule_id is None else text + schedule_id.bytes).digest()


def owned(owner: str, key: str) -> str:
    """Return an owner's idempotency key as it is stored: owner, tab, key; neither contains a tab."""
    return f"{key}\t{owner}" if owner else key


def check_submission(caller: Caller, submission: Submission, task_id: UUID | None = None) -> None:
    """Check a submission against the caller's rights; task_id: the one that the client has chosen.

    Raises Forbidden (the caller may not cancel the task that it would replace, or read the task that its webhook would
    report), Invalid (it would depend on itself or on its own group).
    """
    if submission.on_conflict == "replace" and not caller.may("control"):
        raise Forbidden("control", "`on_conflict` `replace` cancels a task")
    if submission.webhook is not None and not caller.may("read"):
        if submission.replay_of is not None:
            raise Forbidden("read", "the `webhook` of a replay gets another task's params")
        if submission.depends_on or submission.depends_on_group is not None:
            raise Forbidden("read", "the `webhook` of a task with `depends_on` learns how other tasks failed")
    after = submission.depends_on_group
    if after is not None and after.group == submission.group:
        fault = Fault("/depends_on/group", "a task cannot depend on its own group")
        raise Invalid("the task would depend on itself", faults=[fault])
    if task_id is not None and task_id in submission.depends_on:
        fault = Fault(f"/depends_on/{submission.depends_on.index(task_id)}", "a task cannot depend on itself")
        raise Invalid("the task would depend on itself", faults=[fault])


class TypeDefaults(Protocol):
    """What a draft takes from its type."""

    @property
    def policy(self) -> Policy: ...
    @property
    def policy_json(self) -> bytes: ...
    @property
    def queue(self) -> str: ...
    @property
    def priority(self) -> int: ...
    @property
    def retention(self) -> Retention | None: ...
    @property
    def secrets(self) -> Places | None: ...


def draft_of(
    caller: Caller, task_type: TypeDefaults, submission: Submission, now: datetime, task_id: UUID | None = None
) -> Draft:
    """Return the draft of a submission, with its type's defaults and a new id (or `task_id`, the client's own).

    Nothing else makes drafts, so that every submission is checked here against its caller's rights. Raises as
    `check_submission`.
    """
    check_submission(caller, submission, task_id)
    policy, policy_json = task_type.policy, task_type.policy_json
    if submission.timeout is not None or submission.retry is not None:
        policy = _settle(policy, submission)
        policy_json = _encode(policy)
    params, secrets = bytes(submission.params), None
    if task_type.secrets is not None:
        params, secrets = hide(params, task_type.secrets)
    draft = Draft(
        task_id=task_id or new_task_id(now),
        type=submission.type,
        params=params,
        secrets=secrets,
        queue=task_type.queue if submission.queue is None else submission.queue,
        priority=task_type.priority if submission.priority is None else submission.priority,
        created_at=now,
        policy=policy_json,
        max_attempts=policy.retry.max_attempts,
        run_at=submission.run_at if submission.delay is None else now + submission.delay,
        tags=submission.tags,
        metadata=b"{}" if submission.metadata is None else bytes(submission.metadata),
        retention=_lasting(submission.retention or task_type.retention),
        concurrency_key=submission.concurrency_key,
        weight=submission.weight,
        owner=caller.owner,
        deadline=submission.deadline,
        unique_key=submission.unique_key,
        on_conflict=submission.on_conflict,
        extra=_extra(submission),
        cache_key=None if submission.cache is None else _cache_key(caller.owner, submission),
        cache_for=submission.cache or _AT_ONCE,
        join_refusal=_join_refusal(caller, submission),
        keep_steps_of=submission.replay_of if submission.keep_steps else None,
    )
    return draft if submission.webhook is None else with_webhook(draft, submission.webhook)


def _join_refusal(caller: Caller, submission: Submission) -> Forbidden | None:
    """Refuse that another task answers for a submission if its webhook would get what the caller may not read."""
    if submission.webhook is None or caller.may("read"):
        return None
    return Forbidden("read", "another task answers for it, whose events its `webhook` would get")


def _lasting(retention: Retention | None) -> timedelta | None:
    """Return how long a draft's task is kept after its end, None for ever."""
    return retention if isinstance(retention, timedelta) else None


def _extra(submission: Submission) -> Extra | None:
    extra = Extra(
        depends_on=submission.depends_on,
        depends_on_group=submission.depends_on_group,
        group=submission.group,
        replay_of=submission.replay_of,
        delayed=submission.delay is not None,
    )
    return None if extra == _NO_EXTRA else extra


def _cache_key(owner: str, submission: Submission) -> bytes:
    """Return a digest that is equal for an owner's requests of the same type with params of equal meaning."""
    whose = _encode([owner, submission.type])
    return hashlib.sha256(whose + _meaning(bytes(submission.params))).digest()


def _meaning(text: bytes) -> bytes:
    """Return the canonical form of a JSON text; the text itself if it has very many fractions.

    Each number that is not an integer takes 3 us on the event loop.
    """
    if len(text) > _MOST_FRACTIONS and len(_FRACTION.findall(text)) > _MOST_FRACTIONS:
        return text
    return msgspec.json.encode(decode_exact(text), order="deterministic")


def _settle(policy: Policy, submission: Submission) -> Policy:
    """Return the type's policy with the client's options in place of its own."""
    return structs.replace(
        policy,
        timeout=policy.timeout if submission.timeout is None else submission.timeout,
        retry=policy.retry if submission.retry is None else _settle_retry(policy.retry, submission.retry),
    )


def _settle_retry(retry: RetryPolicy, asked: RetryOptions) -> RetryPolicy:
    return structs.replace(retry, **{name: value for name, value in structs.asdict(asked).items() if value is not None})


def traced(draft: Draft, traceparent: str | None) -> Draft:
    """Return the draft with its trace, which is not part of the request's fingerprint."""
    if traceparent is None:
        return draft
    return structs.replace(draft, extra=structs.replace(draft.extra or _NO_EXTRA, traceparent=traceparent))


def as_accepted(draft: Draft) -> Task:
    """Return the task that `draft` becomes, as it is the moment it is stored."""
    scheduled = draft.run_at is not None and draft.run_at > draft.created_at
    reason: Reason = "scheduled" if scheduled else "queued"
    return Task(
        task_id=draft.task_id,
        type=draft.type,
        params=Raw(draft.params),
        status=Status.PENDING,
        reason=reason,
        queue=draft.queue,
        priority=draft.priority,
        result=None,
        error=None,
        progress=None,
        attempt=0,
        tries_left=draft.max_attempts,
        created_at=draft.created_at,
        run_at=draft.run_at,
        started_at=None,
        finished_at=None,
        next_attempt_at=None,
        expires_at=None,
        cancel_requested_at=None,
        usage=_NOTHING,
        tags=list(draft.tags),
        metadata=Raw(draft.metadata),
        owner=draft.owner or None,
        deadline=draft.deadline,
        unique_key=draft.unique_key,
        concurrency_key=draft.concurrency_key,
        **({} if draft.extra is None else draft.extra.shown()),
    )
