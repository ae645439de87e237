"""Learn image features without labels: a k-means bank of patches (Coates, Lee and Ng 2011) as an ONNX graph.

Patches are normalised and whitened. A patch's activation for a unit vector of the bank is the amount by which their
product exceeds a threshold, which only a few products in a hundred do (the soft threshold of Coates and Ng 2011, "The
importance of encoding versus training"). Activations are averaged over each quadrant of the image, and the square root
is taken. On digits this leaves about a fifth fewer errors than the triangle activation without the root, and takes one
convolution instead of two.

A few coordinates follow that locate the image among the others (:mod:`scorer_svc.features.spectral_embedding`): with
fifty labels they halve the errors on digits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import structlog
from labelloop.domain.abandonment import check_wanted
from labelloop.events.v1.events_pb2 import SampleLayout
from numpy.typing import NDArray

from scorer_svc.features.patch_onnx import Bank, bank_graph, raw_graph
from scorer_svc.features.picture_input import Given, averaged, pictures_of, pooling
from scorer_svc.features.spectral_embedding import COORDINATES, LANDMARKS_MAX, LANDMARKS_MIN, learn_neighbourhood
from scorer_svc.models.ort_session import open_session
from scorer_svc.numerics.blas_threads import one_thread

_SIDE = 6  # pixels of a patch
_VECTORS = 444  # times four quadrants; with the coordinates 1,800 features
_VECTORS_ALONE = 450  # without coordinates, for as many features
_PATCHES = 120_000
_FLAT_VARIANCE = 10.0  # added to a patch's variance, on the scale from 0 to 255
_WHITENING = 0.1  # added to the variance of each principal component
_ACTIVE_SHARE = 1 / 40
_PASSES = 15
_LENGTH = 20.0  # root mean square length of an image's vector of patch values, and of its coordinates
_RARE = 0.01  # of the largest standard deviation
_AT_ONCE = 25  # images at most
_VALUES_AT_ONCE = 6_000_000  # activations: 24 MB, in several copies

log = structlog.get_logger()

Patches = NDArray[np.float32]  # [n, side * side * channels]


def learn_patches(
    samples: NDArray[Any], seed: int, layout: SampleLayout | None = None, *, patch_count: int = _PATCHES
) -> bytes:
    """Learn a patch bank; return the ONNX bytes of its graph from flat samples to float32 features.

    The bytes are the same for the same samples and seed on one type of processor, whatever the number of cores. On
    another type, different rounding leads k-means to slightly different vectors.

    Args:
        samples: ``[n, *shape]``, uint8 or float32.
        seed: determines all random draws.
        layout: how samples are read as pictures; None to take bytes ``[n, height, width]`` and ``[n, height, width,
            channels]``. Patches are learned from the pictures rounded to 256 levels, so that the same pictures give
            the same bank in any layout.
        patch_count: the most patches to learn from.

    Raises:
        ValueError: the samples are not images, are too small, or hold too little to learn from.
    """
    images, layout = pictures_of(samples, layout)
    given = Given(samples.dtype.name, layout.channels_first, layout.full_scale)
    with one_thread():
        located = _located(images, seed, patch_count, given) if len(images) >= LANDMARKS_MIN else None
        return located or _alone(images, seed, patch_count, given)


def _located(images: NDArray[np.uint8], seed: int, patch_count: int, given: Given) -> bytes | None:
    """Build the graph with coordinates after the patch values; None if no coordinate is well defined."""
    bank, mean, scale, features = _scaled_bank(images, _VECTORS, seed, patch_count)
    among = learn_neighbourhood((features - mean) * scale, seed, _LENGTH)
    defined = among.defined if among else 0
    if defined < COORDINATES:
        counts = {"coordinates": defined, "coordinates_max": COORDINATES, "images": len(features)}
        log.info("fewer_features_than_requested", **counts)
    return bank_graph(bank, mean, scale, among, given) if among else None


def _alone(images: NDArray[np.uint8], seed: int, patch_count: int, given: Given) -> bytes:
    bank, mean, scale, _ = _scaled_bank(images, _VECTORS_ALONE, seed, patch_count)
    return bank_graph(bank, mean, scale, given=given)


def _scaled_bank(
    images: NDArray[np.uint8], vectors: int, seed: int, patch_count: int
) -> tuple[Bank, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Learn a bank and the scaling of its features.

    Returns:
        The bank, the mean and the scale of its features, and the features ``[n, features]`` of the images drawn for it.
    """
    rng = np.random.default_rng(seed)
    bank = _bank(images, vectors, patch_count, rng)
    drawn = images[np.sort(rng.choice(len(images), min(LANDMARKS_MAX, len(images)), replace=False))]
    features = _features(bank, drawn)
    return bank, *_mean_and_scale(features), features


