"""Sealed cursors of lists and streams: an engine's own cursor would show clients how much is stored.

A client gets the engine's cursor, encrypted and authenticated (AES-SIV, RFC 5297) for its list. All processes of a
store share the secret. Equal cursors are sealed alike, so an event has the same id from every process.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from msgspec import structs

from tasker.engines.protocol import KeyStore
from tasker.errors import Fault, Invalid
from tasker.model.pages import PageOf

Listed = Literal[
    "task", "schedule", "webhook", "delivery", "audit", "bulk", "bulks", "count", "event", "failure", "group"
]
_SALT = 4
"""Bytes before the cursor: zero, or random if equal cursors must differ."""

P = TypeVar("P", bound=PageOf[Any])


class Seal:
    """Seals and opens the cursors of one list. pointer: where a request has its cursor, for errors."""

    def __init__(self, cipher: AESSIV, listed: Listed, pointer: str) -> None:
        self._cipher = cipher
        self._context = [listed.encode()]
        self._pointer = pointer

    def close(self, cursor: str, *, anew: bool = False) -> str:
        """Return the cursor for a client. anew: add a random salt, so that nobody sees which cursors are equal."""
        salt = secrets.token_bytes(_SALT) if anew else bytes(_SALT)
        sealed = self._cipher.encrypt(salt + cursor.encode(), self._context)
        return _text_of(sealed)

    def open(self, sealed: str) -> str:
        """Return the engine's cursor. Raises Invalid for one that this list did not return."""
        try:
            data = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
            if _text_of(data) != sealed:  # base64 ignores the last bits: RFC 4648, section 3.5
                raise InvalidTag
            return self._cipher.decrypt(data, self._context)[_SALT:].decode()
        except (binascii.Error, ValueError, InvalidTag):
            fault = Fault(self._pointer, "expected the cursor of an earlier answer; begin without one")
            raise Invalid("the cursor is not one that this service gave out", faults=[fault]) from None


def _text_of(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


class Cursors:
    """The seals of a store, by list."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._cipher: AESSIV | None = None

    async def of(self, listed: Listed, pointer: str = "/cursor") -> Seal:
        """Return the seal of a list. Raises Unavailable."""
        if self._cipher is None:
            self._cipher = AESSIV(await self._store.cursor_secret())
        return Seal(self._cipher, listed, pointer)

    async def page(self, listed: Listed, cursor: str | None, find: Callable[[str | None], Awaitable[P]]) -> P:
        """Find a page by a client's cursor; return it with its next cursor sealed.

        Raises Invalid for a cursor that no page returned, and what `find` raises.
        """
        seal = await self.of(listed)
        page = await find(None if cursor is None else seal.open(cursor))
        return page if page.next_cursor is None else structs.replace(page, next_cursor=seal.close(page.next_cursor))
