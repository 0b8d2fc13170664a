"""The clients of this process, shared by all threads: one for each service."""

from __future__ import annotations

import atexit
import os
from threading import Lock

from tasker.client import Tasker
from tasker.client.driving import find_service

_clients: dict[tuple[int, str, str | None], Tasker] = {}
_lock = Lock()


def client_of(url: str | None = None, token: str | None = None) -> Tasker:
    """Return the client of a service, made when it is first asked for. The defaults are those of Tasker.

    It stays open until the process ends. A process that was forked makes its own: connections cannot be shared.
    """
    url, token = find_service(url, token)
    key = (os.getpid(), url, token)
    with _lock:
        if key not in _clients:
            _clients[key] = Tasker(url, token)
        return _clients[key]


@atexit.register
def close_clients() -> None:
    """Close the clients of this process; `client_of` makes new ones."""
    with _lock:
        own = [key for key in _clients if key[0] == os.getpid()]
        for key in own:
            _clients.pop(key).close()
