"""Task types that the executor's tests run in real child processes; loaded by path, as a user's file is."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from datetime import timedelta

from tasker import Context, Fail, Retry, Snooze, task

FOREVER = 600
NAPPER = [sys.executable, "-c", f"import time; time.sleep({FOREVER})"]
kept_contexts: list[Context] = []


@task
def add(a: int, b: int) -> int:
    return a + b


@task
def get_pid() -> int:
    return os.getpid()


@task
def say_everything(context: Context) -> str:
    context.progress(current=1, total=4, message="one")
    context.output("a" * 40_000)
    context.output("b \ud800")
    context.log("note", level="warning", big=2**70, odd={1, 2}.__class__, message="field")
    context.usage(tokens=3)
    return f"{context.attempt} {context.task_id}"


@task
def hang(context: Context) -> None:
    context.output("started")
    time.sleep(FOREVER)


@task
def ignore_signals(context: Context) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    context.output("started")
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(FOREVER)


@task
def stop_when_asked(context: Context, how: str) -> str:
    context.output("started")
    while not context.cancelled:
        time.sleep(0.001)
    if how == "raise":
        raise RuntimeError("cleaned up")
    return "partial"


@task
def end_unaware(context: Context, path: str) -> str:
    """End once the file `path` exists, without ever checking for a cancel."""
    context.output("started")
    while not os.path.exists(path):
        time.sleep(0.001)
    return "whole"


@task
async def wait_async(context: Context) -> str:
    context.output("started")
    try:
        await asyncio.sleep(FOREVER)
    finally:
        context.output("cleaned up")
    return "never"


@task
async def get_pid_async() -> int:
    return os.getpid()


@task
def start_and_hang(context: Context) -> None:
    """Start a grandchild that stays in the group, and one that leaves it and its parent."""
    context.output(str(os.getpid()))
    context.output(str(subprocess.Popen(NAPPER).pid))
    context.output(str(_start_orphan()))
    time.sleep(FOREVER)


@task
def start_and_leave() -> list[int]:
    return [os.getpid(), subprocess.Popen(NAPPER).pid, _start_orphan()]


@task
def start_and_die() -> None:
    """Leave a grandchild that keeps the connection to the service open."""
    print(subprocess.Popen(NAPPER, pass_fds=[int(sys.argv[1])]).pid)
    os._exit(3)


def _start_orphan() -> int:
    """Start a daemon by the book (setsid, double fork) and return its pid."""
    how = "start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL"
    program = f"import subprocess; print(subprocess.Popen({NAPPER!r}, {how}).pid)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    return int(done.stdout)


@task
def run_quickly() -> str:
    return subprocess.run(["echo", "done"], capture_output=True, check=True, text=True).stdout


@task
def die(how: str) -> None:
    if how == "exit":
        os._exit(3)
    if how == "segfault":
        ctypes.string_at(0)
    os.kill(os.getpid(), signal.Signals[how])


@task
def throw(what: str) -> None:
    errors: dict[str, BaseException] = {
        "ValueError": ValueError("bad \ud800 value"),
        "SystemExit": SystemExit(2),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "MemoryError": MemoryError(),
        "GeneratorExit": GeneratorExit(),
        "Unprintable": Unprintable(),
        "Fail": Fail("no use"),
        "Fail again": Fail("not now", retry=True, after=7),
        "Fail odd": Fail("odd", problem="no-such-problem"),
        "Retry": Retry("later", after=timedelta(seconds=3)),
        "Snooze": Snooze(5),
        "Long": ValueError("x" * 100_000),
    }
    if what == "RecursionError":
        throw_deeply()
    raise errors[what]


def throw_deeply() -> None:
    throw_deeply()


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@task(memory_limit="200MB")
def hold_memory(mebibytes: int, context: Context) -> int:
    block = bytearray(mebibytes * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    context.output("held")
    if mebibytes > 150:
        time.sleep(FOREVER)
    return len(block)


@task(memory_limit="200MB")
def hold_memory_below(context: Context) -> None:
    program = "import time; block = b'x' * (300 * 2**20); time.sleep(600)"
    grandchild = subprocess.Popen([sys.executable, "-c", program])
    context.output(str(grandchild.pid))
    grandchild.wait()


@task
def hold_on(mebibytes: int) -> int:
    hoard.append(b"x" * (mebibytes * 2**20))
    return os.getpid()


hoard: list[bytes] = []


@task
def print_lines() -> None:
    print("first", "line")
    print("half", end="")
    print("to stderr", file=sys.stderr)
    sys.stdout.buffer.write(b"bytes \xff\n")
    logging.getLogger("mine").warning("logged %s", 1)
    logging.getLogger("mine").debug("not shown")
    logging.getLogger("mine").log(25, "between two levels")


@task
def write_past_python(context: Context) -> None:
    """Write like native code, other programs and forked processes."""
    os.write(2, b"raw to 2\n")
    os.write(1, b"raw to 1, without an end")
    subprocess.run(["sh", "-c", "echo from a program; echo its complaint >&2"], check=True)
    if (pid := os.fork()) == 0:
        print("from a fork")
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)


@task
def write_much_past_python(lines: int) -> None:
    os.system(f"seq {lines}")


@task
def print_much(lines: int) -> None:
    for number in range(lines):
        print(number)


@task
def get_environment(names: list[str]) -> list[str | None]:
    return [os.environ.get(name) for name in names]


@task
def look_around() -> dict[str, str | int | bool]:
    with open("/proc/self/oom_score_adj") as file:
        first_to_go = int(file.read())
    return {
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "first_to_go": first_to_go,
        "is_leader": os.getsid(0) == os.getpgrp() == os.getpid(),
        "stdin": sys.stdin.read(),
    }


@task
def make_text(size: int) -> str:
    return "x" * size


@task
def make_nan() -> float:
    return float("nan")


@task
def disturb(how: str, context: Context) -> None:
    """Spoil the connection to the service, as code that writes to or closes any descriptor may."""
    descriptor = int(sys.argv[1])
    if how == "close":
        os.close(descriptor)
        time.sleep(FOREVER)
    os.write(descriptor, {"garbage": b"\0\0\0\4nope", "huge": b"\xff\xff\xff\xff"}[how])
    time.sleep(FOREVER)


@task
def fork_and_talk(context: Context) -> str:
    pid = os.fork()
    if pid == 0:
        print("from the fork")
        context.output("from the fork")
        os._exit(0 if context.cancelled is False else 1)
    _, status = os.waitpid(pid, 0)
    return str(os.waitstatus_to_exitcode(status))


@task
def keep_context(context: Context) -> int:
    """Keep the context beyond the attempt."""
    kept_contexts.append(context)
    return os.getpid()


@task
def be_nice() -> int:
    return os.nice(5)


@task
def get_niceness() -> int:
    return os.nice(0)


@task
def use_kept_contexts() -> int:
    for context in kept_contexts:
        context.output("late")
    return len(kept_contexts)


@task
async def exit_in_a_task() -> None:
    async def leave() -> None:
        raise SystemExit(2)

    await asyncio.gather(leave())


@task
def talk(pieces: int, path: str, context: Context) -> int:
    """Output many pieces of 32 KiB, and write down how many; end only then."""
    text = "x" * 32 * 1024
    with open(path, "w") as told:
        for number in range(pieces):
            context.output(text)
            told.write(f"{number + 1}\n")
            told.flush()
    return pieces


@task
async def talk_async(pieces: int, path: str, context: Context) -> int:
    """The same on a loop, from another thread."""
    return await asyncio.to_thread(talk, pieces, path, context)


@task
def say_too_much(context: Context) -> str:
    """Report more than max_output allows, in every way."""
    for _ in range(100):
        context.output("o" * 1000)
        context.log("l" * 1000)
        print("p" * 1000)
    return "done"
