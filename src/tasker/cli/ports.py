"""Claims a port for this process alone, and tells who holds one that is taken."""

from __future__ import annotations

import errno
import socket
import sys
from typing import Self

from tasker.config.settings import is_loopback
from tasker.errors import ConfigError

_LOCALHOST = ("127.0.0.1", "::1")  # a browser's "localhost" is either
_WILDCARDS = {"0.0.0.0", "::", "[::]"}  # noqa: S104  compared with, not bound to


def resolve(host: str) -> str:
    """Return the address that the name `host` stands for, IPv4 before IPv6. Raises ConfigError."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"TASKER_HOST: expected an address or host name of this machine, got {host!r}") from error
    return str(min(found, key=lambda entry: entry[0] != socket.AF_INET)[4][0])


class Claim:
    """A port that belongs to this process until it closes the claim or ends; nothing answers there yet.

    socket: bound to the port. The server listens on it once it can answer; until then clients are refused, so that a
    proxy tries the next server.
    """

    def __init__(self, bound: socket.socket, lock: socket.socket | None) -> None:
        self.socket = bound
        self.port: int = bound.getsockname()[1]
        self._lock = lock

    def close(self) -> None:
        self.socket.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def claim(host: str, port: int) -> Claim | None:
    """Claim `port` (0: any free one) for a server on `host`; return None if it is taken.

    Of many services that claim the same address at one moment, one gets it. A port also counts as taken if another
    server than the one on `host` would answer at localhost.
    Raises ConfigError if `host` is not this machine's, or this user may not use the port.
    """
    if port and any(_answers(address, port) for address in _reached_as(host)):
        return None
    bound = _bind(host, port)
    if bound is None:
        return None
    try:
        lock = _lock(*bound.getsockname()[:2])
    except OSError:
        bound.close()
        return None
    return Claim(bound, lock)


def claim_after(host: str, port: int) -> Claim:
    """Claim the first free port after `port`, or any free one."""
    following = range(port + 1, min(port + 100, 65536))
    found = next((other for number in following if (other := claim(host, number))), None) or claim(host, 0)
    if found is None:
        raise ConfigError(f"TASKER_PORT: {host} has no free port")
    return found


def describe_holder(port: int) -> str:
    """Return who holds `port`, if that can be seen, as the end of a sentence."""
    import psutil

    try:
        holders = {c.pid for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and port in c.laddr}
        names = {f"{psutil.Process(pid).name()} (process {pid})" for pid in holders if pid}
    except psutil.Error:  # other users' processes are hidden, on macOS from everyone but root
        names = set()
    if names:
        return f" by {', '.join(sorted(names))}"
    if sys.platform == "darwin" and port in {5000, 7000}:
        return ", probably by AirPlay Receiver (System Settings, General, AirDrop & Handoff switches it off)"
    return ""


def _reached_as(host: str) -> tuple[str, ...]:
    return _LOCALHOST if is_loopback(host) or host in _WILDCARDS else (host,)


def _answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def _bind(host: str, port: int) -> socket.socket | None:
    bound = socket.socket(_family(host), socket.SOCK_STREAM)
    try:
        bound.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # despite connections of an earlier server in TIME_WAIT
        bound.bind((host.strip("[]"), port))
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            return None
        why = str(error.strerror).partition(" (while")[0]
        raise ConfigError(f"TASKER_HOST, TASKER_PORT: cannot listen on {host} at port {port}: {why}") from error
    return bound


def _lock(address: str, port: int) -> socket.socket | None:
    """Take a lock that one process can hold for each address. Raises OSError if another process holds it.

    SO_REUSEADDR lets several processes bind one port while none of them listens. The name of an abstract socket is as
    unique as a port: within the network namespace, for all users; and it vanishes with its process.
    """
    if not sys.platform.startswith("linux"):
        return None  # then the server's listen() decides, a second later
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        lock.bind(f"\0tasker {address} {port}")
    except OSError:
        lock.close()
        raise
    return lock


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
