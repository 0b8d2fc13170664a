"""The use cases of API keys: create, list, revoke, and identify the caller that shows one.

A key is `tsk_<id>_<secret>`. All keys are in memory, so a check reads nothing from the store. Changes by other
processes are seen at the next `refresh`; an unknown key is looked up before it is refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from datetime import datetime, timedelta

from msgspec import Struct, structs

from tasker.clock import Clock
from tasker.engines.protocol import KeyStore
from tasker.errors import Fault, Invalid, NotFound
from tasker.model.keys import Caller, Key, Scope

MAX_KEYS = 5000
"""Limit of valid keys: each process has all of them in memory."""
_ID_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
_ID_LENGTH = 12
_PREFIX = "tsk"
_MAX_LIFE = timedelta(days=36_525)
"""Longest life of a key: later dates may have no UTC form."""


class NewKey(Struct, frozen=True, kw_only=True):
    """The settings of a new key. The owner defaults to the name, the name to the id."""

    scopes: tuple[Scope, ...]
    name: str | None = None
    owner: str | None = None
    expires_at: datetime | None = None
    rate: float | None = None
    burst: int | None = None
    daily_budget: float | None = None


class Keys:
    """The keys of a store. is_shared: whether other processes may change them."""

    def __init__(self, store: KeyStore, clock: Clock, *, is_shared: bool) -> None:
        self._store = store
        self._clock = clock
        self._is_shared = is_shared
        self._version: int | None = None
        self._known: dict[str, tuple[Key, Caller]] = {}
        self._uses: dict[str, datetime] = {}
        self._refreshed_at = float("-inf")
        self._refreshing = asyncio.Lock()
        self._begun = self._done = 0

    async def create(self, new: NewKey) -> tuple[Key, str]:
        """Store a new key; return it and its text, which is not stored and cannot be shown again.

        Raises Invalid, Conflict (there are MAX_KEYS valid keys).
        """
        key, shown = _make_key(new, self._clock.now())
        await self._store.add(key, most=MAX_KEYS)
        await self.refresh()
        return key, shown

    async def find_all(self) -> list[Key]:
        """Return every key in order of creation, including revoked and expired keys."""
        return [self._with_last_use(key) for key in await self._store.find_all()]

    async def get(self, key_id: str) -> Key:
        """Return a key. Raises NotFound."""
        found = next((key for key in await self.find_all() if key.key_id == key_id), None)
        if found is None:
            raise _no_key(key_id)
        return found

    async def revoke(self, key_id: str) -> Key:
        """Revoke a key: at once in this process, in others with their next `refresh`. Raises NotFound."""
        key = await self._store.revoke(key_id)
        if key is None:
            raise _no_key(key_id)
        await self.refresh()
        return key

    @property
    def is_loaded(self) -> bool:
        """Whether the keys are loaded: before that, no request can be accepted or refused."""
        return self._version is not None

    @property
    def are_used(self) -> bool:
        """Whether there is or ever was a key."""
        return bool(self._known)

    def is_good(self, key_id: str) -> bool:
        """Tell whether a key is still valid, as far as this process knows."""
        known = self._known.get(key_id)
        return known is not None and known[0].is_good(self._clock.now())

    def find(self, key_id: str) -> Key | None:
        """Return a key as this process knows it; None for an unknown one."""
        known = self._known.get(key_id)
        return None if known is None else known[0]

    def budgets(self, owner: str) -> list[float | None]:
        """Return the daily budgets of an owner's valid keys."""
        now = self._clock.now()
        return [key.daily_budget for key, _ in self._known.values() if key.owner == owner and key.is_good(now)]

    @property
    def have_budgets(self) -> bool:
        """Whether any valid key has a daily budget."""
        now = self._clock.now()
        return any(key.daily_budget is not None and key.is_good(now) for key, _ in self._known.values())

    async def identify(self, shown: str, *, look: bool = True) -> tuple[Key, Caller] | None:
        """Return the key with this text, and its caller; None if it is no valid key.

        look: whether to look up an unknown key, which another process may have just created.
        """
        prefix, _, rest = shown.partition("_")
        key_id, _, secret = rest.partition("_")
        if prefix != _PREFIX or not secret:
            return None
        known = self._known.get(key_id)
        if known is None and look and self._is_shared and len(key_id) == _ID_LENGTH:
            await self._look_again()
            known = self._known.get(key_id)
        if known is None or not hmac.compare_digest(known[0].digest, _digest(secret)):
            return None
        now = self._clock.now()
        if not known[0].is_good(now):
            return None
        self._uses[key_id] = now
        return known

    async def refresh(self) -> int:
        """Reload the keys if any has changed; return how many there are then, else 0."""
        asked = self._clock.monotonic()
        version = await self._store.version()  # read first: the keys are at least as new
        has_changed = version != self._version
        if has_changed:
            self._known = {key.key_id: (key, key.caller) for key in await self._store.find_all()}
            self._version = version
        self._refreshed_at = asked
        return len(self._known) if has_changed else 0

    async def refresh_after(self, age: timedelta) -> None:
        """Refresh the keys if that was done at least `age` ago; waiting callers share one. Raises Unavailable."""
        if not self._is_shared or self._is_younger(age):
            return
        async with self._refreshing:
            if not self._is_younger(age):
                await self.refresh()

    def _is_younger(self, age: timedelta) -> bool:
        return self._clock.monotonic() - self._refreshed_at < age.total_seconds()

    async def _look_again(self) -> None:
        """Wait for a refresh that begins after this call; waiting callers share one."""
        asked = self._begun
        async with self._refreshing:
            if self._done <= asked:
                self._begun += 1
                await self.refresh()
                self._done = self._begun

    async def page_secret(self) -> bytes:
        """Return the secret for the cookies and forms of pages, the same in every process. Raises Unavailable."""
        return hmac.digest(await self._store.cursor_secret(), b"tasker pages", "sha256")

    async def record_uses(self) -> int:
        """Store when keys were last used; return how many."""
        uses, self._uses = self._uses, {}
        if uses:
            await self._store.record_uses(uses)
        return len(uses)

    def _with_last_use(self, key: Key) -> Key:
        used = self._uses.get(key.key_id)
        if used is None or (key.last_used_at is not None and key.last_used_at > used):
            return key
        return structs.replace(key, last_used_at=used)


def _no_key(key_id: str) -> NotFound:
    return NotFound(f"there is no key {key_id[:100]!r}; GET /key lists them")


def _make_key(new: NewKey, now: datetime) -> tuple[Key, str]:
    """Return a new key and its text. Raises Invalid for an end in the past, or too far ahead."""
    if new.expires_at is not None and not now < new.expires_at <= now + _MAX_LIFE:
        fault = Fault("/expires_at", "expected a time in the future, at most a hundred years ahead")
        raise Invalid("the key must expire in the future, within a hundred years", faults=[fault])
    key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))
    secret = secrets.token_urlsafe(32)
    name = new.name or key_id
    key = Key(
        key_id=key_id,
        name=name,
        owner=new.owner or name,
        scopes=tuple(dict.fromkeys(new.scopes)),
        digest=_digest(secret),
        created_at=now,
        expires_at=new.expires_at,
        rate=new.rate,
        burst=_burst(new),
        daily_budget=new.daily_budget,
    )
    return key, f"{_PREFIX}_{key_id}_{secret}"


def _burst(new: NewKey) -> int | None:
    """Return how many requests may come at once: by default two seconds' worth."""
    if new.rate is None:
        return None
    return new.burst or max(1, round(new.rate * 2))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