def _bank(images: NDArray[np.uint8], vectors: int, patch_count: int, rng: np.random.Generator) -> Bank:
    seen = averaged(images, *pooling(*images.shape[1:3]))
    side = min(_SIDE, (min(seen.shape[1:3]) + 1) // 2)
    normalised = _normalised(_cut(seen, side, vectors, patch_count, rng))
    mean, whitening = _whitening(normalised)
    units = _unit_vectors(np.asarray((normalised - mean) @ whitening, np.float32), vectors, rng)
    kernel = units @ whitening
    check_wanted()
    products = normalised @ kernel.T
    products -= kernel @ mean
    threshold = np.quantile(products, 1 - _ACTIVE_SHARE, overwrite_input=True)
    return Bank(
        kernel=(kernel - kernel.mean(axis=1, keepdims=True)).reshape(-1, side, side, images.shape[3]),
        bias=(-(kernel @ mean) - threshold).astype(np.float32),
        flat_variance=_FLAT_VARIANCE,
        image_shape=images.shape[1:],
    )


def _cut(images: NDArray[Any], side: int, fewest: int, most: int, rng: np.random.Generator) -> Patches:
    """Draw at most ``most`` patches at random and drop flat ones. ValueError if fewer than ``fewest`` remain."""
    count, height, width, _ = images.shape
    windows = np.lib.stride_tricks.sliding_window_view(images, (side, side), axis=(1, 2))
    places = (count, height - side + 1, width - side + 1)
    drawn = min(most, int(np.prod(places)))
    at = (rng.integers(0, size, drawn) for size in places)
    patches = windows[tuple(at)].transpose(0, 2, 3, 1).reshape(drawn, -1).astype(np.float32)
    kept: Patches = patches[patches.var(axis=1) > _FLAT_VARIANCE]
    if len(kept) < fewest:
        raise ValueError("nearly all of its images are plain surfaces")
    return kept


def _normalised(patches: Patches) -> Patches:
    centred = patches - patches.mean(axis=1, keepdims=True)
    normalised: Patches = centred / np.sqrt(patches.var(axis=1, keepdims=True) + np.float32(_FLAT_VARIANCE))
    return normalised


def _whitening(patches: Patches) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean patch and the ZCA whitening matrix (Bell and Sejnowski 1997).

    The matrix is symmetric and makes all directions vary about alike.
    """
    mean = patches.mean(axis=0)
    variances, directions = np.linalg.eigh(np.cov((patches - mean).T.astype(np.float64)))
    scales = 1 / np.sqrt(np.maximum(variances, 0) + _WHITENING)
    return mean, ((directions * scales) @ directions.T).astype(np.float32)


def _unit_vectors(patches: Patches, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Learn the bank by spherical k-means (Dhillon and Modha 2001): ``[vectors, values]``, each of length 1."""
    units = patches / np.maximum(np.linalg.norm(patches, axis=1, keepdims=True), 1e-6)
    vectors = units[rng.choice(len(units), count, replace=False)]
    for _ in range(_PASSES):
        check_wanted()
        nearest = (units @ vectors.T).argmax(axis=1)
        order = np.argsort(nearest, kind="stable")
        found, starts = np.unique(nearest[order], return_index=True)
        sums = np.add.reduceat(units[order], starts, axis=0)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        vectors[found] = sums / np.maximum(lengths, 1e-6)  # vectors that no patch is nearest to stay as they are
    return np.asarray(vectors, np.float32)


def _features(bank: Bank, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = open_session(raw_graph(bank))
    [fed] = session.get_inputs()
    flat = images.reshape(len(images), -1)
    size = max(1, min(_AT_ONCE, _VALUES_AT_ONCE // (len(bank.kernel) * math.prod(bank.places))))
    parts = []
    for start in range(0, len(flat), size):
        check_wanted()
        parts.append(session.run(None, {fed.name: flat[start : start + size]})[0])
    return np.concatenate(parts)


def _mean_and_scale(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what to subtract from each feature and then multiply it by, so that all vary alike."""
    deviation = features.std(axis=0)
    floor = max(_RARE * float(deviation.max()), 1e-6)  # rarely active features must not outweigh the others
    length = float(np.sqrt(len(deviation)))
    return features.mean(axis=0), (_LENGTH / length / np.maximum(deviation, floor)).astype(np.float32)
