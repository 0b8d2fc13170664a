"""The static files of the pages: each has its hash in its address, so that browsers keep it for a year."""

from __future__ import annotations

import gzip
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

from tasker.api.replies import Header, Reply

_FILES = {
    "app.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "form.js": "text/javascript; charset=utf-8",
    "task.js": "text/javascript; charset=utf-8",
    "htmx/htmx.min.js": "text/javascript; charset=utf-8",
    "htmx/hx-sse.min.js": "text/javascript; charset=utf-8",
}
_HEADERS: tuple[Header, ...] = (
    (b"cache-control", b"public, max-age=31536000, immutable"),
    (b"vary", b"accept-encoding"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Asset(NamedTuple):
    """A static file: its name with its hash, and what is sent."""

    address: str
    media: bytes
    plain: bytes
    packed: bytes

    def reply(self, *, packed: bool) -> Reply:
        """Return the file; packed: as gzip."""
        own = ((b"content-type", self.media), *_HEADERS)
        if packed:
            return Reply(200, self.packed, (*own, (b"content-encoding", b"gzip")))
        return Reply(200, self.plain, own)


class Assets:
    """The static files, by name and by address."""

    def __init__(self) -> None:
        made = {name: _make(name, media) for name, media in _FILES.items()}
        self._addresses = {name: asset.address for name, asset in made.items()}
        self._by_address = {asset.address: asset for asset in made.values()}

    def address(self, name: str) -> str:
        """Return the address of a file below the folder `static`."""
        return self._addresses[name]

    def find(self, address: str) -> Asset | None:
        """Return the file at an address."""
        return self._by_address.get(address)


@lru_cache(maxsize=1)
def load_assets() -> Assets:
    """Return the static files, read once."""
    return Assets()


def _make(name: str, media: str) -> Asset:
    plain = files("tasker.web").joinpath("static", *name.split("/")).read_bytes()
    stem, _, kind = name.rpartition("/")[2].rpartition(".")
    address = f"{stem}.{sha256(plain).hexdigest()[:12]}.{kind}"
    return Asset(address, media.encode(), plain, gzip.compress(plain, 9, mtime=0))
