"""Hold what people see of samples whose vectors models see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
from labelloop.artifacts.formats import encode_shard, sample_digest
from labelloop.domain.sample_array import SampleArray
from labelloop.events.v1.events_pb2 import SampleLayout
from numpy.typing import NDArray

from .parts import chosen, rows_of
from .shards import shard_rows

if TYPE_CHECKING:
    from .dataset import Original


@dataclass(frozen=True)
class Shown:
    """What people see of each sample.

    Attributes:
        samples: [N, *shape], or texts [N] of str. Large ones are read part by part.
        layout: What one of them is.
        originals: The file of each that people see in its place; empty if they see the sample.
        digests: SHA-256 of each, as hexadecimal digits: of its file if people see that, else of the sample.
        shard_digests: Digest of each shard of the samples as they were read for ``digests``; empty with files.
    """

    samples: SampleArray
    layout: SampleLayout | None
    originals: Sequence[Original]
    digests: Sequence[str]
    shard_digests: tuple[str, ...] = ()

    @classmethod
    def of(cls, samples: SampleArray, layout: SampleLayout | None, originals: Sequence[Original]) -> Shown:
        if originals:
            return cls(samples, layout, originals, [original.sha256 for original in originals])
        digests: list[str] = []
        shards: list[str] = []
        for rows in shard_rows(samples):
            part = samples[rows]
            digests += [sample_digest(each).hex() for each in part]
            shards.append(sha256(encode_shard(part)).hexdigest())
        return cls(samples, layout, (), digests, tuple(shards))

    def taken(self, rows: slice | NDArray[np.int64]) -> Shown:
        """Return the part of samples ``rows``."""
        return Shown.of(chosen(self.samples, rows), self.layout, rows_of(self.originals, rows))
