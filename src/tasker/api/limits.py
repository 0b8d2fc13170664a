"""Token buckets of this process: the request rate of a key, the rate of failed authentications of an address."""

from __future__ import annotations

from collections import OrderedDict
from math import ceil

from tasker.api.replies import Header

_MAX_ADDRESSES = 10_000


class Bucket:
    """A token bucket of at most `burst` tokens, `rate` more each second; times are seconds of a monotonic clock."""

    __slots__ = ("_level", "_since", "burst", "rate")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._level = float(burst)
        self._since = now

    def take(self, now: float) -> bool:
        """Take a token; return False if there is none."""
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
        """Whole tokens, as of the last call with a time."""
        return int(self._level)

    def seconds_to_next(self) -> int:
        """Return the whole seconds, at least one, until there is a token, as of the last call with a time."""
        return max(1, ceil((1 - self._level) / self.rate))

    def seconds_to_full(self) -> int:
        """Return the whole seconds until it is full again, as of the last call with a time."""
        return ceil((self.burst - self._level) / self.rate)

    def _fill(self, now: float) -> None:
        self._level = min(self.burst, self._level + (now - self._since) * self.rate)
        self._since = now


def limit_headers(bucket: Bucket) -> tuple[Header, ...]:
    """Return the headers for a client's rate (draft-ietf-httpapi-ratelimit-headers-11), as of the last `take`."""
    window = ceil(bucket.burst / bucket.rate)
    return (
        (b"ratelimit-policy", b'"key";q=%d;w=%d' % (bucket.burst, window)),
        (b"ratelimit", b'"key";r=%d;t=%d' % (bucket.left, bucket.seconds_to_full())),
    )


class Failures:
    """Failed authentications by address: a token bucket each, of `per_minute` failures, refilled within a minute."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def is_over(self, address: str, now: float) -> bool:
        """Tell whether an address has used up its failures."""
        bucket = self._buckets.get(address)
        return bucket is not None and bucket.is_empty(now)

    def count(self, address: str, now: float) -> int:
        """Count a failure; return 0 if it was within the limit, else the seconds until the next one is allowed."""
        bucket = self._buckets.get(address)
        if bucket is None:
            bucket = self._buckets[address] = Bucket(self._per_minute / 60, self._per_minute, now)
            if len(self._buckets) > _MAX_ADDRESSES:
                self._buckets.popitem(last=False)
        return 0 if bucket.take(now) else bucket.seconds_to_next()
