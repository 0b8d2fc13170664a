"""Tasks that append each start and end to a journal next to the database; a kill cannot undo an append."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from uuid import uuid4

from tasker import Context, task


def _note(context: Context, what: str, nonce: str) -> None:
    line = json.dumps(
        {
            "task_id": str(context.task_id),
            "attempt": context.attempt,
            "what": what,
            "nonce": nonce,
            "pid": os.getpid(),
        }
    )
    journal = os.open("journal.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(journal, line.encode() + b"\n")
    os.close(journal)


def _gate(context: Context) -> Path:
    return Path(f"{context.task_id}.{context.attempt}.open")


@task
async def on_loop(context: Context, milliseconds: int) -> str:
    """Take some time on the loop; the result is the nonce of this run."""
    nonce = uuid4().hex
    _note(context, "start", nonce)
    await asyncio.sleep(milliseconds / 1000)
    _note(context, "end", nonce)
    return nonce


@task
def in_child(context: Context, milliseconds: int) -> str:
    """The same in a child process."""
    nonce = uuid4().hex
    _note(context, "start", nonce)
    time.sleep(milliseconds / 1000)
    _note(context, "end", nonce)
    return nonce


@task
async def gated(context: Context) -> str:
    """The same, for as long as this attempt's gate is shut (a file is its opening)."""
    nonce = uuid4().hex
    _note(context, "start", nonce)
    while not _gate(context).exists():
        await asyncio.sleep(0.01)
    _note(context, "end", nonce)
    return nonce


@task
def gated_in_child(context: Context) -> str:
    """The same in a child process."""
    nonce = uuid4().hex
    _note(context, "start", nonce)
    while not _gate(context).exists():
        time.sleep(0.01)
    _note(context, "end", nonce)
    return nonce


@task
def hoard(context: Context) -> None:
    """Take memory until the kernel has none left."""
    _note(context, "start", "hoard")
    kept = []
    while True:
        kept.append(b"x" * 2**20)


@task
async def tell_time(context: Context) -> float:
    """Return what time this machine thinks it is."""
    return time.time()


@task
async def talk(context: Context, words: int, milliseconds: int) -> int:
    """Output numbers, with a pause before each."""
    for number in range(words):
        await asyncio.sleep(milliseconds / 1000)
        context.output(f"{number} ")
    return words


@task
async def talk_at_a_gate(context: Context, words: int, milliseconds: int) -> int:
    """The same, and end only once this attempt's gate is open."""
    await talk(context, words, milliseconds)
    while not _gate(context).exists():
        await asyncio.sleep(0.01)
    return words


@task
async def shout(context: Context, words: int, kilobytes: int) -> int:
    """Report much output in large pieces."""
    for _ in range(words):
        await asyncio.sleep(0.005)
        context.output("x" * 1024 * kilobytes)
    return words


@task
async def steps(context: Context, seconds: float) -> str:
    """Take `seconds` in one attempt, and write to the journal that it began."""
    _note(context, "start", "steps")
    await asyncio.sleep(seconds)
    return "done"


@task
def tell_pid(context: Context, gate: str) -> int:
    """Write this child's process id, then wait for a file of the name `gate`."""
    Path(f"{gate}.pid").write_text(str(os.getpid()))
    while not Path(gate).exists():
        time.sleep(0.01)
    return os.getpid()


@task
def poison(context: Context) -> None:
    """Kill the child that runs it."""
    _note(context, "start", "poison")
    os.kill(os.getpid(), signal.SIGKILL)


@task(on_crash="fail")
def poison_once(context: Context) -> None:
    """Kill the child that runs it; must not run twice."""
    _note(context, "start", "poison")
    os.kill(os.getpid(), signal.SIGKILL)


@task
async def poison_on_loop(context: Context) -> None:
    """Kill the process that runs it: the whole service, until it is run in a child."""
    _note(context, "start", "poison")
    os.kill(os.getpid(), signal.SIGKILL)


@task
async def swallow_cancels(context: Context) -> None:
    """Ignore every cancellation."""
    _note(context, "start", "stubborn")
    while True:
        try:
            await asyncio.sleep(0.05)
        except BaseException:
            continue


@task
async def swallow_all(context: Context) -> None:
    """Go on even when the coroutine is closed: each sleep raises at once then."""
    _note(context, "start", "stubborn")
    while True:
        with contextlib.suppress(BaseException):
            await asyncio.sleep(0.2)


@task
async def register_at_exit() -> None:
    """Leave a function that takes long when the interpreter ends."""
    atexit.register(time.sleep, 3600)


@task
async def wait_for_a_thread(context: Context) -> None:
    """Wait for a thread that nothing ends."""
    _note(context, "start", "stubborn")
    await asyncio.to_thread(time.sleep, 3600)


@task
async def spin(context: Context) -> None:
    """Block the loop for ever."""
    _note(context, "start", "stubborn")
    while True:
        pass


@task
async def exit_in_a_task() -> None:
    """Try to end the process from a task of asyncio's."""

    async def leave() -> None:
        sys.exit(0)

    await asyncio.gather(leave())


@task
async def exit_at_once(context: Context) -> None:
    """End the process at once, which nothing can prevent."""
    _note(context, "start", "poison")
    os._exit(0)


@task
async def block_the_loop(context: Context, seconds: float) -> str:
    """Keep the loop for itself for some time; the result is the nonce of this run."""
    nonce = uuid4().hex
    _note(context, "start", nonce)
    time.sleep(seconds)
    _note(context, "end", nonce)
    return nonce
