"""What `breakpoint()` does in the code of tasks under `tasker dev`.

PYTHONBREAKPOINT, if it is set, has precedence, as Python promises.
"""

from __future__ import annotations

import os
import pdb
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from tasker.executor.attribution import CURRENT
from tasker.executor.loop_watch import TASK_NAME, holding_loop

_VARIABLE = "PYTHONBREAKPOINT"
_terminal = threading.RLock()


def install(*, in_process: bool) -> None:
    """Let breakpoint() open the debugger on this terminal, or else say how to get it."""
    if os.environ.get(_VARIABLE):
        return
    if in_process:
        sys.breakpointhook = stop_here
        return
    os.environ[_VARIABLE] = f"{__name__}.pass_over"  # of child processes, and of `async def` functions here


def pass_over(*_: Any, **__: Any) -> None:
    """Say that a breakpoint was reached without a debugger, and go on."""
    frame = sys._getframe(1)
    place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
    print(f"{place}: breakpoint() passed over: for the debugger, start `tasker dev --in-process`", file=sys.stderr)


def stop_here(*_: Any, **__: Any) -> None:
    """Open the debugger in the function that has called breakpoint()."""
    _Debugger().set_trace(sys._getframe(1))


class _Debugger(pdb.Pdb):
    """A debugger for one attempt in a thread of the service. Only one of them uses the terminal at a time.

    What it shows is no output of the task: it goes past the streams that keep what tasks print.
    """

    def __init__(self) -> None:
        super().__init__(nosigint=True, stdout=open(1, "w", closefd=False))  # noqa: SIM115  it closes no terminal
        self._is_announced = False
        self.use_rawinput = True  # line editing, which a stream of its own would switch off

    def interaction(self, frame: FrameType | None, traceback: Any, *more: Any) -> None:
        with holding_loop(), _terminal:
            if not self._is_announced:
                self._is_announced = True
                self.stdout.write(f"breakpoint in {_name_attempt()}; c goes on\n")
            super().interaction(frame, traceback, *more)


def _name_attempt() -> str:
    """Name the attempt that runs here: on a loop, which several share, or in a thread of its own."""
    attempt = CURRENT.get(None)
    return threading.current_thread().name if attempt is None else f"task {attempt.name.removeprefix(TASK_NAME)}"
