"""Hold what people see of samples whose vectors models see. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from labelloop.artifacts.formats import sample_digest
from labelloop.events.v1.events_pb2 import SampleLayout
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .dataset import Original


@dataclass(frozen=True)
class Shown:
    """What people see of each sample.

    Attributes:
        samples: [N, *shape], or texts [N] of str.
        layout: What one of them is.
        originals: The file of each that people see in its place; empty if they see the sample.
        digests: SHA-256 of each, as hexadecimal digits: of its file if people see that, else of the sample.
    """

    samples: NDArray[Any]
    layout: SampleLayout | None
    originals: Sequence[Original]
    digests: Sequence[str]

    @classmethod
    def of(cls, samples: NDArray[Any], layout: SampleLayout | None, originals: Sequence[Original]) -> Shown:
        digests = [original.sha256 for original in originals] or [sample_digest(each).hex() for each in samples]
        return cls(samples, layout, originals, digests)

    def taken(self, rows: Any, indices: Sequence[int]) -> Shown:
        """Return the part of samples ``rows``, which are those at ``indices``."""
        originals = [self.originals[index] for index in indices] if self.originals else ()
        digests = [self.digests[index] for index in indices]
        return replace(self, samples=self.samples[rows], originals=originals, digests=digests)
