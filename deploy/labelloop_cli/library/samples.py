"""Turn arrays, data frames and texts into what services take: files of a pool, and requests to score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from labelloop.domain.limits import TEXT_DTYPE
from labelloop.errors import InvalidInput
from labelloop.events.v1.events_pb2 import PoolPublished
from labelloop.scorer.v1.scorer_pb2 import ScoreRequest
from numpy.typing import NDArray

_SAMPLES_AT_ONCE, _BYTES_AT_ONCE = 1_000, 2 * 2**20
_TEXTS_AT_ONCE = 100


@contextmanager
def pool_path(pool: Any) -> Iterator[tuple[str, bool]]:
    """Yield the path or URL of a pool, and whether it is a temporary file, which has to be uploaded.

    Args:
        pool: A path or URL; an array ``[n, ...]`` of numbers; or a pandas data frame.
    """
    if isinstance(pool, (str, PathLike)):
        yield fspath(pool), False
        return
    with TemporaryDirectory(prefix="labelloop-") as folder:
        if isinstance(pool, np.ndarray):
            path = Path(folder, "pool.npy")
            np.save(path, pool, allow_pickle=False)
        elif hasattr(pool, "to_csv"):
            path = Path(folder, "pool.csv")
            pool.to_csv(path, index=False)
        else:
            message = f"a pool is a path, a URL, an array or a data frame, not a {type(pool).__name__}"
            raise InvalidInput("BAD_POOL", message, field="pool")
        yield str(path), True


def score_requests(pool: PoolPublished, samples: Any, *, probabilities: bool) -> Iterator[ScoreRequest]:
    """Yield requests, without the model, for samples of the form that ``pool`` has.

    Args:
        pool: The pool that the model was fitted to.
        samples: Texts; or an array ``[n, *shape]`` or ``[n, values]``.
        probabilities: Whether to ask for the probability of each class.

    Raises:
        InvalidInput: If the samples are of another form or type, or there are none.
    """
    if pool.dtype == TEXT_DTYPE:
        yield from _of_texts(samples, probabilities)
        return
    rows = _rows(pool, samples)
    count = max(1, min(_SAMPLES_AT_ONCE, _BYTES_AT_ONCE // max(1, rows[0].nbytes)))
    for start in range(0, len(rows), count):
        some = rows[start : start + count]
        yield ScoreRequest(dtype=some.dtype.name, images=some.tobytes(), with_probabilities=probabilities)


def _of_texts(texts: Any, probabilities: bool) -> Iterator[ScoreRequest]:
    if isinstance(texts, str) or not isinstance(texts, Sequence) or not all(isinstance(each, str) for each in texts):
        raise InvalidInput("BAD_SAMPLES", "the model was fitted to texts: give a list of str", field="samples")
    if not texts:
        raise InvalidInput("NO_SAMPLES", "there are no samples to score", field="samples")
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        some = texts[start : start + _TEXTS_AT_ONCE]
        yield ScoreRequest(texts=some, with_probabilities=probabilities)


def _rows(pool: PoolPublished, samples: Any) -> NDArray[Any]:
    """Return samples as C-contiguous rows of uint8 or little-endian float32."""
    array, shape = np.asarray(samples), tuple(pool.shape)
    wanted = f"(n, {', '.join(map(str, shape))})"
    if array.shape[1:] not in (shape, (int(np.prod(shape)),)):
        message = f"samples have the shape {array.shape}: the model was fitted to samples of the shape {wanted}"
        raise InvalidInput("WRONG_SHAPE", message, field="samples")
    if not len(array):
        raise InvalidInput("NO_SAMPLES", "there are no samples to score", field="samples")
    if pool.dtype == "uint8" and array.dtype == np.uint8:
        return np.ascontiguousarray(array.reshape(len(array), -1))
    if array.dtype.kind != "f":
        message = f"samples are of the type {array.dtype}: the model was fitted to {pool.dtype}"
        raise InvalidInput("WRONG_DTYPE", message, field="samples")
    return np.ascontiguousarray(array.reshape(len(array), -1), "<f4")
