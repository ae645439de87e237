"""Parse posted images, and build responses about them. Pure functions."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from labelloop.errors import InvalidInput
from labelloop.scorer.v1 import scorer_pb2 as pb
from numpy.typing import NDArray

_DTYPES: dict[str, np.dtype[Any]] = {"uint8": np.dtype(np.uint8), "float32": np.dtype("<f4")}
_IMAGES_MAX = 65_536
_PROBABILITIES_MAX = 524_288  # 2 MiB: gRPC clients accept responses of 4 MiB by default


class Classifier(Protocol):
    """A model for posted images.

    Attributes:
        feature_count: values of an image.
        class_count: number of classes.
        dtype: type of the values; "utf8" for texts.
        takes_missing: whether values may be missing (NaN).
        work: multiply-adds for one image; other steps are counted as so many as they take time.
    """

    feature_count: int
    class_count: int
    dtype: str
    takes_missing: bool
    work: int

    def is_open_for(self, dtype: str) -> bool:
        """Return whether values of ``dtype`` can be classified at once: a session for them is open."""
        ...

    def classify(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Compute ``[n, classes]`` for images ``[n, features]`` or texts ``[n]``."""
        ...


def read_images(request: pb.ScoreRequest, model: Classifier) -> NDArray[Any]:
    """Parse images ``[n, features]`` of uint8 or float32. InvalidInput if ``model`` cannot classify them."""
    name, data = request.dtype, request.images
    if request.texts:
        message = f"the model was fitted to {model.dtype} values, and texts are posted: post images"
        raise InvalidInput("WRONG_DTYPE", message, field="texts", model_dtype=model.dtype)
    dtype = _DTYPES.get(name)
    if dtype is None:
        message = f"dtype is {name!r}: images are posted as uint8 or float32"
        raise InvalidInput("BAD_DTYPE", message, field="dtype", dtype=name)
    if name == "uint8" != model.dtype:
        message = f"the model was fitted to {model.dtype} values and cannot tell uint8 pixels: post {model.dtype}"
        raise InvalidInput("WRONG_DTYPE", message, field="dtype", dtype=name, model_dtype=model.dtype)
    image_bytes = model.feature_count * dtype.itemsize
    count, rest = divmod(len(data), image_bytes)
    if rest or not count:
        message = (
            f"images holds {len(data)} bytes, which is no whole number of images: one is {model.feature_count} "
            f"values of {name}, {image_bytes} bytes"
        )
        raise InvalidInput("BAD_IMAGES", message, field="images", size=len(data), image_size=image_bytes)
    _check_count(count, model.class_count if request.with_probabilities else 1)
    images = np.frombuffer(data, dtype).reshape(count, -1)
    if name == "float32" and not _all_known(images, model.takes_missing):
        raise InvalidInput("NOT_FINITE", "images holds values that are no finite numbers", field="images")
    return images


def _all_known(values: NDArray[np.float32], may_lack: bool) -> bool:
    """Return whether all values are finite, or also NaN if values may be missing."""
    return not np.isinf(values).any() if may_lack else bool(np.isfinite(values).all())


def _check_count(count: int, values_each: int) -> None:
    most = min(_IMAGES_MAX, _PROBABILITIES_MAX // values_each)
    if count > most:
        message = f"{count} images are too many for one answer: post at most {most}"
        raise InvalidInput("TOO_MANY_IMAGES", message, field="images", posted=count, most=most)


def answer(digest: str, probabilities: NDArray[np.float32], with_probabilities: bool) -> pb.ScoreResponse:
    """Build the response from ``probabilities`` ``[n, classes]``. InvalidInput if any are not numbers."""
    predicted, confidence = best(probabilities)
    return pb.ScoreResponse(
        model_sha256=digest,
        predicted=predicted,
        confidence=confidence,
        probabilities=probabilities.ravel().tolist() if with_probabilities else (),
    )


def best(probabilities: NDArray[np.float32]) -> tuple[list[int], list[float]]:
    """Return the most probable class of each image and its probability. InvalidInput if any are not numbers."""
    predicted, confidence = _one_best(probabilities) if len(probabilities) == 1 else _best(probabilities)
    if math.isnan(sum(confidence)):
        message = "the model's answer to some image is no number: are the values in the scale of its pool?"
        raise InvalidInput("NO_ANSWER", message, field="images")
    return predicted, confidence


def _best(probabilities: NDArray[np.float32]) -> tuple[list[int], list[float]]:
    """Return the most probable class of each image and its probability, which is NaN if any is."""
    return probabilities.argmax(axis=1).tolist(), probabilities.max(axis=1).tolist()


def _one_best(probabilities: NDArray[np.float32]) -> tuple[list[int], list[float]]:
    """Do as :func:`_best` for one image, in a fifth of the time."""
    [row] = probabilities.tolist()
    if math.isnan(sum(row)):
        return [0], [math.nan]
    largest = max(row)
    return [row.index(largest)], [largest]
