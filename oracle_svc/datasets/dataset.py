"""Define a dataset's source, as a run's spec gives it, and the loaded dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from labelloop.domain.duplicates import NO_DUPLICATES, Duplicates
from labelloop.domain.sample_array import SampleArray
from labelloop.events.v1.events_pb2 import ImageFit, SampleLayout
from numpy.typing import NDArray

from .shown import Shown


@dataclass(frozen=True)
class DatasetSource:
    """Locations of a run's data. Paths are as the oracle's process sees them; an empty string means none."""

    name: str
    """``mnist``, or the path of a .npy file, an IDX file, a folder of .npy files or of images, a table or texts."""
    labels: str = ""
    """Path of the pool's labels: .npy integers, IDX, a table, or a folder of .npy files."""
    evaluation: str = ""
    """Path of the evaluation samples, which have the pool's shape and dtype."""
    evaluation_labels: str = ""
    """Path of the evaluation labels; not needed if ``evaluation`` is a folder of class folders."""
    classes: tuple[str, ...] = ()
    """Class names, index = class; required for an unlabelled pool."""
    graph: str = ""
    """Path of an ONNX graph that computes features from samples."""
    size: str = ""
    """Width and height in pixels to which pictures are fitted, ``64x64``; empty for the size that most of them have."""
    fit: ImageFit.ValueType = ImageFit.IMAGE_FIT_UNSPECIFIED
    """How pictures of another size are fitted; padded if unspecified."""
    background: str = ""
    """What transparent pictures are laid on, ``#rrggbb``; empty for white."""
    skip_bad: bool = False
    """Leave out files and rows that cannot be read, instead of refusing the pool."""
    id_column: str = ""
    """Tables and texts: the column that names samples."""
    label_column: str = ""
    """Tables and texts: the column with the labels."""
    text_column: str = ""
    """Texts: the column with the text; set makes the pool a pool of texts."""
    columns: tuple[str, ...] = ()
    """Tables: the columns that models see; empty for all but those of ids and labels."""
    embeddings: str = ""
    """Path of vectors that models see in place of the samples: .npy, a row for each, or .npz with their names."""
    evaluation_embeddings: str = ""
    """Path of the vectors of the evaluation samples."""


@dataclass(frozen=True)
class Original:
    """A file that people see in place of a sample, identified by its bytes as they were when it was read."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Dataset:
    """A validated pool: shapes, dtypes and label ranges are as described here."""

    name: str
    """``mnist``, or the name of the file or folder."""
    description: str
    """A sentence to show to users."""
    stand_in: bool
    """True if this is the offline stand-in for the dataset requested."""
    samples: SampleArray
    """[N, *shape], uint8 or float32 (finite), N >= 1; or texts [N]. Large ones are read part by part."""
    labels: NDArray[np.int32] | None
    """[N], each in 0 .. len(classes) - 1; None if any is unknown."""
    classes: tuple[str, ...]
    """Class names, index = class; at least two."""
    evaluation_samples: NDArray[Any] | None
    """[M, *shape], of the samples' dtype; None if there is no evaluation set."""
    evaluation_labels: NDArray[np.int32] | None
    """[M]; None if and only if ``evaluation_samples`` is None."""
    graph: bytes = b""
    """The ONNX graph that computes features from samples; empty for none. Only its outline is checked yet."""
    names: Sequence[str] = ()
    """The name of each sample, unique, in NFC; empty if they have none."""
    originals: Sequence[Original] = ()
    """For each sample what people see of it; empty if they see the sample itself."""
    notes: tuple[str, ...] = ()
    """What was read, chosen, left out or assumed, a sentence each, to show to users."""
    layout: SampleLayout | None = None
    """What a sample is; None if nobody has looked."""
    sha256: str = ""
    """Digest of the content; empty until it is computed."""
    shard_digests: tuple[str, ...] = ()
    """Digest of each shard of the samples as they were read for ``sha256``; empty for texts, and until then."""
    read_s: float = 0.0
    """Seconds that it took to read and check it."""
    duplicates: Duplicates = NO_DUPLICATES
    """Samples that equal an earlier one; none until they are looked for."""
    shown: Shown | None = None
    """What people see, where ``samples`` are vectors of it; then ``originals`` is empty."""
    known: NDArray[np.int32] | None = None
    """[N], the labels where only some are known, -1 where unknown; None if all or none are."""
    evaluation_names: Sequence[str] = ()
    """The name of each evaluation sample; empty if they have none."""

    @property
    def files(self) -> Sequence[str]:
        """The digest of what people see of each sample; empty if they see the sample itself."""
        return self.shown.digests if self.shown else [original.sha256 for original in self.originals]
