"""Process settings that a task can change, and how to read and restore each: tables for `state`.

Left out on purpose: the variables of modules, which may keep caches and connections, and `sys.modules`,
`sys.meta_path` and `sys.path_hooks`, which modules imported meanwhile need.
"""

from __future__ import annotations

import _locale
import decimal
import faulthandler
import gc
import logging
import os
import resource
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

_LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})


class Setting(NamedTuple):
    """One setting. `read` returns a value that can be compared, `write` restores it.

    A value that still differs after `write`, or a `write` that raises, cannot be put back.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


class Table:
    """Settings, and their values when the table is made."""

    def __init__(self, settings: list[Setting]) -> None:
        self._settings = settings
        self._readers = [setting.read for setting in settings]
        self._clean = [read() for read in self._readers]

    def restore(self) -> list[str]:
        """Put back what differs, and name what could not be put back."""
        try:
            is_clean = [read() for read in self._readers] == self._clean
        except Exception:  # raised by a user's object that replaced a value; it is found below
            is_clean = False
        if is_clean:
            return []
        return [
            setting.name for setting, clean in zip(self._settings, self._clean, strict=True) if not _put(setting, clean)
        ]


def _put(setting: Setting, clean: Any) -> bool:
    try:
        if setting.read() != clean:
            setting.write(clean)
        return bool(setting.read() == clean)
    except Exception:  # we may no longer change it (PermissionError...), or a user's object raises
        return False


def first_settings() -> list[Setting]:
    """Return the settings to restore before the end of the attempt is reported.

    If some of them cannot be restored, the child must not get another attempt; others would disturb our code.
    """
    limits = _Limits()
    return [
        Setting("tracing", _read_tracing, _write_tracing),
        Setting("limits of resources", limits.read, limits.write),
        Setting("priority", _read_priority, _write_priority),
    ]


def later_settings(log: int) -> list[Setting]:
    """Return the settings to restore while the service handles the attempt's end. log: a duplicate of descriptor 2.

    Each call of a reader costs time, so values that are cheap to write are read together.
    """
    logs, environment, modules = _Logs(), _Environment(), _Modules()
    return [
        Setting("the interpreter's settings", _read_interpreter, _write_interpreter),
        *([Setting("sys.monitoring", _read_monitoring, _write_monitoring)] if hasattr(sys, "monitoring") else []),
        Setting("logging", logs.read, logs.write),
        Setting("environment", environment.read, environment.write),
        Setting("settings of modules", modules.read, modules.write),
        # the service shares this open file: if it became non-blocking, the service's own log would fail
        Setting("blocking log", lambda: os.get_blocking(log), lambda clean: os.set_blocking(log, clean)),
    ]


def _read_tracing() -> tuple[Any, ...]:
    return sys.gettrace(), sys.getprofile(), sys.getrecursionlimit()


def _write_tracing(clean: tuple[Any, ...]) -> None:
    sys.settrace(clean[0])
    sys.setprofile(clean[1])
    sys.setrecursionlimit(clean[2])


def _read_hooks() -> tuple[Any, ...]:
    hooks = sys.excepthook, sys.unraisablehook, sys.displayhook, sys.breakpointhook
    return *hooks, threading.excepthook, warnings.showwarning


def _write_hooks(clean: tuple[Any, ...]) -> None:
    sys.excepthook, sys.unraisablehook, sys.displayhook, sys.breakpointhook = clean[:4]
    threading.excepthook, warnings.showwarning = clean[4:]


def _set_garbage_collection(is_enabled: bool) -> None:
    (gc.enable if is_enabled else gc.disable)()


def _set_faulthandler(is_enabled: bool) -> None:
    if is_enabled != faulthandler.is_enabled():
        faulthandler.enable(2)


def _set_warning_filters(filters: tuple[Any, ...]) -> None:
    warnings.resetwarnings()  # this also makes modules forget what they have warned of
    warnings.filters[:] = filters  # type: ignore[index]


_INTERPRETER: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (_read_hooks, _write_hooks),
    (lambda: tuple(sys.path), lambda clean: setattr(sys, "path", list(clean))),
    (lambda: tuple(sys.argv), lambda clean: setattr(sys, "argv", list(clean))),
    (threading.gettrace, threading.settrace),
    (threading.getprofile, threading.setprofile),
    (threading.stack_size, threading.stack_size),
    (gc.isenabled, _set_garbage_collection),
    (gc.get_threshold, lambda clean: gc.set_threshold(*clean)),
    (gc.get_debug, gc.set_debug),
    (sys.getswitchinterval, sys.setswitchinterval),
    (sys.get_int_max_str_digits, sys.set_int_max_str_digits),
    (faulthandler.is_enabled, _set_faulthandler),
    (socket.getdefaulttimeout, socket.setdefaulttimeout),
    (lambda: tuple(warnings.filters), _set_warning_filters),
)
"""How the interpreter's settings are read, and written back."""
_INTERPRETER_READERS = [read for read, _ in _INTERPRETER]


def _read_interpreter() -> list[Any]:
    return [read() for read in _INTERPRETER_READERS]


