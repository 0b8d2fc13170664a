"""`tasker healthcheck`: exit code 0 if the service is ready. Uses only the standard library: it runs often."""

from __future__ import annotations

import http.client
import os
import sys

from tasker.cli.exits import Exit

_EVERY_ADDRESS = {"", "0.0.0.0", "::", "[::]"}  # noqa: S104  compared with, not bound to


def healthcheck() -> int:
    """Ask the service on this machine, at TASKER_HOST and TASKER_PORT, whether it is ready."""
    host = os.environ.get("TASKER_HOST", "").strip("[]")
    host = "127.0.0.1" if host in _EVERY_ADDRESS else host
    port = os.environ.get("TASKER_PORT") or "5000"
    allowed = os.environ.get("TASKER_ALLOWED_HOSTS", "").split(",")[0].strip()
    try:
        return _ask(host, int(port), allowed)
    except (OSError, http.client.HTTPException, ValueError) as error:
        print(f"no answer from http://{host}:{port}: {error}", file=sys.stderr)
        return Exit.UNREACHABLE


def _ask(host: str, port: int, allowed_host: str) -> int:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/readyz", headers={"Host": allowed_host} if allowed_host else {})
        reply = connection.getresponse()
        print(reply.read().decode(errors="replace"))
        return Exit.OK if reply.status == 200 else Exit.UNREACHABLE
    finally:
        connection.close()
