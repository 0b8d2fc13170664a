"""Sign-in: the cookie that stands for a key, and the tokens in forms.

A cookie holds the key's id, when it ends, and a MAC by a secret of the store, so every process can check it and nobody
else can make one. It counts for the pages alone: the API takes `Authorization: Bearer` only. Its path is the folder of
the page that sets it, so a proxy may serve the pages below any prefix.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import NamedTuple

from tasker.api.auth import CHALLENGE, Gate
from tasker.api.problems import Refused
from tasker.api.replies import Head, Header
from tasker.clock import Clock
from tasker.model.keys import ANYBODY, NOBODY
from tasker.service.keys import Keys

COOKIE = "tasker"
LASTS = timedelta(hours=8)
_OF_TOKEN = "token"  # noqa: S105  stands for TASKER_TOKEN in place of a key's id
_STATIC = "/ui/static/"
_PUBLIC = frozenset({"/", "/ui", "/ui/signin"})
"""Served without a key, as whole paths, besides the static files."""


class Session(NamedTuple):
    """A cookie whose MAC is right. ends: in seconds since 1970."""

    key_id: str
    ends: int


class Sessions:
    """Makes and checks cookies and the tokens of forms. gate: knows the keys, and limits how many wrong ones come."""

    def __init__(self, keys: Keys, gate: Gate, clock: Clock) -> None:
        self._keys = keys
        self._gate = gate
        self._clock = clock
        self._secret: bytes | None = None

    async def ready(self) -> None:
        """Read the secret of the store. Raises Unavailable."""
        if self._secret is None:
            self._secret = await self._keys.page_secret()

    async def admit(self, path: str, head: Head) -> None:
        """Set the caller in `head`. Raises Refused if a key is needed and the cookie does not stand for one."""
        if path.startswith(_STATIC):  # neither asks who it is, nor counts for the key's rate
            head.caller = NOBODY
            return
        if not await self._gate.needs_key():
            head.caller = ANYBODY
            return
        try:
            await self.ready()
            self._recognise(head)
        except Refused:
            if path not in _PUBLIC:
                raise
            head.caller = NOBODY

    def _recognise(self, head: Head) -> None:
        session = self._read(cookie_of(head))
        now = self._clock.now().timestamp()
        if session is None or now >= session.ends:
            raise Refused("unauthorized", "sign in with a key", CHALLENGE)
        if session.key_id == _OF_TOKEN:
            head.caller = ANYBODY
            head.is_welcome = partial(self._is_on, session.ends, _always)
            return
        if not self._gate.welcome(head, session.key_id):
            raise Refused("unauthorized", "the key is revoked or expired: sign in with another", CHALLENGE)
        head.is_welcome = partial(self._is_on, session.ends, head.is_welcome)

    def _is_on(self, ends: int, key_is_good: Callable[[], bool]) -> bool:
        return self._clock.now().timestamp() < ends and key_is_good()

    async def sign_in(self, head: Head, key: str) -> Header:
        """Return the header that sets the cookie for a key. Raises Refused for a wrong one, or too many of them."""
        await self.ready()
        key_id = await self._gate.recognise(head, key.strip().encode()) or _OF_TOKEN
        ends = int(self._clock.now().timestamp() + LASTS.total_seconds())
        return _set_cookie(f"{key_id}.{ends}.{self._cookie_mac(key_id, ends)}", head, LASTS)

    def sign_out(self, head: Head) -> Header:
        """Return the header that removes the cookie."""
        return _set_cookie("", head, timedelta(0))

    def token(self, head: Head) -> str:
        """Return the token for the forms of this session; "" while the secret is not known."""
        return "" if self._secret is None else self._mac(b"form", cookie_of(head).encode())

    def check_token(self, head: Head, given: str) -> None:
        """Raises Refused for a form that does not come from a page of this session."""
        if not given or not hmac.compare_digest(given.encode(), self.token(head).encode()):
            raise Refused("cross-origin", "the form is from another session: load its page again and repeat")

    def _read(self, cookie: str) -> Session | None:
        key_id, _, rest = cookie.partition(".")
        ends, _, mac = rest.partition(".")
        if not (ends.isascii() and ends.isdigit() and len(ends) < 20):
            return None
        session = Session(key_id, int(ends))
        return session if hmac.compare_digest(mac.encode(), self._cookie_mac(*session).encode()) else None

    def _cookie_mac(self, key_id: str, ends: int) -> str:
        """Return the MAC of a cookie. That of TASKER_TOKEN depends on it: another token ends its sessions."""
        bound = self._gate.token_digest if key_id == _OF_TOKEN else b""
        return self._mac(b"cookie", f"{key_id}.{ends}".encode(), bound)

    def _mac(self, purpose: bytes, *parts: bytes) -> str:
        assert self._secret is not None  # `ready` has been called
        digest = hmac.digest(self._secret, b"\0".join((purpose, *parts)), "sha256")
        return urlsafe_b64encode(digest).rstrip(b"=").decode()


def _always() -> bool:
    return True


def cookie_of(head: Head) -> str:
    """Return the value of the sign-in cookie, "" if there is none."""
    sent = head.headers.get(b"cookie")
    if sent is None:
        return ""
    for part in sent.decode("latin-1").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def _set_cookie(value: str, head: Head, lasts: timedelta) -> Header:
    parts = [f"{COOKIE}={value}", f"Max-Age={int(lasts.total_seconds())}", "HttpOnly", "SameSite=Strict"]
    if head.headers.get(b"origin", b"").startswith(b"https://"):  # the page that posts it came over TLS
        parts.append("Secure")
    return (b"set-cookie", "; ".join(parts).encode())
