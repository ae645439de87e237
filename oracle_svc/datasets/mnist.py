"""Load MNIST from the operator's copy, the cache or a mirror, else fall back to the stand-in with a warning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import structlog
from labelloop.artifacts.idx import parse_idx
from labelloop.domain.sample_layout import layout_of_shape

from .dataset import Dataset
from .mirrors import Fetch, http_fetch
from .mnist_files import MNIST_FILES, MnistFile, from_cache_or_mirrors, from_data_dir
from .stand_in import mnist_stand_in

log = structlog.get_logger(__name__)


def load_mnist(
    data_dir: Path | None,
    cache_dir: Path,
    *,
    files: Sequence[MnistFile] = MNIST_FILES,
    fetch: Fetch = http_fetch,
    stand_in: Callable[[], Dataset] = mnist_stand_in,
) -> Dataset:
    """Load the training set [60000, 28, 28] uint8 as the pool and the test set [10000, 28, 28] for evaluation.

    Raises NotFound for an incomplete copy in ``data_dir``, Corrupt for a damaged one, InvalidInput for an unreadable
    one; NotFound and Corrupt also if the stand-in is needed but missing or altered.
    """
    contents = from_data_dir(data_dir, files) if data_dir is not None else None
    if contents is None:
        contents = from_cache_or_mirrors(cache_dir / "mnist", files, fetch)
    if contents is None:
        dataset = stand_in()
        log.warning("mnist_stand_in", description=dataset.description)
        return dataset
    return _dataset(contents, files)


def _dataset(contents: Sequence[bytes], files: Sequence[MnistFile]) -> Dataset:
    images, labels, test_images, test_labels = (
        parse_idx(data, file.name) for data, file in zip(contents, files, strict=True)
    )
    return Dataset(
        name="mnist",
        description=f"MNIST: {len(images):,} training and {len(test_images):,} test images",
        stand_in=False,
        samples=images,
        labels=labels.astype(np.int32),
        classes=tuple("0123456789"),
        evaluation_samples=test_images,
        evaluation_labels=test_labels.astype(np.int32),
        layout=layout_of_shape(images.shape[1:], images.dtype.name),
    )
