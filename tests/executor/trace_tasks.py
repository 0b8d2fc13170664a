"""Task types that change something in their process, and one that checks whether the change is still there."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import contextvars
import decimal
import faulthandler
import fcntl
import gc
import io
import locale
import logging
import logging.config
import multiprocessing
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from tasker import task

kept: list[Any] = []
mood: contextvars.ContextVar[str] = contextvars.ContextVar("mood", default="calm")
quiet = logging.getLogger("quiet")


def go_to_a_deleted_folder() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)


def interrupt(*_: object) -> NoReturn:
    raise TimeoutError("the alarm of an earlier task")


def handle_alarm() -> None:
    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)


def handle_virtual_alarm() -> None:
    signal.signal(signal.SIGVTALRM, interrupt)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.01)


def work_for(seconds: float) -> str:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return "undisturbed"


def sleep_for(seconds: float) -> str:
    time.sleep(seconds)
    return "undisturbed"


def send_to_self_blocked() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    os.kill(os.getpid(), signal.SIGUSR1)


def set_wakeup() -> None:
    kept.extend(pair := socket.socketpair())
    pair[0].setblocking(False)
    signal.set_wakeup_fd(pair[0].fileno())


def look_at_files() -> list[Any]:
    files = (sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__)
    return [[file.fileno(), file.closed, getattr(file, "line_buffering", None)] for file in files if file]


def look_at_output() -> list[str]:
    return [sys.stdout.encoding, str(sys.stdout.errors)]


def look_at_descriptors() -> list[list[int]]:
    return [[os.fstat(one).st_dev, os.fstat(one).st_ino] for one in range(3)]


def turn_descriptors() -> None:
    os.close(0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.closerange(1, 2)


def configure_logging() -> None:
    logging.config.dictConfig({"version": 1, "handlers": {"no": {"class": "logging.NullHandler"}}})


def look_at_logging() -> list[Any]:
    root = logging.getLogger()
    return [
        root.level,
        repr(root.handlers),
        root.filters,
        root.isEnabledFor(logging.ERROR),
        quiet.disabled,
        logging.getLogRecordFactory().__name__,
    ]


def look_at_decimals() -> list[str]:
    return [str(decimal.Decimal(1) / 3), str(decimal.Context().prec), str(decimal.DefaultContext.prec)]


def leave_a_loop() -> None:
    asyncio.set_event_loop(asyncio.new_event_loop())
    asyncio.get_event_loop().close()


def look_at_loop() -> str:
    with contextlib.suppress(RuntimeError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop = asyncio.get_event_loop()
        closed = loop.is_closed()
        loop.close()
        return f"closed: {closed}"
    return "none"


def keep_temporary_files_elsewhere() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TMPDIR"] = folder
        tempfile.tempdir = None
        tempfile.gettempdir()


def make_temporary_file() -> bool:
    with tempfile.NamedTemporaryFile() as file:
        return bool(file.name)


def is_seeded() -> bool:
    expected = random.Random(7)
    return random.random() in [expected.random() for _ in range(20)]


def set_soft_limit() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def set_hard_limit() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 40, 1 << 40))


def lock_a_file() -> None:
    file = open(os.path.join(tempfile.gettempdir(), f"tasker-lock-{os.getppid()}"), "w")  # noqa: SIM115
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    kept.append(file)


def can_lock() -> bool:
    path = os.path.join(tempfile.gettempdir(), f"tasker-lock-{os.getppid()}")
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    os.unlink(path)
    return True


def use_one_processor() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


class Rude:
    """A stand-in for a file."""

    def flush(self) -> NoReturn:
        raise KeyboardInterrupt


def trace(*_: object) -> Any:
    return trace


def count_files() -> bool:
    return len(os.listdir("/proc/self/fd")) > 60


def keep_many_files() -> None:
    kept.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(150))


def leave_a_cycle_of_files() -> None:
    """Files that nothing but each other refers to."""
    cycle: list[Any] = [open(os.devnull) for _ in range(70)]  # noqa: SIM115
    cycle.append(cycle)


def serve_forever() -> None:
    threading.Thread(target=time.sleep, args=[600], daemon=True).start()


def set_all_hooks() -> None:
    sys.excepthook = sys.unraisablehook = sys.displayhook = threading.excepthook = interrupt


Leave = Callable[[], object]
RESTORED: dict[str, tuple[Leave, Leave]] = {
    "folder": (go_to_a_deleted_folder, os.getcwd),
    "alarm": (handle_alarm, lambda: sleep_for(0.15)),
    "alarm without a handler": (lambda: signal.setitimer(signal.ITIMER_REAL, 0.05), lambda: sleep_for(0.15)),
    "timer of processor time": (handle_virtual_alarm, lambda: work_for(0.05)),
    "timer without a handler": (lambda: signal.setitimer(signal.ITIMER_PROF, 0.02), lambda: work_for(0.1)),
    "ignored signal": (lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN), lambda: signal.getsignal(15)),
    "handler of an interrupt": (lambda: signal.signal(signal.SIGINT, interrupt), lambda: repr(signal.getsignal(2))),
    "handler of a fault": (lambda: signal.signal(signal.SIGSEGV, interrupt), lambda: repr(signal.getsignal(11))),
    "blocked signals": (send_to_self_blocked, lambda: repr(signal.pthread_sigmask(signal.SIG_BLOCK, []))),
    "wakeup descriptor": (set_wakeup, lambda: signal.set_wakeup_fd(-1)),
    "closed output": (lambda: sys.stdout.close(), look_at_files),
    "closed input": (lambda: sys.stdin.close(), look_at_files),
    "closed first output": (lambda: sys.__stderr__.close(), look_at_files),  # type: ignore[union-attr]
    "detached output": (lambda: sys.stderr.detach(), look_at_files),  # type: ignore[attr-defined]
    "other output": (lambda: setattr(sys, "stdout", io.StringIO()), look_at_files),
    "rude output": (lambda: setattr(sys, "stdout", Rude()), look_at_files),
    "no output": (lambda: setattr(sys, "stdout", None), look_at_files),
    "encoding of output": (lambda: sys.stdout.reconfigure(encoding="ascii"), look_at_output),  # type: ignore[attr-defined]
    "descriptors": (turn_descriptors, look_at_descriptors),
    "log that does not block": (lambda: os.set_blocking(2, False), lambda: os.get_blocking(2)),
    "umask": (lambda: os.umask(0o777), lambda: os.umask(0o22)),
    "environment": (lambda: os.environ.update(PATH="", NEW="1"), lambda: [os.environ["PATH"], "NEW" in os.environ]),
    "another environment": (lambda: setattr(os, "environ", {}), lambda: os.environ["PATH"]),
    "time zone": (lambda: (os.environ.update(TZ="Asia/Tokyo"), time.tzset()), lambda: list(time.tzname)),
    "recursion limit": (lambda: sys.setrecursionlimit(60), sys.getrecursionlimit),
    "switch interval": (lambda: sys.setswitchinterval(1), sys.getswitchinterval),
    "limit of digits": (lambda: sys.set_int_max_str_digits(0), sys.get_int_max_str_digits),
    "locale": (lambda: locale.setlocale(locale.LC_ALL, "C"), lambda: locale.setlocale(locale.LC_ALL)),
    "warnings": (lambda: warnings.simplefilter("error"), lambda: len(warnings.filters)),
    "socket timeout": (lambda: socket.setdefaulttimeout(0.001), socket.getdefaulttimeout),
    "sys.path": (lambda: sys.path.insert(0, "/nowhere"), lambda: sys.path),
    "sys.argv": (lambda: sys.argv.clear(), lambda: sys.argv),
    "level of logging": (lambda: logging.getLogger().setLevel(1), look_at_logging),
    "handlers of logging": (lambda: logging.basicConfig(force=True), look_at_logging),
    "no logging": (lambda: logging.disable(), look_at_logging),
    "configuration of logging": (configure_logging, look_at_logging),
    "factory of logging": (lambda: logging.setLogRecordFactory(interrupt), look_at_logging),
    "decimal context": (lambda: setattr(decimal.getcontext(), "prec", 3), look_at_decimals),
    "another decimal context": (lambda: decimal.setcontext(decimal.Context(prec=4)), look_at_decimals),
    "decimal defaults": (lambda: setattr(decimal.DefaultContext, "prec", 5), look_at_decimals),
    "context variable": (lambda: mood.set("angry"), mood.get),
    "trace": (lambda: sys.settrace(trace), lambda: sys.gettrace() is None),
    "trace of threads": (lambda: threading.settrace(trace), lambda: threading.gettrace() is None),
    "profile": (lambda: sys.setprofile(trace), lambda: sys.getprofile() is None),
    "hooks": (set_all_hooks, lambda: [sys.excepthook.__name__, threading.excepthook.__name__]),
    "soft limit": (set_soft_limit, lambda: resource.getrlimit(resource.RLIMIT_NOFILE)),
    "processors": (use_one_processor, lambda: sorted(os.sched_getaffinity(0))),
    "seed": (lambda: random.seed(7), is_seeded),
    "state of random": (lambda: random.setstate(random.Random(7).getstate()), is_seeded),
    "built-in function": (lambda: setattr(builtins, "sum", interrupt), lambda: sum([1, 2])),
    "built-in name": (lambda: setattr(builtins, "_", interrupt), lambda: hasattr(builtins, "_")),
    "garbage collector": (lambda: gc.disable(), gc.isenabled),
    "event loop": (leave_a_loop, look_at_loop),
    "start method": (lambda: multiprocessing.set_start_method("spawn"), lambda: multiprocessing.get_start_method(True)),
    "temporary folder": (keep_temporary_files_elsewhere, make_temporary_file),
    "deadline of faulthandler": (lambda: faulthandler.dump_traceback_later(0.05, exit=True), lambda: sleep_for(0.15)),
    "faulthandler": (faulthandler.disable, faulthandler.is_enabled),
    "files that nobody has": (leave_a_cycle_of_files, count_files),
}
REPLACED: dict[str, tuple[Leave, Leave]] = {
    "hard limit": (set_hard_limit, lambda: resource.getrlimit(resource.RLIMIT_FSIZE)),
    "thread": (serve_forever, lambda: threading.active_count()),
    "process": (lambda: kept.append(subprocess.Popen(["sleep", "600"])), lambda: len(kept)),
    "locked file": (lock_a_file, can_lock),
    "many files": (keep_many_files, count_files),
    "user": (lambda: os.setresuid(65534, 65534, 65534), os.getuid),
}


@task
def leave(name: str) -> int:
    """Leave a trace and return the process id."""
    pid = os.getpid()
    (RESTORED | REPLACED)[name][0]()
    return pid


@task
def look(name: str) -> tuple[int, str]:
    """Return the process id, and the value that the trace of that name would change."""
    return os.getpid(), repr((RESTORED | REPLACED)[name][1]())


@task
def print_anew() -> None:
    """As code for Python 2 and 3 did."""
    sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding="utf-8")  # type: ignore[attr-defined]
    print("kept")
    print("unended", end="")


@task
def print_line(text: str) -> None:
    print(text)
    sys.stderr.write(f"{text} too\n")
    logging.getLogger("mine").info("%s as well", text)


@task
def be_interrupted_often() -> str:
    """Return with a timer set that goes off again and again, with a handler that raises."""
    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    return "done"


@task
def raise_in_our_code() -> None:
    """Leave a profiler that raises as soon as the child's own code continues."""

    def profile(frame: Any, event: str, _: object) -> None:
        if frame.f_code.co_name == "begin_restore" and event == "call":
            raise RuntimeError("of the profiler")

    sys.setprofile(profile)


class Unshowable(Exception):
    def __str__(self) -> str:
        sys.exit(4)


@task
def break_the_child(how: str) -> None:
    """Replace a part of the child's own program."""
    from tasker.executor.child.state import ProcessState

    def fail(_: object) -> None:
        raise {"shown": ValueError("broken inside"), "unshowable": Unshowable(), "exit": SystemExit(0)}[how]

    ProcessState.begin_restore = fail  # type: ignore[assignment,method-assign]


@task
def spoil_what_is_put_back_later() -> int:
    from tasker.executor.child import settings

    settings._write_interpreter = interrupt  # has no effect: the table has the original function
    os.get_blocking = interrupt  # type: ignore[assignment]
    return os.getpid()


@task
def log_from_a_handler() -> str:
    """Send from a handler that comes while we send."""
    signal.signal(signal.SIGALRM, lambda *_: logging.getLogger("mine").info("from the handler"))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        logging.getLogger("mine").info("x" * 2000)
    return "done"
