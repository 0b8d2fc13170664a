"""A network of its own for processes (a Linux network namespace), with one link to ours that the kernel can break.

The database listens on our loopback, which these processes cannot reach: a proxy at our end of the link passes
connections on. Only the way to the database is broken; the processes' own ports can be reached at any time.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from ipaddress import IPv4Address
from typing import Any

from tests.crash.proxy import Proxy

_NETWORKS = IPv4Address("198.18.0.0")  # to 198.19.255.255: for tests of networks, on nobody's way (RFC 2544)


class Island:
    """One namespace, for one test of this process. `options` are those of a process that is to run there."""

    def __init__(self, url: str) -> None:
        number = os.getpid() % 2**15
        self.name = f"tasker-{number}"
        self.here, self.there = (str(_NETWORKS + 4 * number + side) for side in (1, 2))
        self.proxy = Proxy(url, host=self.here)
        self._links = f"tk{number}h", f"tk{number}t"
        self._undo = ExitStack()

    def __enter__(self) -> Island:
        ours, theirs = self._links
        with ExitStack() as undo:
            _ip("netns", "add", self.name)
            undo.callback(_ip, "netns", "delete", self.name)
            _ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", self.name)
            undo.callback(_ip, "link", "delete", ours)
            _ip("address", "add", f"{self.here}/30", "dev", ours)
            _ip("link", "set", ours, "up")
            _ip("-n", self.name, "address", "add", f"{self.there}/30", "dev", theirs)
            _ip("-n", self.name, "link", "set", theirs, "up")
            _ip("-n", self.name, "link", "set", "lo", "up")
            undo.enter_context(self.proxy)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    @property
    def options(self) -> dict[str, Any]:
        under = ("ip", "netns", "exec", self.name)
        return {"url": self.proxy.url, "host": self.there, "under": under, "env": {"TASKER_AUTH": "off"}}

    def cut(self) -> None:
        """Drop every packet between the namespace and the database silently."""
        self._stop("OUTPUT", "-j", "DROP")
        self._stop("INPUT", "-j", "DROP")

    def lose(self, chance: float) -> None:
        """Drop packets that come from the database, at random."""
        self._stop("INPUT", "-m", "statistic", "--mode", "random", "--probability", str(chance), "-j", "DROP")

    def reset(self) -> int:
        """Reset every connection to the database; return how many there were."""
        target = ("dst", self.here, "dport", "=", f":{self.proxy.port}")
        return len(_ip("netns", "exec", self.name, "ss", "-H", "-K", "-t", "-n", *target).splitlines())

    def heal(self) -> None:
        self._iptables("-F")

    def stopped(self) -> int:
        """Return how many packets the rules of now have stopped."""
        lines = self._iptables("-L", "-v", "-n", "-x").splitlines()
        return sum(int(line.split()[0]) for line in lines if "DROP" in line)

    def _stop(self, direction: str, *rule: str) -> None:
        side = {"OUTPUT": "--dport", "INPUT": "--sport"}[direction]
        self._iptables("-A", direction, "-p", "tcp", side, str(self.proxy.port), *rule)

    def _iptables(self, *args: str) -> str:
        return _ip("netns", "exec", self.name, "iptables", "-w", *args)


def _ip(*args: str) -> str:
    done = subprocess.run(["ip", *args], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(args)}: {done.stderr}"
    return done.stdout
