"""Archives of runs: events in, the same events out, and nothing else is taken."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelloop.artifacts.archive_file import pack, unpack
from labelloop.errors import Corrupt

from tests.examples import examples

EVENTS = [b"one", b"", b"three" * 1_000]
HEAD = b"labelloop-run-archive 1\n"


@given(st.lists(st.binary(max_size=200), max_size=20))
@settings(max_examples=examples(50), deadline=None)
def test_events_come_out_as_they_went_in(events: list[bytes]) -> None:
    assert list(unpack(pack(events), len(events))) == events


@pytest.mark.parametrize("count", [0, 2, 4])
def test_another_number_of_events_is_corrupt(count: int) -> None:
    with pytest.raises(Corrupt, match="no archive of a run"):
        list(unpack(pack(EVENTS), count))


@given(st.data())
@settings(max_examples=examples(200), deadline=None)
def test_damaged_archives_are_corrupt_and_nothing_else(data: st.DataObject) -> None:
    whole = pack(EVENTS)
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = data.draw(
        st.sampled_from(
            [whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :], whole + b"x", whole[at:], b""]
        ).filter(lambda each: each != whole)
    )
    with pytest.raises(Corrupt):
        list(unpack(damaged, len(EVENTS)))


def test_a_length_beyond_any_event_is_refused_before_it_is_read() -> None:
    bomb = HEAD + zlib.compress((2**62).to_bytes(8, "big") + bytes(200_000_000), 9)
    tracemalloc.start()
    with pytest.raises(Corrupt, match="bytes"):
        list(unpack(bomb, 1))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_zeros_behind_the_last_event_are_not_unpacked_at_once() -> None:
    bomb = HEAD + zlib.compress((1).to_bytes(8, "big") + b"x" + bytes(200_000_000), 9)
    tracemalloc.start()
    with pytest.raises(Corrupt, match="more than 1 events"):
        list(unpack(bomb, 1))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000
