"""A replay: another submission of a task, with what is to be other this time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Raw, structs

from tasker.errors import Fault, Invalid
from tasker.model import Draft, Policy
from tasker.requests.submissions import RetryOptions, Submission, Texts, decode_texts, read_envelope
from tasker.tasktypes.registry import Registry, TaskType
from tasker.validation.jsontext import read_json

_decode_policy = msgspec.json.Decoder(Policy).decode


def read_replay(body: bytes, original: Draft, registry: Registry, now: datetime) -> tuple[TaskType, Submission]:
    """Read the body of a replay: what is to be other than in the original. Nothing, if it is empty.

    Kept are the params, and what is settled for the task itself; not when the original was to run, nor what tied it
    to other tasks. Raises as `read_submission`.
    """
    value = read_json(body) if body.strip() else {}
    if not isinstance(value, dict):
        raise Invalid("expected an object", faults=[Fault("", "expected an object")])
    if "type" in value:
        fault = Fault("/type", "a replay has the type of its original")
        raise Invalid(f"{fault.pointer}: {fault.detail}", name="unknown-field", faults=[fault])
    texts = decode_texts(body) if value else Texts()
    if value.get("params") is None:
        texts.params = Raw(original.params)
        value["params"] = read_json(original.params)
    retry = _decode_policy(original.policy).retry
    task_type = registry.find(original.type)
    task_type, asked = read_envelope(value | {"type": original.type}, texts, task_type, registry, now, retry)
    return task_type, _with_kept(asked, original, value)


def _with_kept(asked: Submission, original: Draft, given: dict[str, Any]) -> Submission:
    """Return a replay with what is kept of its original where nothing else is asked for."""
    policy = _decode_policy(original.policy)
    kept: dict[str, Any] = {
        "queue": original.queue, "priority": original.priority, "timeout": policy.timeout, "tags": original.tags,
        "metadata": Raw(original.metadata), "retention": original.retention or "forever",
    }  # fmt: skip
    asked = structs.replace(asked, **{name: value for name, value in kept.items() if given.get(name) is None})
    retry = structs.asdict(asked.retry or RetryOptions())
    tried_as_before = {name: value for name, value in structs.asdict(policy.retry).items() if retry[name] is None}
    return structs.replace(asked, retry=RetryOptions(**(retry | tried_as_before)), replay_of=original.task_id)
