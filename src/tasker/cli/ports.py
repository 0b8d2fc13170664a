"""Which ports are free, and who holds one that is not."""

from __future__ import annotations

import errno
import socket
import sys

from tasker.config import is_loopback
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


def is_taken(host: str, port: int) -> bool:
    """Tell whether a server on `host` would not be the one that answers at `port`.

    Raises ConfigError where `host` is not this machine's, or the port is not for this user.
    """
    reached_as = _LOCALHOST if is_loopback(host) or host in _WILDCARDS else (host,)
    return not _can_bind(host, port) or any(_answers(address, port) for address in reached_as)


def next_free_port(host: str, port: int) -> int:
    """Return the first port after `port` that is free."""
    following = range(port + 1, min(port + 100, 65536))
    return next((other for other in following if not is_taken(host, other)), None) or free_port(host)


def free_port(host: str) -> int:
    """Return a free port that the system picks."""
    with socket.create_server((host.strip("[]"), 0), family=_family(host)) as server:
        return int(server.getsockname()[1])


def describe_holder(port: int) -> str:
    """Return who holds `port`, as far as can be seen, as the end of a sentence."""
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


def _answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def _can_bind(host: str, port: int) -> bool:
    try:
        socket.create_server((host.strip("[]"), port), family=_family(host)).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        why = str(error.strerror).partition(" (while")[0]
        raise ConfigError(f"TASKER_HOST, TASKER_PORT: cannot listen on {host} at port {port}: {why}") from error
    return True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
