"""Mapping of samples to shards, and of shards to replicas."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from trainer_svc.scorers.sharding import Shards, share_out

REPLICAS = [f"10.0.0.{number}:50052" for number in range(5)]
KEYS = {place: f"{place:064x}" for place in range(200)}


def owners(replicas: list[str]) -> dict[int, str]:
    """The replica of each place."""
    return {place: replica for replica, places in share_out(KEYS, replicas).items() for place in places}


@given(st.lists(st.sampled_from(REPLICAS), min_size=1, unique=True))
def test_each_key_has_one_replica_regardless_of_their_order(replicas: list[str]) -> None:
    parts = share_out(KEYS, replicas)
    assert sorted(place for places in parts.values() for place in places) == sorted(KEYS)
    assert owners(replicas) == owners(sorted(replicas))


@given(st.sampled_from(REPLICAS))
def test_only_the_keys_of_a_removed_replica_move(gone: str) -> None:
    before, after = owners(REPLICAS), owners([replica for replica in REPLICAS if replica != gone])
    assert {place for place in KEYS if before[place] != after[place]} == {p for p in KEYS if before[p] == gone}
    assert len({after[place] for place in KEYS if before[place] == gone}) > 1  # not all to one


def test_every_replica_gets_about_its_share() -> None:
    shares = [len(places) for places in share_out(KEYS, REPLICAS).values()]
    assert len(shares) == len(REPLICAS)
    assert max(shares) < 2 * len(KEYS) / len(REPLICAS)


def test_a_sample_is_in_the_shard_that_has_its_id() -> None:
    shards = Shards.of(["a", "b", "c"], [2, 3, 1])
    assert shards.places([0, 1, 2, 4, 5, 6, 2**32 - 1]).tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert set(shards.undivided("pool").places([0, 2**32 - 1])) == {0}


def test_free_ids_of_shards_exclude_those_left_out() -> None:
    shards = Shards.of(["a", "b", "c"], [2, 3, 1])
    assert list(shards.free_ids([0, 2], BitMap([1, 3]))) == [0, 5]
    assert list(shards.free_ids([1], BitMap([1, 3]))) == [2, 4]
