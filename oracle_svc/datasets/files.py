"""Load a dataset from the operator's own files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from labelloop.domain.sample_array import SampleArray
from labelloop.domain.sample_layout import layout_of, layout_of_shape
from labelloop.errors import InvalidInput, LimitExceeded
from labelloop.events.v1.events_pb2 import SampleKind, SampleLayout
from labelloop.runtime.memory_limit import memory_limit
from numpy.typing import NDArray

from .classes import class_names, labels_of
from .dataset import Dataset, DatasetSource
from .file_access import is_folder
from .parquet_parts import is_parquet_folder
from .picture_settings import PictureSettings, picture_settings
from .sample_files import is_array_folder
from .split import Split, exists, read_split
from .table_file import is_table
from .unknown_labels import refuse_unknown

Labels = NDArray[np.int32] | None

_EVALUATION_BYTES_MAX = min(1024**3, memory_limit() // 8)  # the pool and other datasets are held as well


def load_files(source: DatasetSource, cache_dir: Path) -> Dataset:
    """Load the dataset whose samples are at ``source.name``; large ones are unpacked in ``cache_dir``.

    Raises InvalidInput, NotFound, Corrupt, LimitExceeded.
    """
    if not exists(source.name):
        raise InvalidInput(
            "UNKNOWN_DATASET",
            f"{source.name!r} is not a dataset: give 'mnist', or the path (where the oracle service runs) of a .npy "
            "file, an IDX file (plain or .gz), a table (.csv, .tsv or .parquet), a folder of images, of .txt files or "
            "of .npy or .parquet files, or a folder with a folder of images or texts for each class; `labelloop pool "
            "push` uploads those of another machine",
            field="name",
            name=source.name,
        )
    pictures = picture_settings(source)
    _refuse_unused(source)
    _refuse_columns(source)
    pool = read_split(
        source.name,
        source.labels,
        source,
        pictures,
        source.classes,
        cache_dir=cache_dir,
        samples_field="name",
        labels_field="labels",
    )
    if pool.samples.dtype == object:
        _refuse_picture_settings(source)
    classes = class_names(source, pool)
    labels = labels_of(pool, classes, source.labels or source.name, "labels" if source.labels else "name")
    labels, known, partly = _known(labels)
    layout, assumed = _layout(source, pool)
    evaluation = _evaluation(source, pool, classes, _like(pool.samples, pictures), cache_dir)
    evaluation_labels = evaluation.labels if evaluation else None
    evaluation_samples = _in_memory(evaluation.samples, source.evaluation) if evaluation else None
    name = file_name(source.name)
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
        notes=(*pool.notes, *assumed, *partly, *_of_evaluation(evaluation)),
        known=known,
        layout=layout,
        evaluation_names=evaluation.names if evaluation else (),
    )


def _layout(source: DatasetSource, pool: Split) -> tuple[SampleLayout, tuple[str, ...]]:
    """Return what a sample is, and what had to be assumed for that: nothing for pictures in a folder and for tables."""
    if pool.layout:
        return pool.layout, ()
    if pool.samples.dtype == object:
        return SampleLayout(kind=SampleKind.SAMPLE_KIND_TEXT), ()
    if is_folder(Path(source.name)) and not is_array_folder(Path(source.name)):
        return layout_of_shape(pool.samples.shape[1:], pool.samples.dtype.name), ()
    layout, note = layout_of(pool.samples)
    return layout, (note,)


def _known(labels: Labels) -> tuple[Labels, Labels, tuple[str, ...]]:
    """Return labels if all are known, those that are if only some are, and a note on the latter."""
    count = 0 if labels is None else int((labels >= 0).sum())
    if labels is None or count in (0, len(labels)):
        return (labels if count else None), None, ()
    note = (
        f"{count:,} of {len(labels):,} samples have a label: it costs nothing, and the first model is fitted on them; "
        "people are asked for the others (--labels-from queue)"
    )
    return None, labels, (note,)


def _of_evaluation(split: Split | None) -> tuple[str, ...]:
    return tuple(f"evaluation set: {note}" for note in split.notes) if split else ()


def file_name(path: str) -> str:
    """Return the name of a dataset's file or folder, with links resolved: a link's target may be any bytes."""
    return path if path == "mnist" else Path(path).resolve().name.encode(errors="replace").decode()


def _refuse_unused(source: DatasetSource) -> None:
    """Refuse settings of pictures where no folder is read, which would be ignored silently."""
    paths = [Path(path) for path in (source.name, source.evaluation) if exists(path)]
    if not any(is_folder(path) and not (is_parquet_folder(path) or is_array_folder(path)) for path in paths):
        _refuse_picture_settings(source)


def _refuse_picture_settings(source: DatasetSource) -> None:
    for field in ("size", "fit", "background"):
        if getattr(source, field):
            raise InvalidInput(
                "NOT_PICTURES",
                f"{field} is set, but {source.name} is no folder of pictures: leave {field} out",
                field=field,
                setting=field,
                name=source.name,
            )


def _refuse_columns(source: DatasetSource) -> None:
    """Refuse names of columns that are not read, which would be ignored silently."""
    if source.text_column and source.columns:
        raise InvalidInput(
            "NOT_A_TABLE",
            "columns is set, but models see the text column alone: leave columns out",
            field="columns",
            setting="columns",
        )
    if source.text_column or any(is_table(Path(path)) for path in (source.name, source.evaluation)):
        return
    for field in ("id_column", "label_column", "columns"):
        if getattr(source, field):
            raise InvalidInput(
                "NOT_A_TABLE",
                f"{field} is set, but {source.name} is no table (.csv, .tsv or .parquet): leave {field} out",
                field=field,
                setting=field,
                name=source.name,
            )


def _like(pool: SampleArray, settings: PictureSettings) -> PictureSettings:
    """Return settings that make pictures like the samples of ``pool``, if those are pictures themselves."""
    shape = pool.shape[1:]
    if pool.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)):
        return settings
    in_colour, (red, green, blue) = len(shape) == 3, settings.background
    grey = round(0.299 * red + 0.587 * green + 0.114 * blue)  # the weights of Pillow's conversion to greyscale
    background = settings.background if in_colour else (grey, grey, grey)
    return replace(settings, size=(shape[1], shape[0]), in_colour=in_colour, background=background)


def _evaluation(
    source: DatasetSource, pool: Split, classes: tuple[str, ...], pictures: PictureSettings, cache_dir: Path
) -> Split | None:
    if not source.evaluation:
        if source.evaluation_labels:
            raise InvalidInput(
                "EVALUATION_MISSING",
                f"evaluation_labels names {source.evaluation_labels}, but evaluation is empty: name the samples too",
                field="evaluation",
                path=source.evaluation_labels,
            )
        return None
    split = read_split(
        source.evaluation,
        source.evaluation_labels,
        source,
        pictures,
        classes,
        cache_dir=cache_dir,
        samples_field="evaluation",
        labels_field="evaluation_labels",
        like=pool.layout,
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
    refuse_unknown(labels, split.names, source.evaluation_labels or source.evaluation, labels_field)
    return replace(split, labels=labels)


def _in_memory(samples: SampleArray, origin: str) -> NDArray[Any]:
    """Read evaluation samples into memory, in which all services hold them. Raises LimitExceeded for too much."""
    if samples.nbytes > _EVALUATION_BYTES_MAX:
        raise LimitExceeded(
            "EVALUATION_TOO_LARGE",
            f"evaluation samples {origin} take {samples.nbytes:,} bytes, and services hold at most "
            f"{_EVALUATION_BYTES_MAX:,} in memory: draw some of them at random",
            field="evaluation",
            origin=origin,
        )
    return samples[:]


def _check_alike(evaluation: SampleArray, pool: SampleArray, origin: str) -> None:
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


def _kind(samples: SampleArray) -> str:
    return "text" if samples.dtype == object else f"{'x'.join(map(str, samples.shape[1:]))} {samples.dtype}"


def _description(name: str, pool: Split, classes: tuple[str, ...], evaluation: NDArray[Any] | None) -> str:
    count = 0 if pool.labels is None else int((pool.labels >= 0).sum())
    known = "labelled" if count == len(pool.samples) else "partly labelled" if count else "unlabelled"
    evaluated = "no evaluation set" if evaluation is None else f"{len(evaluation):,} evaluation samples"
    return (
        f"{name}: {len(pool.samples):,} {known} samples of {_kind(pool.samples)}, {len(classes)} classes, {evaluated}"
    )
