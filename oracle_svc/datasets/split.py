"""Read one set of samples with its labels from disk: a pool or an evaluation set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from labelloop.domain.class_names import comparable
from labelloop.domain.sample_array import SampleValues
from labelloop.errors import InvalidInput, NotFound
from labelloop.events.v1.events_pb2 import SampleLayout
from numpy.typing import NDArray

from .arrays import as_labels
from .dataset import DatasetSource, Original
from .file_access import is_file, is_folder, status_of
from .folders import read_folder
from .label_table import SUFFIXES as LABEL_TABLES
from .label_table import read_label_table
from .parquet_parts import is_parquet_folder, parts_note
from .picture_settings import PictureSettings
from .reading import check_size, read_array
from .sample_files import array_files, is_array_folder, read_samples
from .table_file import is_table
from .tables import read_table
from .text_set import Texts
from .texts import is_text_folder, read_text_folder, read_text_table
from .unknown_labels import named_labels, whole_labels


@dataclass(frozen=True)
class Split:
    """A set of samples, and its labels if known.

    Attributes:
        samples: [N, *shape], validated; large ones are read part by part.
        labels: [N], with their range not validated yet, -1 where unknown; None if all are unknown.
        classes: Names of the class folders; empty without them.
        names: The name of each sample; empty if they have none.
        originals: What people see of each sample; empty if they see the sample itself.
        notes: What was chosen, left out or assumed in reading, a sentence each.
        open_classes: Whether ``classes`` are those that occur among the labels, and may lack some of the run's.
        layout: What a sample is, where the file says so; else the values are to be looked at.
    """

    samples: SampleValues
    labels: NDArray[Any] | None
    classes: tuple[str, ...] = ()
    names: Sequence[str] = ()
    originals: Sequence[Original] = ()
    notes: tuple[str, ...] = ()
    open_classes: bool = False
    layout: SampleLayout | None = None


def read_split(
    samples: str,
    labels: str,
    source: DatasetSource,
    pictures: PictureSettings,
    classes: Sequence[str] = (),
    *,
    cache_dir: Path,
    samples_field: str,
    labels_field: str,
    like: SampleLayout | None = None,
) -> Split:
    """Read the samples at the path ``samples``, with the labels in the file ``labels`` unless that is empty.

    ``source`` says how files are read, beside their paths, ``pictures`` how pictures in a folder become samples of one
    size, and ``like`` which columns and categories the rows of an evaluation set have. Labels in a CSV are those of
    ``classes``, or of the classes that occur there if none are given. Large pools are unpacked in ``cache_dir``.
    ``samples_field`` and ``labels_field`` name the setting at fault in errors. Raises InvalidInput, NotFound, Corrupt
    and LimitExceeded.
    """
    path = existing(samples, samples_field)
    try:
        split = _read(path, source, pictures, samples_field, like, cache_dir)
        return _with_labels(split, labels, labels_field, classes) if labels else split
    except OSError as error:  # no permission, a failing disk
        raise InvalidInput(
            "UNREADABLE",
            f"{samples_field} cannot be read: {error}",
            field=samples_field,
            setting=samples_field,
            error=error,
        ) from error


def exists(text: str) -> bool:
    """Return whether ``text`` is the path of a file or folder; False for pipes and devices, which may never end."""
    try:
        return bool(text) and (is_file(Path(text)) or is_folder(Path(text)))
    except OSError:  # for instance a path that is too long
        return False


def existing(text: str, field: str) -> Path:
    """Return ``text`` as the path of an existing file or folder. Raises NotFound."""
    if not exists(text):
        raise NotFound(
            "NO_SUCH_FILE",
            f"{field}: there is no file or folder {text!r} where the oracle service runs: correct the path, or "
            "upload it with `labelloop pool push`",
            field=field,
            setting=field,
            path=text,
        )
    return Path(text)


def _read(
    path: Path,
    source: DatasetSource,
    pictures: PictureSettings,
    field: str,
    like: SampleLayout | None,
    cache_dir: Path,
) -> Split:
    if is_parquet_folder(path):
        table = _read_table(path, source, field, like)
        return replace(table, notes=(parts_note(path), *table.notes))
    if is_folder(path):
        if is_text_folder(path):
            return _of_texts(read_text_folder(path, source, field), open_classes=False)
        if source.text_column:
            message = f"{path} is a folder, in which no file has a column {source.text_column!r}: leave text_column out"
            raise InvalidInput("NO_COLUMNS", message, field="text_column", path=path)
        if is_array_folder(path):
            return _of_arrays(path, cache_dir, field)
        return Split(*read_folder(path, pictures, field, cache_dir))
    if source.text_column or is_table(path):
        return _read_table(path, source, field, like)
    return _of_arrays(path, cache_dir, field)


def _of_texts(texts: Texts, *, open_classes: bool) -> Split:
    return Split(texts.samples, texts.labels, texts.classes, texts.names, notes=texts.notes, open_classes=open_classes)


def _read_table(path: Path, source: DatasetSource, field: str, like: SampleLayout | None) -> Split:
    if source.text_column:
        return _of_texts(read_text_table(path, source, field), open_classes=True)
    table = read_table(path, source, field, like)
    found = table.samples, table.labels, table.classes, table.names
    return Split(*found, notes=table.notes, open_classes=True, layout=table.layout)


def _of_arrays(path: Path, cache_dir: Path, field: str) -> Split:
    found = read_samples(path, cache_dir, field)
    return Split(found.samples, None, notes=found.notes)


def _with_labels(split: Split, labels: str, field: str, classes: Sequence[str]) -> Split:
    if split.classes:
        said = "the cells of the label column" if split.open_classes else "the class folders"
        raise InvalidInput(
            "LABELS_TWICE",
            f"{field} names {labels}, but {said} already say the labels: leave {field} out",
            field=field,
            setting=field,
            path=labels,
        )
    path = existing(labels, field)
    if path.suffix.lower() in LABEL_TABLES:
        table = read_label_table(path, len(split.samples), split.names, classes, field)
        return replace(split, labels=table.labels, classes=table.classes, notes=(*split.notes, *table.notes))
    raw = whole_labels(_read_labels(path, field), labels, field)
    if raw.dtype.kind == "U" and raw.ndim == 1:
        raw, known, notes = named_labels([comparable(name) for name in raw.tolist()], classes)
        split = replace(split, classes=known, open_classes=True, notes=(*split.notes, *notes))
    return replace(split, labels=as_labels(raw, len(split.samples), labels, field))


def _read_labels(path: Path, field: str) -> NDArray[Any]:
    """Read the array in a file, or those in a folder of .npy files, one after the other."""
    if not is_folder(path):
        return read_array(path)
    if not is_array_folder(path):
        message = f"{path} is a folder of other files than .npy: name a file of labels, or a folder of .npy files alone"
        raise InvalidInput("LABELS_FOLDER", message, field=field, path=path)
    check_size(sum(status_of(each).st_size for each in array_files(path)), str(path))
    parts = [np.atleast_1d(read_array(each)) for each in array_files(path)]
    for each, part in zip(array_files(path), parts, strict=True):
        if part.ndim != 1 or part.dtype.kind != parts[0].dtype.kind:
            message = f"{each} is {part.dtype} of shape {part.shape}, but labels are a list, in all files of one kind"
            raise InvalidInput("LABELS_SHAPE", message, field=field, path=each)
    return np.concatenate(parts)
