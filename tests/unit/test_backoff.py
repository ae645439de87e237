"""Backoff: pauses between tries."""

from __future__ import annotations

from itertools import pairwise

import pytest
from labelloop.runtime.backoff import Backoff
from tenacity import RetryError, Retrying, stop_after_attempt

TRIES = range(1, 12)


def test_pauses_double_up_to_the_limit() -> None:
    backoff = Backoff(0.5, 15.0)
    pauses = [backoff.pause_s(tries) for tries in TRIES]
    assert pauses[0] == 0.5
    assert all(later == min(2 * earlier, 15.0) for earlier, later in pairwise(pauses))
    assert pauses[-1] == 15.0


def test_a_billion_tries_still_have_the_longest_pause() -> None:
    assert Backoff(1.0, 30.0).pause_s(10**9) == 30.0


def test_jitter_lengthens_pauses_within_the_limit() -> None:
    backoff, plain = Backoff(0.2, 4.0, jitter_s=0.2), Backoff(0.2, 4.0)
    for tries in TRIES:
        least_s = plain.pause_s(tries)
        assert least_s <= backoff.pause_s(tries) <= min(least_s + 0.2, 4.0)
    assert len({backoff.pause_s(1) for _ in range(100)}) > 1


def test_tenacity_waits_for_the_pauses() -> None:
    waited: list[float] = []

    def fail() -> None:
        raise ConnectionError

    with pytest.raises(RetryError):
        Retrying(wait=Backoff(1.0, 3.0), stop=stop_after_attempt(4), sleep=waited.append)(fail)
    assert waited == [1.0, 2.0, 3.0]
