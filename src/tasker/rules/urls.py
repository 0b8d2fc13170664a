"""Where a webhook may lead: reads a receiver's URL strictly and vets it. Pure: nothing is resolved here.

Connections are made to the vetted `Target`, so that no second parser can read the URL differently.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from msgspec import Struct

MAX_URL = 2048
"""Characters of a URL."""

_VISIBLE_ASCII = re.compile(r"[!-~]*")
_PARTS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(//(?P<authority>[^/?#]*))?(?P<target>[^#]*)(?P<fragment>#.*)?"
)
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:@\[\]]+)(:(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_TARGET = re.compile(r"([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
_LOCAL_SUFFIXES = ("localhost", "local", "internal", "intranet", "lan", "home.arpa", "localdomain")
_PORTS = """
1719 1720 1723 2049 3306 3659 4045 4190 5060 5061 5432 6000 6379 6566 6665 6666 6667 6668 6669 6679 6697 10080 11211
27017
"""
_OTHER_SERVICES = frozenset(map(int, _PORTS.split()))
"""Ports from 1024 on of protocols other than HTTP, whose servers might take a request for their own commands."""

_NETWORKS = """
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24
192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/3
::/96 ::ffff:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/23 2001:db8::/32 2002::/16 3fff::/20 5f00::/16 fc00::/7
fe80::/10 fec0::/10 ff00::/8
"""
DENIED: tuple[IPv4Network | IPv6Network, ...] = tuple(map(ip_network, _NETWORKS.split()))
"""Where no webhook leads: this machine, private and link-local networks, and addresses that map to others.

This list is our own: the tables of `ipaddress` have been wrong, and change with the version of Python.
"""


class UrlRules(Struct, frozen=True):
    """What is allowed. insecure: http and private addresses too. hosts: if any, only these (`*.name`: all below it)."""

    insecure: bool = False
    hosts: tuple[str, ...] = ()


class Target(Struct, frozen=True):
    """A receiver. `host`: a lower-case name, or an address in its usual spelling; `path` includes the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host and port in the form of a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == (443 if self.scheme == "https" else 80)
        return host if usual else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


class UnsafeUrl(ValueError):
    """A URL or an address that no webhook may lead to."""


def read_url(url: str, rules: UrlRules) -> Target:
    """Return where `url` leads. Raises UnsafeUrl, which says what is wrong."""
    if len(url) > MAX_URL or not _VISIBLE_ASCII.fullmatch(url):
        raise UnsafeUrl(f"expected at most {MAX_URL:,} characters, all visible ASCII (a name in its xn-- form)")
    parts = _PARTS.fullmatch(url)
    if parts is None or not parts["authority"]:
        raise UnsafeUrl("expected a URL like https://example.com/hook")
    scheme = parts["scheme"].lower()
    if scheme not in (("https", "http") if rules.insecure else ("https",)):
        raise UnsafeUrl(f"expected https{' or http' if rules.insecure else ''}, got {scheme}")
    if parts["fragment"] is not None or not _TARGET.fullmatch(parts["target"]):
        raise UnsafeUrl("expected a path and query in percent-encoding, without a fragment")
    host, port = _read_authority(parts["authority"], 443 if scheme == "https" else 80)
    target = parts["target"]
    found = Target(scheme, _check_host(host, rules), port, target if target.startswith("/") else f"/{target}")
    _check_listed(found.host, rules)
    return found


def check_addresses(addresses: Sequence[str], rules: UrlRules) -> list[str]:
    """Return the addresses that a name resolved to. Raises UnsafeUrl unless all of them are allowed."""
    if not addresses:
        raise UnsafeUrl("the name has no address")
    for address in addresses:
        try:
            _check_address(ip_address(address.partition("%")[0]), rules)
        except UnsafeUrl:  # naming the address would disclose internal names
            raise UnsafeUrl("the host has an address that is not public") from None
    return list(addresses)


def _read_authority(authority: str, default_port: int) -> tuple[str, int]:
    if "@" in authority:
        raise UnsafeUrl("expected no user or password in the URL")
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        raise UnsafeUrl("expected a host name or an address, and maybe a port")
    port = default_port if found["port"] is None else int(found["port"])
    if port not in (80, 443) and not (1024 <= port <= 65535 and port not in _OTHER_SERVICES):
        raise UnsafeUrl(f"expected port 443, 80, or one from 1024 on that is no other service's, got {port}")
    return found["host"], port


def _check_host(host: str, rules: UrlRules) -> str:
    """Return the host in its usual spelling."""
    name = host.lower().removesuffix(".")
    if name.startswith("["):
        return _check_address(_address(name[1:-1]), rules)
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):  # resolvers read such a name as an IPv4 address, in any spelling
        return _check_address(_address(name), rules)
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise UnsafeUrl("expected a host name of letters, digits, hyphens and dots")
    is_local = len(labels) == 1 or any(name == suffix or name.endswith(f".{suffix}") for suffix in _LOCAL_SUFFIXES)
    if is_local and not rules.insecure:
        raise UnsafeUrl(f"expected a public host name, got {name}")
    return name


def _address(text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError:
        raise UnsafeUrl("expected an address in its usual spelling, like 203.0.113.7") from None


def _check_address(address: IPv4Address | IPv6Address, rules: UrlRules) -> str:
    if not rules.insecure and any(address in network for network in DENIED if network.version == address.version):
        raise UnsafeUrl(f"expected a public address, got {address}")
    return str(address)


def _check_listed(host: str, rules: UrlRules) -> None:
    if rules.hosts and not any(_matches(host, pattern.lower()) for pattern in rules.hosts):
        raise UnsafeUrl(f"expected a host that TASKER_WEBHOOK_HOSTS lists, got {host}")


def _matches(host: str, pattern: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
