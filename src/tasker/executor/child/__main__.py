"""The program of a child process: `python -m tasker.executor.child SOCKET LIFELINE` (two open file descriptors)."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import socket
import sys
from typing import NoReturn

from tasker.executor import frames
from tasker.executor.call import describe
from tasker.executor.child import setup
from tasker.executor.child.channel import Channel
from tasker.executor.child.printed import Capture
from tasker.executor.child.runner import Runner


def main(arguments: list[str]) -> None:
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    setup.die_with_service(int(arguments[1]))
    setup.adopt_orphans()
    setup.prefer_for_oom_kill()
    channel = Channel(socket.socket(fileno=int(arguments[0])))
    init = channel.receive()
    try:
        if isinstance(init, frames.Init):
            _serve(channel, init)
    except BaseException as error:  # unexpected here: a task's signal handler or thread may have raised it
        _die(channel, error)
    os._exit(0)  # threads that a task left behind must not keep the process alive


def _serve(channel: Channel, init: frames.Init) -> None:
    capture = Capture(channel, init.log_level)
    try:
        runner = Runner(channel, init, capture)
    except BaseException as error:  # the users' modules run here: they may raise anything
        capture.flush()
        channel.send(frames.Broken(describe(error)))
        return
    capture.flush()
    channel.send(frames.Ready())
    runner.serve()


def _die(channel: Channel, error: BaseException) -> NoReturn:
    try:
        detail = type(error).__name__
        with contextlib.suppress(BaseException):  # a user's exception may raise when it is shown
            detail = describe(error)
        channel.send(frames.Died(detail))
    finally:
        os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
