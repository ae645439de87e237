"""Limit how often wrong tokens may be tried, with buckets that they empty and time refills. No I/O."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from labelloop.errors import LimitExceeded
from labelloop.runtime.client_addresses import client_group

AT_ONCE, AGAIN_S = 20, 3.0  # of one address, and seconds until one more
ALL_AT_ONCE, ALL_AGAIN_S = 500, 0.1
_ADDRESSES_MAX = 10_000  # whose buckets are kept: of more, those used longest ago are forgotten


class RateLimit:
    """A bucket for each address, or /64 network of IPv6, and one for all. ``now`` gives seconds.

    Only wrong tokens are counted, after they were compared: whoever knows the token gets in at once, whatever others
    try, also from the same address, which may be a proxy's. What keeps tokens from being found is their length.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._all = _Bucket(ALL_AT_ONCE, ALL_AGAIN_S, now())
        self._of: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._of)

    def note_wrong(self, address: str) -> None:
        """Count a wrong token; raise LimitExceeded if no try was left."""
        now_s, group = self._now(), client_group(address)
        own = self._of.pop(group, None) or _Bucket(AT_ONCE, AGAIN_S, now_s)
        self._of[group] = own
        if len(self._of) > _ADDRESSES_MAX:
            self._of.popitem(last=False)
        wait_s = math.ceil(max(own.take(now_s), self._all.take(now_s)))
        if wait_s > 0:
            message = f"that is not the token, and wrong ones were tried too often: try again in {wait_s} s"
            raise LimitExceeded("TOO_MANY_ATTEMPTS", message, retry_after_s=wait_s)


class _Bucket:
    def __init__(self, at_once: int, again_s: float, now_s: float) -> None:
        self._at_once, self._again_s = at_once, again_s
        self._left, self._at = float(at_once), now_s

    def take(self, now_s: float) -> float:
        """Take one try and return 0; if none is left, take none and return the seconds until there is one."""
        self._left, self._at = min(self._at_once, self._left + (now_s - self._at) / self._again_s), now_s
        if self._left < 1:
            return (1 - self._left) * self._again_s
        self._left -= 1
        return 0.0
