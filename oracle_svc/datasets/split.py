"""One set of samples from disk, with the labels that lie beside it: a pool, or an evaluation set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelloop.wire.errors import InvalidInput, NotFound
from numpy.typing import NDArray

from .arrays import as_labels, as_samples
from .folders import read_folder
from .reading import read_array


@dataclass(frozen=True)
class Split:
    """Samples [N, *shape], checked; labels [N], whose range is not checked yet; the class folders' names, if any."""

    samples: NDArray[Any]
    labels: NDArray[Any] | None
    classes: tuple[str, ...] = ()


def read_split(samples: str, labels: str, *, samples_field: str, labels_field: str) -> Split:
    """What is at the path ``samples``, labelled by the file at ``labels`` unless that is empty.

    The fields say in errors which setting is at fault. Raises InvalidInput, NotFound and Corrupt.
    """
    path = existing(samples, samples_field)
    try:
        split = Split(*read_folder(path, samples_field)) if path.is_dir() else _read_file(path, samples_field)
        return _with_labels(split, labels, labels_field) if labels else split
    except OSError as error:  # no permission, a failing disk
        raise InvalidInput(
            "UNREADABLE",
            f"{samples_field} cannot be read: {error}",
            field=samples_field,
            setting=samples_field,
            error=error,
        ) from error


def exists(text: str) -> bool:
    """Whether ``text`` is the path of a file or a folder; not a pipe or a device, which might never end."""
    try:
        return bool(text) and (Path(text).is_file() or Path(text).is_dir())
    except OSError:  # for instance: longer than a path may be
        return False


def existing(text: str, field: str) -> Path:
    """``text`` as a path of something that is there. Raises NotFound."""
    if not exists(text):
        raise NotFound(
            "NO_SUCH_FILE",
            f"{field}: there is no file or folder {text!r} where the oracle service runs: correct the path",
            field=field,
            setting=field,
            path=text,
        )
    return Path(text)


def _read_file(path: Path, field: str) -> Split:
    return Split(as_samples(read_array(path), str(path), field), None)


def _with_labels(split: Split, labels: str, field: str) -> Split:
    if split.classes:
        raise InvalidInput(
            "LABELS_TWICE",
            f"{field} names {labels}, but the class folders already say the labels: leave {field} out",
            field=field,
            setting=field,
            path=labels,
        )
    raw = read_array(existing(labels, field))
    return Split(split.samples, as_labels(raw, len(split.samples), labels, field))
