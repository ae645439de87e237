"""Read the true classes of a pool's samples from local files, to judge auto-labels by and never to train on."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from labelloop.artifacts.idx import parse_idx
from labelloop.csv_files.class_rows import read_class_rows
from labelloop.errors import Corrupt, InvalidInput, LimitExceeded, NotFound
from labelloop.trainer.v1.trainer_pb2 import LabelRecord, RunStatus
from numpy.typing import NDArray
from platformdirs import user_cache_path

from labelloop_cli.labelled_samples import labelled_samples
from labelloop_cli.output.console import tell
from labelloop_cli.sample_names import SampleNames

_MNIST_LABELS = "train-labels-idx1-ubyte"
_CLASS_MAX = 2**31
_BYTES_MAX = 512 * 1024 * 1024  # 64 million classes of eight bytes
_TABLES = {".csv", ".tsv", ".txt"}
Truth = dict[int, int]


async def truth_of(
    run: RunStatus, labels: Iterable[LabelRecord], given: Path | None, samples: SampleNames
) -> Truth | None:
    """Read the true class by sample id from ``given``, or else from the dataset's own labels on this machine.

    Returns None if there is neither, or if the dataset's own labels differ from those that the run got from the
    dataset.

    Raises:
        NotFound: If ``given`` does not exist, or names a sample that the pool lacks.
        InvalidInput: If the file cannot be read, or if ``given`` differs from the labels that the dataset gave.
    """
    path = given or own_labels(run)
    if path is None:
        return None
    known = await read_truth(path, run.pool.classes, samples)
    truth = {id_: label for id_, label in known.items() if id_ < run.pool.sample_count}
    told = [record for record in labels if record.source.startswith("dataset:")]
    if all(truth.get(record.sample_id) == record.label for record in told):
        return truth
    if given:
        raise InvalidInput("NOT_THE_TRUTH", f"{given} differs from the labels that the dataset gave", field="truth")
    return None


def own_labels(run: RunStatus) -> Path | None:
    """Find the file of the dataset's labels on this machine; None if it is not here.

    None too if the pool was drawn from the dataset: the file is of all samples, and counts them otherwise.
    """
    if run.spec.dataset.sample_limit and run.spec.dataset.limit_seed:
        return None
    if run.spec.dataset.name != "mnist":
        path = Path(run.spec.dataset.labels)
        return path if run.spec.dataset.labels and path.is_file() else None
    found = (folder / name for folder in _mnist_folders() for name in (_MNIST_LABELS, f"{_MNIST_LABELS}.gz"))
    return None if run.pool.stand_in else next((path for path in found if path.is_file()), None)


def _mnist_folders() -> list[Path]:
    """List the folders in which the oracle looks for MNIST, or to which it downloads it."""
    given = os.environ.get("LABELLOOP_DATA_DIR")
    return [*([Path(given), Path(given) / "mnist"] if given else []), user_cache_path("labelloop") / "mnist"]


async def read_truth(path: Path, classes: Sequence[str], samples: SampleNames) -> Truth:
    """Read class by sample id from a CSV (.csv, .tsv or .txt), a .npy or an IDX file; the latter two may be gzipped.

    Raises NotFound if there is no file, InvalidInput if it cannot be read, LimitExceeded if it is too large.
    """
    if path.suffix.lower() in _TABLES:
        rows, notes = read_class_rows(path)
        tell(notes)
        return await labelled_samples(rows, classes, samples)
    return _read_array(path)


def _read_array(path: Path) -> Truth:
    if not path.is_file():
        raise NotFound("NO_FILE", f"there is no file {path}", path=path)
    try:
        classes = _array(_read(path))
    except (OSError, ValueError, EOFError, zlib.error, InvalidInput, Corrupt) as error:
        raise InvalidInput("BAD_TRUTH", f"{path} holds no labels: {error}", field="truth") from error
    return {place: int(label) for place, label in enumerate(classes.tolist()) if label == label and label != -1}


def _read(path: Path) -> bytes:
    """Return the bytes of a file, unpacked. Raises LimitExceeded if they are too many."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        data = (gzip.GzipFile(fileobj=file) if packed else file).read(_BYTES_MAX + 1)
    if len(data) > _BYTES_MAX:
        message = f"{path} takes more than {_BYTES_MAX:,} bytes, which is more than labels of a pool do: is it another?"
        raise LimitExceeded("TRUTH_TOO_LARGE", message, field="truth", most=_BYTES_MAX)
    return data


def _array(data: bytes) -> NDArray[Any]:
    """Parse classes ``[n]``: whole numbers, -1 or NaN where unknown.

    Raises ValueError, InvalidInput or Corrupt if there are none.
    """
    classes = _npy(data) if data.startswith(b"\x93NUMPY") else parse_idx(data, "it")
    if classes.ndim != 1 or not _are_whole(classes):
        raise ValueError(f"it holds {classes.dtype} of {classes.ndim} dimensions, not one whole number a sample")
    return classes


def _npy(data: bytes) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # almost any, for a broken header; MemoryError for one that claims too much
        raise ValueError(f"it is cut short or damaged: {error}") from error
    return array


def _are_whole(classes: NDArray[Any]) -> bool:
    if classes.dtype.kind != "f":
        return classes.dtype.kind in "iu"
    whole = (np.floor(classes) == classes) & (np.abs(classes) <= _CLASS_MAX)
    return bool((whole | np.isnan(classes)).all())
