"""Identify a dataset by its content."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from labelloop.events.v1.events_pb2 import SampleLayout
from numpy.typing import NDArray

from .dataset import Dataset
from .parts import parts_of


class ArrayDigest:
    """The digest of an array whose parts are added in their order."""

    def __init__(self) -> None:
        self._hashed = sha256()

    def add(self, part: NDArray[Any]) -> None:
        self._hashed.update(little_endian(part).data)

    def hexdigest(self) -> str:
        return self._hashed.hexdigest()


class ShardDigests:
    """The digest of each shard; shards are added one by one."""

    def __init__(self) -> None:
        self.digests: list[str] = []

    def add(self, part: NDArray[Any]) -> None:
        self.digests.append(sha256(little_endian(part).data).hexdigest())


def little_endian(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array, C-contiguous and little-endian: not copied if it is already."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def dataset_digest(dataset: Dataset, samples_sha256: str = "") -> str:
    """Return a SHA-256 over everything that decides a run.

    These are samples, names, labels, what people see of samples, evaluation set, classes and graph.

    Datasets of equal content have equal digests, whatever their files are called. ``samples_sha256`` is the digest of
    the samples' bytes if it is known; else they are read.
    """
    parts = {
        "samples": _samples(dataset, samples_sha256),
        "labels": _array(dataset.labels),
        "evaluation_samples": _array(dataset.evaluation_samples),
        "evaluation_labels": _array(dataset.evaluation_labels),
        "classes": list(dataset.classes),
        "names": _texts(dataset.names),
        "originals": _texts(dataset.files),
        "graph": sha256(dataset.graph).hexdigest(),
        "layout": _layout(dataset.layout),
    }
    if dataset.known is not None:
        parts["known"] = _array(dataset.known)
    if dataset.shown:
        parts["shown_layout"] = _layout(dataset.shown.layout)
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _layout(layout: SampleLayout | None) -> str:
    return layout.SerializeToString(deterministic=True).hex() if layout else ""


def _samples(dataset: Dataset, known: str) -> list[object]:
    samples = dataset.samples
    if samples.dtype == object:
        return ["text", samples.shape, _texts(samples[:].tolist())]
    if not known:
        digest = ArrayDigest()
        for part in parts_of(samples):
            digest.add(part)
        known = digest.hexdigest()
    return [samples.dtype.name, samples.shape, known]


def _array(array: NDArray[Any] | None) -> list[object]:
    """Return dtype, shape and digest of an array; empty for None."""
    if array is None:
        return []
    if array.dtype == object:
        return ["text", array.shape, _texts(array.tolist())]
    return [array.dtype.name, array.shape, sha256(little_endian(array).data).hexdigest()]


def _texts(texts: Sequence[str] | Iterable[str]) -> str:
    """Return the digest of texts, each preceded by its length so that no two lists share one."""
    hashed = sha256()
    for text in texts:
        data = text.encode(errors="surrogatepass")
        hashed.update(len(data).to_bytes(8, "little"))
        hashed.update(data)
    return hashed.hexdigest()
