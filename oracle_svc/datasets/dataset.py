"""What a run's spec names as its data, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DatasetSource:
    """Where a run's data is. Every path is as this process sees it; an empty string means none."""

    name: str
    """``mnist``, or the path of a .npy file, an IDX file or a folder of images."""
    labels: str = ""
    """Path of the pool's labels (.npy integers or IDX)."""
    evaluation: str = ""
    """Path of evaluation samples, of the pool's shape and dtype."""
    evaluation_labels: str = ""
    """Path of the evaluation labels; needless where ``evaluation`` is a folder of class folders."""
    classes: tuple[str, ...] = ()
    """Class names, index = class; needed for a pool whose labels nobody knows."""
    graph: str = ""
    """Path of an ONNX graph that makes features of samples."""


@dataclass(frozen=True)
class Dataset:
    """A pool in memory, checked: shapes, dtypes and label ranges hold as described here."""

    name: str
    """``mnist``, or the file's or folder's name."""
    description: str
    """A sentence to show to a person."""
    stand_in: bool
    """True when this is not what was asked for, but the offline stand-in."""
    samples: NDArray[Any]
    """[N, *shape], uint8 or float32 (finite), C-contiguous, N >= 1."""
    labels: NDArray[np.int32] | None
    """[N], each in 0 .. len(classes) - 1; None when nobody knows them."""
    classes: tuple[str, ...]
    """Class names, index = class; at least two."""
    evaluation_samples: NDArray[Any] | None
    """[M, *shape], of the samples' dtype; None when there is no evaluation set."""
    evaluation_labels: NDArray[np.int32] | None
    """[M]; None exactly when ``evaluation_samples`` is."""
    graph: bytes = b""
    """The ONNX graph that makes features of samples, as it came; empty for none. The scorer looks it over."""
