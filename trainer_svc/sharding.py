"""Which shard holds a sample, and which replica a shard. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

_IDS = 2**32  # as many as there can be


@dataclass(frozen=True)
class Shards:
    """``digests`` in order of their sample ids; ``ends[i]`` is the first id behind shard ``i``, [shards]."""

    digests: tuple[str, ...]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, digests: Sequence[str], sample_counts: Sequence[int]) -> Shards:
        return cls(tuple(digests), np.cumsum(sample_counts))

    @classmethod
    def undivided(cls, pool: str) -> Shards:
        """A pool whose shards are all asked for together, whatever they are."""
        return cls((pool,), np.array([_IDS]))

    def places(self, sample_ids: Sequence[int]) -> NDArray[np.intp]:
        """The shard that holds each sample, [n]; the last one for an id outside the pool, which it knows to refuse."""
        found = np.searchsorted(self.ends, np.asarray(sample_ids, np.int64), side="right")
        return np.minimum(found, len(self.digests) - 1)

    def free_ids(self, places: Collection[int], leave_out: BitMap) -> BitMap:
        """The ids in these shards that are not left out."""
        starts = np.concatenate([[0], self.ends])
        held = BitMap()
        for place in places:
            held.add_range(int(starts[place]), int(self.ends[place]))
        return held - leave_out


def share_out(keys: Mapping[int, str], replicas: Collection[str]) -> dict[str, list[int]]:
    """For each replica that gets any, the places of its keys; at least one replica is needed.

    By highest random weight (Thaler and Ravishankar 1998, "Using name-based mappings to increase hit rates"): every
    trainer finds the same replica for a key, and when a replica comes or goes only its own keys move.
    """
    parts: dict[str, list[int]] = defaultdict(list)
    for place, key in keys.items():
        parts[_first(key, replicas)].append(place)
    return parts


def _first(key: str, replicas: Collection[str]) -> str:
    return max(replicas, key=lambda replica: sha256(f"{key} {replica}".encode()).digest())
