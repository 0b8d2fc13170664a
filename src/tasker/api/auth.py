"""Who asks: by TASKER_TOKEN, by a key of the store, or by none where none is needed.

A key is needed as soon as there is one, whether TASKER_TOKEN or one of the store, now or ever; always with
TASKER_AUTH=on, never with TASKER_AUTH=off.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Literal

from tasker.api.limits import Failures
from tasker.api.problems import Refused
from tasker.api.replies import Head, Header
from tasker.clock import Clock
from tasker.errors import Unavailable
from tasker.model.keys import ANYBODY, NOBODY, Caller
from tasker.service.keys import Keys

PUBLIC_PATHS = frozenset({"/livez", "/readyz"})
"""Served without a key, for Docker and Kubernetes: compared as a whole, never by how a path begins or ends."""
CHALLENGE: Header = (b"www-authenticate", b'Bearer realm="tasker"')
FAILURES_PER_MINUTE = 10
"""How many wrong keys of one address are answered as such."""


class Gate:
    """token: that of TASKER_TOKEN, an admin's key of nobody's."""

    def __init__(self, keys: Keys, mode: Literal["auto", "on", "off"], token: bytes | None, clock: Clock) -> None:
        self._keys = keys
        self._mode = mode
        self._token = token
        self._clock = clock
        self._failures = Failures(FAILURES_PER_MINUTE)

    async def admit(self, path: str, address: str, head: Head) -> None:
        """Note in `head` who asks. Raises Refused where a key is needed and none, or no good one, is shown."""
        if self._mode == "off":
            head.caller = ANYBODY
            return
        try:
            if not self._keys.is_loaded:
                await self._keys.refresh()
            head.caller = await self._identify(address, head.headers.get(b"authorization"))
        except (Refused, Unavailable):
            if path not in PUBLIC_PATHS:
                raise
            head.caller = NOBODY

    async def _identify(self, address: str, authorization: bytes | None) -> Caller:
        if self._mode == "auto" and self._token is None and not self._keys.are_used:
            return ANYBODY
        if authorization is None:
            raise Refused("unauthorized", "send `Authorization: Bearer <key>`", CHALLENGE)
        scheme, _, given = authorization.partition(b" ")
        if scheme.lower() == b"bearer":
            given = given.strip()
            if self._token is not None and compare_digest(given, self._token):
                return ANYBODY
            # Who has failed too often is still let in with a key that is known here, without another look at the store.
            look = not self._failures.is_over(address, self._clock.monotonic())
            found = await self._keys.identify(given.decode("latin-1"), look=look)
            if found is not None:
                return found[1]
        raise self._failed(address)

    def _failed(self, address: str) -> Refused:
        wait = self._failures.count(address, self._clock.monotonic())
        if wait:
            after = (b"retry-after", b"%d" % wait)
            return Refused("rate-limited", "too many wrong keys came from this address", after)
        return Refused("unauthorized", "the key is wrong, revoked or past its time", CHALLENGE)