def _write_interpreter(clean: list[Any]) -> None:
    for (_, write), value in zip(_INTERPRETER, clean, strict=True):
        write(value)


def _read_monitoring() -> list[str | None]:
    return list(map(getattr(sys, "monitoring").get_tool, range(6)))  # noqa: B009  Python 3.11 has none


def _write_monitoring(clean: list[str | None]) -> None:
    for tool, name in enumerate(clean):
        if name is None:
            getattr(sys, "monitoring").free_tool_id(tool)  # noqa: B009


def _write_decimal(clean: Any) -> None:
    kind, arguments = clean
    fresh, defaults = kind(*arguments), decimal.DefaultContext
    defaults.prec, defaults.rounding, defaults.Emin, defaults.Emax = fresh.prec, fresh.rounding, fresh.Emin, fresh.Emax
    defaults.capitals, defaults.clamp = fresh.capitals, fresh.clamp
    defaults.traps, defaults.flags = fresh.traps, fresh.flags


def _read_priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def _write_priority(clean: int) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, clean)


class _Modules:
    """Variables of modules that may be loaded; None for a module that is not, as in a fresh process."""

    def __init__(self) -> None:
        self._locale = _locale.setlocale(_locale.LC_ALL, None)

    def read(self) -> tuple[Any, ...]:
        loaded = sys.modules.get
        events, starts, files = loaded("asyncio.events"), loaded("multiprocessing.context"), loaded("tempfile")
        return (
            events and getattr(events, "_event_loop_policy", None),
            starts and starts._default_context._actual_context,
            files and files.tempdir,
            decimal.DefaultContext.__reduce__(),
            _locale.setlocale(_locale.LC_ALL, None) if "locale" in sys.modules else self._locale,
        )

    def write(self, clean: tuple[Any, ...]) -> None:
        """Reset the main thread's event loop, the start method of processes, and the folder for temporary files.

        The modules' own functions do not help: they warn, or refuse to return to the state of a fresh process.
        """
        events, starts, files = map(sys.modules.get, ("asyncio.events", "multiprocessing.context", "tempfile"))
        if events is not None:
            events._event_loop_policy = clean[0]  # type: ignore[attr-defined]
        if starts is not None:
            starts._default_context._actual_context = clean[1]
        if files is not None:
            files.tempdir = clean[2]  # type: ignore[attr-defined]
        _locale.setlocale(_locale.LC_ALL, clean[4])
        _write_decimal(clean[3])


class _Limits:
    """The limits of setrlimit(2). They are compared: an audit hook would slow down every audited call."""

    def read(self) -> list[tuple[int, int]]:
        return list(map(resource.getrlimit, _LIMITS))

    def write(self, clean: list[tuple[int, int]]) -> None:
        """Put back the soft limits. A hard limit that was lowered stays, and the values still differ."""
        for kind, (soft, _) in zip(_LIMITS, clean, strict=True):
            hard = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (soft, hard))


class _Environment:
    """os.environ, and the time zone that follows from it. Bytes are compared: the mapping itself decodes each value."""

    def __init__(self) -> None:
        self._mapping = os.environ

    def read(self) -> tuple[bool, dict[bytes, bytes], tuple[str, str]]:
        return os.environ is self._mapping, dict(self._mapping._data), time.tzname  # type: ignore[attr-defined]

    def write(self, clean: tuple[bool, dict[bytes, bytes], tuple[str, str]]) -> None:
        os.environ = self._mapping  # noqa: B003
        for name in os.environb.keys() - clean[1].keys():
            del os.environb[name]
        for name, value in clean[1].items():
            if os.environb.get(name) != value:
                os.environb[name] = value
        time.tzset()


class _Logs:
    """The root logger, settings for all loggers, and whether `dictConfig` has disabled the existing ones."""

    def __init__(self) -> None:
        self._mark = logging.getLogger(__name__)
        self._off = {logger for logger in _loggers() if logger.disabled}

    def read(self) -> tuple[Any, ...]:
        root = logging.root
        own = root.level, root.disabled, tuple(root.handlers), tuple(root.filters)
        shared = root.manager.disable, logging.raiseExceptions, logging.getLogRecordFactory(), logging.getLoggerClass()
        return own, list(map(_read_handler, root.handlers)), shared, self._mark.disabled

    def write(self, clean: tuple[Any, ...]) -> None:
        root = logging.root
        (level, root.disabled, root.handlers[:], root.filters[:]), handlers, shared, _ = clean
        root.setLevel(level)
        for handler, (level, formatter, filters) in zip(root.handlers, handlers, strict=True):
            handler.setLevel(level)
            handler.setFormatter(formatter)
            handler.filters[:] = filters
        disabled, logging.raiseExceptions, make_record, logger_class = shared
        logging.disable(disabled)
        logging.setLogRecordFactory(make_record)
        logging.setLoggerClass(logger_class)
        if self._mark.disabled:
            for logger in _loggers():
                logger.disabled = logger in self._off


def _read_handler(handler: logging.Handler) -> tuple[Any, ...]:
    return handler.level, handler.formatter, tuple(handler.filters)


def _loggers() -> list[logging.Logger]:
    return [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
