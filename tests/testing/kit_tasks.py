"""Tasks that the tests of the test kit run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

from tasker import Context, Fail, Retry, Snooze, SyncContext, task
from tasker.errors import Fault
from tasker.model import RetryPolicy

SENT: list[str] = []


def check_address(to: str, subject: str) -> Iterator[Fault]:
    if "@" not in to:
        yield Fault("/to", "expected an address")


@task(check=check_address)
def email(to: str, subject: str = "Hello") -> str:
    SENT.append(to)
    return f"{subject} to {to}"


def check_slowly(number: int) -> Iterator[Fault]:
    threading.Event().wait(0.2)  # longer than the chores of a kit take
    yield from ()


@task(check=check_slowly)
def slowly_checked(number: int) -> int:
    return number


@task
async def double(number: int) -> int:
    return 2 * number


@task(retry=3)
def flaky(context: SyncContext) -> int:
    """Succeed at the third try."""
    if context.attempt < 3:
        raise Retry("not yet", after=timedelta(minutes=10))
    return context.attempt


@task
def boom(text: str) -> None:
    raise LookupError(text)


@task
def snooze_for_ever() -> None:
    raise Snooze(timedelta(0))


@task
def welcome(name: str, context: SyncContext) -> list[object]:
    """A bit of everything that waits."""
    print(f"welcome {name}")
    context.output("begun. ")
    context.sleep("a day", days=1)
    doubled = context.map(double, [1, 2, 3])
    sent = context.call("email", f"{name}@example.com")
    is_right = context.ask("is it right", bool, message="Is it right?", timeout="P3D", default=False)
    return [doubled, sent, is_right]


@task
async def welcome_async(name: str, context: Context) -> list[int]:
    await context.sleep("a day", days=1)
    return await context.map(double, [1, 2, 3])


@task
def try_steps(context: SyncContext) -> int:
    """A step that fails twice: its pauses, of days, take no time."""
    policy = RetryPolicy(max_attempts=5, initial=timedelta(days=1), max=timedelta(days=2))
    return context.step("shaky", _shaky, context.attempt, retry=policy)


_tries: list[int] = []


def _shaky(attempt: int) -> int:
    _tries.append(attempt)
    if len(_tries) % 3:
        raise OSError("shaky")
    return len(_tries)


@task
def submit_more(context: SyncContext) -> str:
    """Fail for good, after a note."""
    context.log("giving up", level="error")
    raise Fail("no more", retry=False)
