"""The body of a replay: the differences from the task that is submitted again."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, structs

from tasker.errors import Fault, Invalid
from tasker.model import Draft, Policy
from tasker.requests.body import read_object
from tasker.requests.submissions import Context, RetryOptions, Submission, Texts, decode_texts, read_envelope
from tasker.tasktypes.registry import TaskType
from tasker.validation.faults import Faults, kind_of
from tasker.validation.jsontext import read_json

_decode_policy = msgspec.json.Decoder(Policy).decode


class OpenedReplay:
    """The body of a replay, which may be empty; it is not read yet."""

    params_pointer = "/params"

    def __init__(self, body: bytes, original: Draft, context: Context) -> None:
        self._body, self._original, self._context = body, original, context
        self.task_type = context.registry.find(original.type)

    def read(self) -> tuple[TaskType, Submission]:
        """Return the replay as a submission.

        It keeps the original's params and options, except its times and its ties to other tasks. Raises as
        `read_submission`.
        """
        original = self._original
        value = read_object(self._body) if self._body.strip() else {}
        if "type" in value:
            fault = Fault("/type", "a replay has the type of its original")
            raise Invalid(f"{fault.pointer}: {fault.detail}", name="unknown-field", faults=[fault])
        texts = decode_texts(self._body) if value else Texts()
        if value.get("params") is None:
            texts.params = Raw(original.params)
            value["params"] = read_json(original.params)
        policy, faults = _decode_policy(original.policy), Faults()
        keep_steps = _read_flag(value.pop("keep_steps", None), "/keep_steps", faults)
        named = value | {"type": original.type}
        try:
            task_type, asked = read_envelope(named, texts, self.task_type, self._context, policy.retry)
        except Invalid as error:
            if not faults.found:
                raise
            faults.put_all(error, "")
        faults.check()
        return task_type, structs.replace(_with_kept(asked, original, policy, value), keep_steps=keep_steps)


def _read_flag(value: Any, pointer: str, faults: Faults) -> bool:
    if value is not None and type(value) is not bool:
        faults.add(pointer, f"expected boolean, got {kind_of(value)}")
    return value is True


def _with_kept(asked: Submission, original: Draft, policy: Policy, given: dict[str, Any]) -> Submission:
    """Return a replay with the original's options where the body gives none."""
    kept: dict[str, Any] = {
        "queue": original.queue,
        "priority": original.priority,
        "timeout": policy.timeout,
        "tags": original.tags,
        "metadata": Raw(original.metadata),
        "retention": original.retention or "forever",
    }
    kept = {name: value for name, value in kept.items() if given.get(name) is None}
    retry = structs.asdict(asked.retry or RetryOptions())
    retry |= {name: value for name, value in structs.asdict(policy.retry).items() if retry[name] is None}
    return structs.replace(asked, **kept, retry=RetryOptions(**retry), replay_of=original.task_id)
