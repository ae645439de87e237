"""Load a dataset from the operator's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from labelloop.domain.sample_layout import layout_of
from labelloop.errors import InvalidInput
from numpy.typing import NDArray

from .classes import class_names, labels_of
from .dataset import Dataset, DatasetSource
from .split import Split, exists, read_split


def load_files(source: DatasetSource) -> Dataset:
    """Load the dataset whose samples are at ``source.name``. Raises InvalidInput, NotFound, Corrupt, LimitExceeded."""
    if not exists(source.name):
        raise InvalidInput(
            "UNKNOWN_DATASET",
            f"{source.name!r} is not a dataset: give 'mnist', or the path (where the oracle service runs) of a .npy "
            "file, an IDX file (plain or .gz), a folder of images, or a folder with a folder of images for each class",
            field="name",
            name=source.name,
        )
    pool = read_split(source.name, source.labels, samples_field="name", labels_field="labels")
    classes = class_names(source, pool)
    labels = labels_of(pool, classes, source.labels or source.name, "labels" if source.labels else "name")
    evaluation_samples, evaluation_labels = _evaluation(source, pool, classes)
    layout, layout_note = layout_of(pool.samples)
    name = Path(source.name).resolve().name.encode(errors="replace").decode()  # a link's target may be any bytes
    return Dataset(
        name=name,
        description=_description(name, pool, classes, evaluation_samples),
        stand_in=False,
        samples=pool.samples,
        labels=labels,
        classes=classes,
        evaluation_samples=evaluation_samples,
        evaluation_labels=evaluation_labels,
        names=pool.names,
        originals=pool.originals,
        notes=(*pool.notes, layout_note),
        layout=layout,
    )


def _evaluation(
    source: DatasetSource, pool: Split, classes: tuple[str, ...]
) -> tuple[NDArray[Any] | None, NDArray[np.int32] | None]:
    if not source.evaluation:
        if source.evaluation_labels:
            raise InvalidInput(
                "EVALUATION_MISSING",
                f"evaluation_labels names {source.evaluation_labels}, but evaluation is empty: name the samples too",
                field="evaluation",
                path=source.evaluation_labels,
            )
        return None, None
    split = read_split(
        source.evaluation, source.evaluation_labels, samples_field="evaluation", labels_field="evaluation_labels"
    )
    _check_alike(split.samples, pool.samples, source.evaluation)
    labels_field = "evaluation_labels" if source.evaluation_labels else "evaluation"
    labels = labels_of(split, classes, source.evaluation_labels or source.evaluation, labels_field)
    if labels is None:
        raise InvalidInput(
            "EVALUATION_LABELS_MISSING",
            f"evaluation samples {source.evaluation} have no labels: name their file in evaluation_labels",
            field="evaluation_labels",
            path=source.evaluation,
        )
    return split.samples, labels


def _check_alike(evaluation: NDArray[Any], pool: NDArray[Any], origin: str) -> None:
    if evaluation.shape[1:] != pool.shape[1:] or evaluation.dtype != pool.dtype:
        found, wanted = _kind(evaluation), _kind(pool)
        raise InvalidInput(
            "EVALUATION_KIND",
            f"evaluation samples {origin} are {found}, but the pool's are {wanted}: prepare both alike",
            field="evaluation",
            origin=origin,
            found=found,
            wanted=wanted,
        )


def _kind(samples: NDArray[Any]) -> str:
    return f"{'x'.join(map(str, samples.shape[1:]))} {samples.dtype}"


def _description(name: str, pool: Split, classes: tuple[str, ...], evaluation: NDArray[Any] | None) -> str:
    known = "unlabelled" if pool.labels is None else "labelled"
    evaluated = "no evaluation set" if evaluation is None else f"{len(evaluation):,} evaluation samples"
    return (
        f"{name}: {len(pool.samples):,} {known} samples of {_kind(pool.samples)}, {len(classes)} classes, {evaluated}"
    )
