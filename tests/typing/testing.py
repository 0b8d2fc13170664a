"""The types of the test kit. mypy and pyright check this file; it is never run."""

from __future__ import annotations

from typing import Any, assert_type

from tasker import AsyncTasker, Context, SyncContext, Tasker, task
from tasker.client import AsyncHandle, Handle
from tasker.testing import Kit, Ran, RecordingContext, RecordingSyncContext, arun, client, make_context, run


@task
def thumbnail(url: str, width: int = 3) -> str:
    raise NotImplementedError


def in_a_test(given: Kit) -> None:
    with run("mytasks.py", thumbnail, max_result=1024) as t:
        assert_type(t, Kit)
        assert_type(t.client, Tasker)
        assert_type(t.submit(thumbnail, "https://a.example", width=4), Handle[str])
        assert_type(t.run(thumbnail, url="https://a.example"), str)
        assert_type(t.run("thumbnail", "https://a.example"), Any)
        assert_type(t.drain(), list[Ran])
        t.fail_next(thumbnail, ValueError, times=2)
        t.assert_submitted(thumbnail, url="https://a.example")
    with client(given) as other:
        assert_type(other, Tasker)


async def in_an_async_test() -> None:
    async with arun(thumbnail) as t:
        assert_type(await t.submit(thumbnail, "https://a.example"), AsyncHandle[str])
        assert_type(await t.run(thumbnail, "https://a.example"), str)
        async with client(t) as other:
            assert_type(other, AsyncTasker)


def of_contexts() -> None:
    assert_type(make_context(), RecordingSyncContext)
    assert_type(make_context(SyncContext), RecordingSyncContext)
    assert_type(make_context(Context), RecordingContext)
