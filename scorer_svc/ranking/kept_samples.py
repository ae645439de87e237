"""Keep the samples of the best so far while their shards are in memory, so that no shard is read a second time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorer_svc.pools.part import Part
from scorer_svc.strategies.uncertainty import Ids


class KeptSamples:
    """Copies of samples by id; those that are no longer among the best are dropped."""

    def __init__(self) -> None:
        self._held: dict[int, NDArray[Any]] = {}

    def keep(self, parts: Sequence[Part], best: Ids) -> None:
        """Keep the samples ``best``, each of which lies in ``parts`` or is kept already, and no others."""
        self.add(parts, best)
        self._held = {sample_id: self._held[sample_id] for sample_id in best.tolist()}

    def add(self, parts: Sequence[Part], sample_ids: Ids) -> None:
        """Keep those of the samples that lie in ``parts`` as well."""
        for part in parts:
            for sample_id in sample_ids[(sample_ids >= part.first) & (sample_ids < part.end)].tolist():
                self._held[sample_id] = part.samples[sample_id - part.first].copy()

    def take(self, sample_ids: Ids) -> NDArray[Any] | None:
        """Return the samples ``[n, *shape]`` in the order of ``sample_ids``; None if one is not kept, or none is."""
        wanted = sample_ids.tolist()
        if not wanted or not all(sample_id in self._held for sample_id in wanted):
            return None
        return np.stack([self._held[sample_id] for sample_id in wanted])
