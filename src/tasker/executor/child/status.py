"""This process as the kernel reports it (proc_pid_status(5)): peak memory, user, signals, capabilities."""

from __future__ import annotations

import contextlib
import os
import re
from operator import itemgetter
from typing import NamedTuple

_STATUS_SIZE = 4096
"""Bytes; the whole text takes about 1,500."""
_STATE = re.compile(rb"Umask|[UG]id|Groups|(Sig|Shd)(Pnd|Blk|Ign|Cgt)|Cap\w+|NoNewPrivs|Seccomp|Cpus_allowed")


class Status(NamedTuple):
    """peak_memory: in bytes, None where not reported. state: the lines of umask, user, signals, capabilities..."""

    peak_memory: int | None
    state: tuple[bytes, ...]


class OwnStatus:
    """The status of this process. It is read often: its files are opened once, and its lines found once."""

    def __init__(self) -> None:
        self._control: int | None = None
        self._status: int | None = None
        with contextlib.suppress(OSError):  # this is no Linux, or the kernel refuses
            self._status = os.open("/proc/self/status", os.O_RDONLY)
            names = [line.partition(b":")[0] for line in self._lines(self._status)]
            self._state = itemgetter(*(number for number, name in enumerate(names) if _STATE.fullmatch(name)))
            self._peak = names.index(b"VmHWM") if b"VmHWM" in names else None
            control = os.open("/proc/self/clear_refs", os.O_WRONLY)
            os.write(control, b"5")
            self._control = control

    def begin_peak(self) -> None:
        """Reset the peak to what the process holds now. Where the kernel refuses that, it stays as it was."""
        if self._control is not None:
            os.write(self._control, b"5")

    def read(self) -> Status:
        """Return what the kernel reports now."""
        if self._status is None:
            return Status(None, ())
        lines = self._lines(self._status)
        return Status(None if self._peak is None else int(lines[self._peak][6:-3]) * 1024, self._state(lines))

    @staticmethod
    def _lines(status: int) -> list[bytes]:
        return os.pread(status, _STATUS_SIZE, 0).split(b"\n")
