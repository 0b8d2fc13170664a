"""What the supervisor of `tasker dev` and its serving processes tell each other: lines of JSON on a socket."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct


class Order(Struct, frozen=True):
    """The first line to a process. flags: of the command line. host and port: those of the socket.

    is_first: it prints the banner. in_process: `def` functions run in the process.
    """

    flags: dict[str, Any]
    host: str
    port: int
    is_first: bool
    in_process: bool


class Fault(Struct, frozen=True):
    """A target that could not be loaded, and why, with file and line."""

    target: str
    detail: str


class Loaded(Struct, frozen=True, tag=True):
    """The code is loaded; the process waits for a line to go on.

    types: for each own type a digest of its function and description. files: digests of the modules that were read,
    by path. drain: seconds that running tasks get.
    """

    types: dict[str, str]
    files: dict[str, str]
    faults: tuple[Fault, ...]
    drain: float


class Refused(Struct, frozen=True, tag=True):
    """The process ends: its settings are wrong, or a target does not exist."""

    detail: str


class Started(Struct, frozen=True, tag=True):
    """The service answers."""


Message = Loaded | Refused | Started

encode = msgspec.json.encode


def read_order(line: bytes) -> Order:
    """Read the supervisor's first line."""
    return msgspec.json.decode(line, type=Order)


def read_message(line: bytes) -> Message:
    """Read a line of a serving process."""
    return msgspec.json.decode(line, type=Message)  # type: ignore[no-any-return]
