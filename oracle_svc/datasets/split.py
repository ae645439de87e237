"""Read one set of samples with its labels from disk: a pool or an evaluation set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labelloop.domain.class_names import comparable
from labelloop.errors import InvalidInput, NotFound
from labelloop.events.v1.events_pb2 import SampleLayout
from numpy.typing import NDArray

from .arrays import as_labels, as_samples
from .dataset import DatasetSource, Original
from .folders import read_folder
from .label_table import SUFFIXES as LABEL_TABLES
from .label_table import read_label_table
from .picture_settings import PictureSettings
from .reading import read_array
from .table_file import is_table
from .tables import read_table
from .text_set import Texts
from .texts import is_text_folder, read_text_folder, read_text_table
from .unknown_labels import named_labels, whole_labels


@dataclass(frozen=True)
class Split:
    """A set of samples, and its labels if known.

    Attributes:
        samples: [N, *shape], validated.
        labels: [N], with their range not validated yet, -1 where unknown; None if all are unknown.
        classes: Names of the class folders; empty without them.
        names: The name of each sample; empty if they have none.
        originals: What people see of each sample; empty if they see the sample itself.
        notes: What was chosen, left out or assumed in reading, a sentence each.
        open_classes: Whether ``classes`` are those that occur among the labels, and may lack some of the run's.
        layout: What a sample is, where the file says so; else the values are to be looked at.
    """

    samples: NDArray[Any]
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
    samples_field: str,
    labels_field: str,
    like: SampleLayout | None = None,
) -> Split:
    """Read the samples at the path ``samples``, with the labels in the file ``labels`` unless that is empty.

    ``source`` says how files are read, beside their paths, ``pictures`` how pictures in a folder become samples of one
    size, and ``like`` which columns and categories the rows of an evaluation set have. Labels in a CSV are those of
    ``classes``, or of the classes that occur there if none are given. ``samples_field`` and ``labels_field`` name the
    setting at fault in errors. Raises InvalidInput, NotFound, Corrupt and LimitExceeded.
    """
    path = existing(samples, samples_field)
    try:
        split = _read(path, source, pictures, samples_field, like)
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
        return bool(text) and (Path(text).is_file() or Path(text).is_dir())
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


def _read(path: Path, source: DatasetSource, pictures: PictureSettings, field: str, like: SampleLayout | None) -> Split:
    if path.is_dir():
        if is_text_folder(path):
            return _of_texts(read_text_folder(path, source, field), open_classes=False)
        if source.text_column:
            message = f"{path} is a folder, in which no file has a column {source.text_column!r}: leave text_column out"
            raise InvalidInput("NO_COLUMNS", message, field="text_column", path=path)
        return Split(*read_folder(path, pictures, field))
    if source.text_column:
        return _of_texts(read_text_table(path, source, field), open_classes=True)
    return _read_file(path, source, field, like)


def _of_texts(texts: Texts, *, open_classes: bool) -> Split:
    return Split(texts.samples, texts.labels, texts.classes, texts.names, notes=texts.notes, open_classes=open_classes)


def _read_file(path: Path, source: DatasetSource, field: str, like: SampleLayout | None) -> Split:
    if is_table(path):
        table = read_table(path, source, field, like)
        found = table.samples, table.labels, table.classes, table.names
        return Split(*found, notes=table.notes, open_classes=True, layout=table.layout)
    return Split(as_samples(read_array(path), str(path), field), None)


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
    raw = whole_labels(read_array(path), labels, field)
    if raw.dtype.kind == "U" and raw.ndim == 1:
        raw, known, notes = named_labels([comparable(name) for name in raw.tolist()], classes)
        split = replace(split, classes=known, open_classes=True, notes=(*split.notes, *notes))
    return replace(split, labels=as_labels(raw, len(split.samples), labels, field))
