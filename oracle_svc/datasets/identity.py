"""Identify a dataset by its content. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from labelloop.events.v1.events_pb2 import SampleLayout
from numpy.typing import NDArray

from .dataset import Dataset


def dataset_digest(dataset: Dataset) -> str:
    """Return a SHA-256 over everything that decides a run: samples, names, labels, what people
    see of samples, evaluation set, classes and graph.

    Datasets of equal content have equal digests, whatever their files are called.
    """
    parts = {
        "samples": _array(dataset.samples),
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


def _array(array: NDArray[Any] | None) -> list[object]:
    """Return dtype, shape and digest of an array; empty for None."""
    if array is None:
        return []
    if array.dtype == object:
        return ["text", array.shape, _texts(array.tolist())]
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return [array.dtype.name, array.shape, sha256(little.data).hexdigest()]


def _texts(texts: Sequence[str] | Iterable[str]) -> str:
    """Return the digest of texts, each preceded by its length so that no two lists share one."""
    hashed = sha256()
    for text in texts:
        data = text.encode(errors="surrogatepass")
        hashed.update(len(data).to_bytes(8, "little"))
        hashed.update(data)
    return hashed.hexdigest()
