"""The usual answers to submissions are made from a template, and say the same as all others."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from msgspec import structs

from tasker.api import accepted
from tasker.api.accepted import encode_usual, is_usual
from tasker.api.replies import encode_task
from tasker.model import Draft, Extra
from tasker.service.drafts import as_accepted
from tasker.testing import START, make_draft

OTHERS: dict[str, Any] = {
    "run_at": START + timedelta(hours=1),
    "extra": Extra(delayed=True),
    "tags": ("a",),
    "metadata": b'{"a":1}',
    "deadline": START,
    "unique_key": "a",
    "concurrency_key": "a",
}
"""Options that the template does not have."""
WITHIN: dict[str, Any] = {
    "task_id": UUID(int=1),
    "type": "mirror",
    "params": b'{"text":"50 % \\u0000"}',
    "queue": "2000-01-01T00.00.00Z",
    "priority": -3,
    "created_at": START.replace(microsecond=0),
    "max_attempts": 7,
    "owner": '"%b" 2000-01-01T00:00:00Z',
}
"""Fields that it does have."""
NOT_SHOWN = {"policy", "idempotency", "is_chosen", "retention", "weight", "cache_key", "webhook", "secrets"} | {
    "on_conflict", "refusal", "join_refusal", "cache_for", "is_awaited", "keep_steps_of"
}  # fmt: skip


def text_of(draft: Draft) -> bytes:
    return encode_usual(draft, str(draft.task_id).encode())


def test_every_field_of_a_draft_has_a_case() -> None:
    assert set(Draft.__struct_fields__) == {*OTHERS, *WITHIN} | NOT_SHOWN


@pytest.mark.parametrize("name", [None, *WITHIN])
def test_the_template_says_what_the_task_says(name: str | None) -> None:
    usual = make_draft(START)
    draft = usual if name is None else structs.replace(usual, **{name: WITHIN[name]})
    assert is_usual(draft)
    for _ in range(2):  # with a new template and a known one
        assert text_of(draft) == encode_task(as_accepted(draft), tracebacks=False)


@pytest.mark.parametrize("name", OTHERS)
def test_a_task_with_an_option_is_not_usual(name: str) -> None:
    assert not is_usual(structs.replace(make_draft(START), **{name: OTHERS[name]}))


def test_few_templates_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepted, "_MOST", 3)
    for number in range(10):
        text = text_of(make_draft(START, queue=f"q{number}"))
        assert msgspec.json.decode(text)["queue"] == f"q{number}"
        assert len(accepted._templates) <= 3
