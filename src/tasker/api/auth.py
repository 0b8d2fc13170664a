"""Authentication: by TASKER_TOKEN, by a key of the store, or without a key where none is needed.

With TASKER_AUTH=auto a key is needed if TASKER_TOKEN is set or the store has ever had a key; with `on` always, with
`off` never.
"""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from hmac import compare_digest
from typing import Literal

from tasker.api import docs
from tasker.api.limits import Bucket, Failures, limit_headers
from tasker.api.problems import Refused
from tasker.api.replies import Head, Header
from tasker.clock import Clock
from tasker.errors import Unavailable
from tasker.model.keys import ANYBODY, NOBODY, Caller, Key
from tasker.service.keys import Keys

PUBLIC_PATHS = docs.PUBLIC_PATHS | {"/livez", "/readyz"}
"""Served without a key, for browsers and probes: compared as whole paths, never by prefix or suffix."""
CHALLENGE: Header = (b"www-authenticate", b'Bearer realm="tasker"')
FAILURES_PER_MINUTE = 10
"""Wrong keys from one address that are answered 401; more are answered 429."""


class Gate:
    """Identifies callers and limits their rate. token: TASKER_TOKEN, an admin's key without an owner."""

    def __init__(self, keys: Keys, mode: Literal["auto", "on", "off"], token: bytes | None, clock: Clock) -> None:
        self._keys = keys
        self._mode = mode
        self._token = token
        self._clock = clock
        self._failures = Failures(FAILURES_PER_MINUTE)
        self._buckets: dict[str, Bucket] = {}

    async def admit(self, path: str, head: Head) -> None:
        """Set the caller in `head`. Raises Refused if a needed key is missing or invalid, or a key is over its rate."""
        try:
            if await self.needs_key():
                await self._identify(head)
            else:
                head.caller = ANYBODY
        except (Refused, Unavailable):
            if path not in PUBLIC_PATHS:
                raise
            head.caller = NOBODY

    async def needs_key(self) -> bool:
        """Tell whether a key is needed. Raises Unavailable while the keys cannot be loaded."""
        if self._mode == "off":
            return False
        if not self._keys.is_loaded:
            await self._keys.refresh()
        return self._mode == "on" or self._token is not None or self._keys.are_used

    @property
    def token_digest(self) -> bytes:
        """The SHA-256 of TASKER_TOKEN, b"" without one."""
        return b"" if self._token is None else sha256(self._token).digest()

    async def recognise(self, head: Head, given: bytes) -> str | None:
        """Return the id of the key with this text, None for TASKER_TOKEN. Raises Refused, as for a request with it."""
        if self._token is not None and compare_digest(given, self._token):
            return None
        return (await self._find(head, given))[0].key_id

    def welcome(self, head: Head, key_id: str) -> bool:
        """Admit the bearer of a key that was recognised before; return whether it is still valid. Raises Refused."""
        key = self._keys.find(key_id)
        if key is None or not self._keys.is_good(key_id):
            return False
        self._welcome(head, key, key.caller)
        return True

    async def _identify(self, head: Head) -> None:
        authorization = head.headers.get(b"authorization")
        if authorization is None:
            raise Refused("unauthorized", "send `Authorization: Bearer <key>`", CHALLENGE)
        scheme, _, given = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise self._failed(head.address)
        given = given.strip()
        if self._token is not None and compare_digest(given, self._token):
            head.caller = ANYBODY
            return
        self._welcome(head, *await self._find(head, given))

    async def _find(self, head: Head, given: bytes) -> tuple[Key, Caller]:
        """Return the key with this text, and its caller. Raises Refused."""
        # An address with too many failures is still admitted with a cached key, but reads the store no more.
        look = not self._failures.is_over(head.address, self._clock.monotonic())
        found = await self._keys.identify(given.decode("latin-1"), look=look)
        if found is None:
            raise self._failed(head.address)
        return found

    def _welcome(self, head: Head, key: Key, caller: Caller) -> None:
        """Admit the bearer of a valid key, within its rate. Raises Refused."""
        head.caller = caller
        head.is_welcome = partial(self._keys.is_good, key.key_id)
        if key.rate is None or key.burst is None:
            return
        now = self._clock.monotonic()
        bucket = self._buckets.get(key.key_id)
        if bucket is None:
            bucket = self._buckets[key.key_id] = Bucket(key.rate, key.burst, now)
        taken = bucket.take(now)
        head.limits = limit_headers(bucket)
        if not taken:
            after = (b"retry-after", b"%d" % bucket.seconds_to_next())
            raise Refused("rate-limited", f"the key allows {key.rate:g} requests a second, {key.burst} at once", after)

    def _failed(self, address: str) -> Refused:
        wait = self._failures.count(address, self._clock.monotonic())
        if wait:
            after = (b"retry-after", b"%d" % wait)
            return Refused("rate-limited", "too many wrong keys came from this address", after)
        return Refused("unauthorized", "the key is wrong, revoked or expired", CHALLENGE)
