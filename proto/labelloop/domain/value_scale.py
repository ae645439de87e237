"""Tell vectors whose values share a scale from columns of different units."""

from __future__ import annotations

import numpy as np

from labelloop.domain.sample_array import SampleArray

_SAMPLES_MAX = 1_000
_VALUES_MAX = 10_000_000  # looked at: 80 MB as float64
_ZEROS_MIN = 0.8
_APART_MAX = 10.0
_FEW = 10  # values


def is_on_one_scale(samples: SampleArray) -> bool:
    """Return whether models do best with the values of samples ``[n, *shape]`` as they are.

    That is so for sparse counts, in which rare values are small for a reason, and where no value varies more than ten
    times as much as others commonly do: in embeddings, principal components and pixels. Of fewer than ten values, what
    others commonly do is what varies least, since a single one of them may tell the classes.

    A rule stands in place of cross-validation, because features are fixed before the first label: on the first 50
    labels cross-validation chooses nearly always the same (see the benchmark ``scaling_by_rule``).
    """
    count = max(1, samples[:1].size)
    step = -(-len(samples) // max(10, min(_SAMPLES_MAX, _VALUES_MAX // count)))
    seen = samples[::step].reshape(-1, count).astype(np.float64)
    if seen.min() >= 0 and (seen == 0).mean() >= _ZEROS_MIN:
        return True
    deviation = seen.std(axis=0)
    varying = deviation > 0
    if not varying.any():
        return True
    spread = deviation[varying]
    common = spread.min() if len(spread) < _FEW else np.median(spread)
    return bool(deviation.max() <= _APART_MAX * common)
