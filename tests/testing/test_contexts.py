"""Functions called directly, with a context that keeps what they report."""

from __future__ import annotations

import pytest

from tasker import Context, Fail, SyncContext, task
from tasker.errors import ChildrenRefused
from tasker.testing import make_context


@task
def ship(order: str, context: SyncContext) -> str:
    context.progress(current=1, total=2, message="packing")
    context.log("packed", level="warning", order=order)
    context.output("a")
    context.output("b")
    context.usage(cost=0.5)
    context.sleep("a night", hours=8)
    parcel = context.step("pack", str.upper, order, returns=str)
    if context.cancelled:
        return "cancelled"
    return f"{parcel} {context.ask('to', str, message='Where to?')}"


@task
async def ship_async(order: str, context: Context) -> str:
    tries = []

    def pack() -> str:
        tries.append(order)
        if len(tries) < 3:
            raise OSError("no box")
        return order.upper()

    await context.sleep("a night", hours=8)
    parcel: str = await context.step("pack", pack, retry=5)
    context.output(parcel)
    return f"{parcel} {await context.ask('to', str, message='Where to?')}"


@task
def send_all(context: SyncContext) -> object:
    return context.map("email", ["a", "b"])


def test_a_plain_call_stays_a_plain_call() -> None:
    context = make_context(answers={"to": "Rome"})
    assert ship("book", context) == "BOOK Rome"
    recorded = context.recorded
    assert recorded.output == "ab"
    assert [(one.level, one.message, one.fields) for one in recorded.logs] == [("warning", "packed", {"order": "book"})]
    assert [(one.fraction, one.message) for one in recorded.progress] == [(0.5, "packing")]
    assert recorded.usage == {"cost": 0.5}
    assert recorded.steps == ["a night", "pack", "to"]


def test_it_can_be_cancelled() -> None:
    context = make_context(SyncContext)
    context.recorded.is_cancelled = True
    assert ship("book", context) == "cancelled"


async def test_async_functions_have_one_as_well() -> None:
    context = make_context(Context, attempt=3, answers={"to": "Rome"})
    assert await ship_async("book", context) == "BOOK Rome"
    assert (context.attempt, context.recorded.output, context.recorded.steps) == (3, "BOOK", ["a night", "pack", "to"])


def test_what_it_cannot_do_says_what_to_do() -> None:
    with pytest.raises(Fail, match=r"make_context\(answers=\{'to': ...\}\)"):
        ship("book", make_context())
    with pytest.raises(ChildrenRefused, match=r"tasker\.testing\.run"):
        send_all(make_context())
