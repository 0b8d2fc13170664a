"""Secret params are available to every attempt of a task, and erased once it has ended."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from msgspec import structs

import tasker
from tasker import Context, Retry, Snooze, task
from tasker.model import RetryPolicy, Status
from tasker.testing import make_draft
from tests.worker.rig import Rig


@task
async def unlock(token: Annotated[str, tasker.secret], context: Context) -> int:
    """Use the token at the third attempt."""
    if context.attempt == 1:
        raise Retry(f"{token} does not open it yet", after=0)
    if context.attempt == 2:
        raise Snooze(0)
    return len(token)


async def test_a_task_that_is_tried_again_keeps_its_secrets_until_it_ends(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.registry.add(unlock)
    await rig.open()
    try:
        again = RetryPolicy(max_attempts=2, initial=timedelta(0))
        draft = make_draft(rig.clock.now(), type="unlock", params=b'["***"]', retry=again)
        await rig.engine.submit([structs.replace(draft, secrets=b'{"0":"sesame"}')])
        done = await rig.end(await rig.get(draft))
        [first, second, third] = await rig.engine.find_attempts(done.task_id)
    finally:
        await rig.close()
    assert (done.status, bytes(done.result or b"")) == (Status.COMPLETED, b"6")
    assert [one.ending for one in (first, second, third)] == ["failed", "snoozed", "succeeded"]
    assert first.error is not None
    assert "sesame" not in repr(first)
    assert await _kept_secrets(tmp_path) == b""


async def _kept_secrets(folder: Path) -> bytes:
    return b"".join(
        file.read_bytes() for file in folder.rglob("*") if file.is_file() and b"sesame" in file.read_bytes()
    )
