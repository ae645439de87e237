"""Define a dataset's source, as a run's spec gives it, and the loaded dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DatasetSource:
    """Locations of a run's data. Paths are as the oracle's process sees them; an empty string means none."""

    name: str
    """``mnist``, or the path of a .npy file, an IDX file or a folder of images."""
    labels: str = ""
    """Path of the pool's labels (.npy integers or IDX)."""
    evaluation: str = ""
    """Path of the evaluation samples, which have the pool's shape and dtype."""
    evaluation_labels: str = ""
    """Path of the evaluation labels; not needed if ``evaluation`` is a folder of class folders."""
    classes: tuple[str, ...] = ()
    """Class names, index = class; required for an unlabelled pool."""
    graph: str = ""
    """Path of an ONNX graph that computes features from samples."""


@dataclass(frozen=True)
class Dataset:
    """A validated pool in memory: shapes, dtypes and label ranges are as described here."""

    name: str
    """``mnist``, or the name of the file or folder."""
    description: str
    """A sentence to show to users."""
    stand_in: bool
    """True if this is the offline stand-in for the dataset requested."""
    samples: NDArray[Any]
    """[N, *shape], uint8 or float32 (finite), C-contiguous, N >= 1."""
    labels: NDArray[np.int32] | None
    """[N], each in 0 .. len(classes) - 1; None if they are unknown."""
    classes: tuple[str, ...]
    """Class names, index = class; at least two."""
    evaluation_samples: NDArray[Any] | None
    """[M, *shape], of the samples' dtype; None if there is no evaluation set."""
    evaluation_labels: NDArray[np.int32] | None
    """[M]; None if and only if ``evaluation_samples`` is None."""
    graph: bytes = b""
    """The ONNX graph that computes features from samples, unparsed; empty for none. The scorer validates it."""
