"""Token buckets: how often a key may ask, and how often an address may fail to show one. Of this process alone."""

from __future__ import annotations

from collections import OrderedDict
from math import ceil

from tasker.api.replies import Header

_MAX_ADDRESSES = 10_000


class Bucket:
    """`burst` tokens at the most, `rate` more each second; times are of a monotonic clock, in seconds."""

    __slots__ = ("_level", "_since", "burst", "rate")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._level = float(burst)
        self._since = now

    def take(self, now: float) -> bool:
        """Take a token, if there is one."""
        self._fill(now)
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def is_empty(self, now: float) -> bool:
        """Tell whether there is no token."""
        self._fill(now)
        return self._level < 1

    @property
    def left(self) -> int:
        """How many whole tokens there are: as of the last look."""
        return int(self._level)

    def seconds_to_next(self) -> int:
        """Return in how many whole seconds, at least one, there is a token: as of the last look."""
        return max(1, ceil((1 - self._level) / self.rate))

    def seconds_to_full(self) -> int:
        """Return in how many whole seconds it is full again: as of the last look."""
        return ceil((self.burst - self._level) / self.rate)

    def _fill(self, now: float) -> None:
        self._level = min(self.burst, self._level + (now - self._since) * self.rate)
        self._since = now


def limit_headers(bucket: Bucket) -> tuple[Header, ...]:
    """Return what a client is told of its rate (draft-ietf-httpapi-ratelimit-headers-11), as of the last look."""
    window = ceil(bucket.burst / bucket.rate)
    return (
        (b"ratelimit-policy", b'"key";q=%d;w=%d' % (bucket.burst, window)),
        (b"ratelimit", b'"key";r=%d;t=%d' % (bucket.left, bucket.seconds_to_full())),
    )


class Failures:
    """How often each address may fail: `per_minute`, then as often again each minute."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def is_over(self, address: str, now: float) -> bool:
        """Tell whether an address has failed too often."""
        bucket = self._buckets.get(address)
        return bucket is not None and bucket.is_empty(now)

    def count(self, address: str, now: float) -> int:
        """Note a failure; return 0, or in how many seconds the next one would be answered."""
        bucket = self._buckets.get(address)
        if bucket is None:
            bucket = self._buckets[address] = Bucket(self._per_minute / 60, self._per_minute, now)
            if len(self._buckets) > _MAX_ADDRESSES:
                self._buckets.popitem(last=False)
        return 0 if bucket.take(now) else bucket.seconds_to_next()
