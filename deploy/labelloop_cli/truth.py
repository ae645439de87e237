"""The true class of each sample of a pool, where it can be known here: to judge auto-labels by, never to train on."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from labelloop.trainer.v1.trainer_pb2 import LabelRecord, RunStatus
from labelloop.wire.errors import Corrupt, InvalidInput, NotFound
from labelloop.wire.idx import parse_idx
from numpy.typing import NDArray
from platformdirs import user_cache_path

from labelloop_cli.class_files import read_classes

_MNIST_LABELS = "train-labels-idx1-ubyte"
Truth = dict[int, int]


def truth_of(run: RunStatus, labels: Iterable[LabelRecord], given: Path | None) -> Truth | None:
    """Class by sample id: from ``given``, else from the dataset's own labels, should they lie on this machine. None
    where neither is. InvalidInput where ``given`` cannot be read, or is another than what the dataset answered with."""
    path = given or own_labels(run)
    if path is None:
        return None
    truth = {id_: label for id_, label in read_truth(path).items() if id_ < run.pool.sample_count}
    told = [record for record in labels if record.source.startswith("dataset:")]
    if all(truth.get(record.sample_id) == record.label for record in told):
        return truth
    if given:
        raise InvalidInput("NOT_THE_TRUTH", f"{given} differs from the labels that the dataset gave", field="truth")
    return None


def own_labels(run: RunStatus) -> Path | None:
    """The file of the dataset's labels, if it lies here."""
    if run.spec.dataset.name != "mnist":
        path = Path(run.spec.dataset.labels)
        return path if run.spec.dataset.labels and path.is_file() else None
    found = (folder / name for folder in _mnist_folders() for name in (_MNIST_LABELS, f"{_MNIST_LABELS}.gz"))
    return None if run.pool.stand_in else next((path for path in found if path.is_file()), None)


def _mnist_folders() -> list[Path]:
    """Where the oracle looks for it, or puts it."""
    given = os.environ.get("LABELLOOP_DATA_DIR")
    return [*([Path(given), Path(given) / "mnist"] if given else []), user_cache_path("labelloop") / "mnist"]


def read_truth(path: Path) -> Truth:
    """Of a .csv (id, class), a .npy or an IDX file, which may be gzipped. NotFound and InvalidInput for what cannot be
    read."""
    if path.suffix == ".csv":
        return dict(read_classes(path))
    if not path.is_file():
        raise NotFound("NO_FILE", f"there is no file {path}", path=path)
    try:
        data = path.read_bytes()
        classes = _array(gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data)
    except (OSError, ValueError, EOFError, zlib.error, InvalidInput, Corrupt) as error:
        raise InvalidInput("BAD_TRUTH", f"{path} holds no labels: {error}", field="truth") from error
    return dict(enumerate(classes.tolist()))


def _array(data: bytes) -> NDArray[Any]:
    """Classes ``[n]``. ValueError, InvalidInput or Corrupt where there are none."""
    if data.startswith(b"\x93NUMPY"):
        classes: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    else:
        classes = parse_idx(data, "it")
    if classes.ndim != 1 or classes.dtype.kind not in "iu":
        raise ValueError(f"it holds {classes.dtype} of {classes.ndim} dimensions, not one whole number a sample")
    return classes
