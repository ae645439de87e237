"""Find the shard that holds a sample, and the replica that a shard is assigned to. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap


@dataclass(frozen=True)
class Shards:
    """The shards of a pool.

    Attributes:
        digests: Digests of the shards, in order of their sample ids.
        ends: First sample id after each shard, ``[shards]``.
        size: Bytes of all samples, or 0 if it is not known.
    """

    digests: tuple[str, ...]
    ends: NDArray[np.int64]
    size: int = 0

    @classmethod
    def of(cls, digests: Sequence[str], sample_counts: Sequence[int], size: int = 0) -> Shards:
        return cls(tuple(digests), np.cumsum(sample_counts), size)

    def undivided(self, pool: str) -> Shards:
        """Represent the pool as a single shard, so that one request is about all of it."""
        return Shards((pool,), self.ends[-1:], self.size)

    def places(self, sample_ids: Sequence[int]) -> NDArray[np.intp]:
        """Return the index of the shard that holds each sample, ``[n]``.

        For an id outside the pool it is that of the last shard, whose scorer rejects the id.
        """
        found = np.searchsorted(self.ends, np.asarray(sample_ids, np.int64), side="right")
        return np.minimum(found, len(self.digests) - 1)

    def free_ids(self, places: Collection[int], leave_out: BitMap) -> BitMap:
        """Return the ids in these shards that are not in ``leave_out``."""
        starts = np.concatenate([[0], self.ends])
        held = BitMap()
        for place in places:
            held.add_range(int(starts[place]), int(self.ends[place]))
        return held - leave_out


def share_out(keys: Mapping[int, str], replicas: Collection[str]) -> dict[str, list[int]]:
    """Assign keys to replicas; return the places of the keys of each replica that gets any.

    At least one replica is needed. Uses highest random weight (Thaler and Ravishankar 1998, "Using name-based mappings
    to increase hit rates"): every trainer finds the same replica for a key, and if a replica comes or goes, only its
    own keys move.
    """
    parts: dict[str, list[int]] = defaultdict(list)
    for place, key in keys.items():
        parts[_first(key, replicas)].append(place)
    return parts


def _first(key: str, replicas: Collection[str]) -> str:
    return max(replicas, key=lambda replica: sha256(f"{key} {replica}".encode()).digest())
