"""Put vectors in the place of a dataset's samples: models see them, and people see the samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from labelloop.domain.value_scale import is_on_one_scale
from labelloop.errors import InvalidInput
from labelloop.events.v1.events_pb2 import SampleKind, SampleLayout
from numpy.typing import NDArray

from .dataset import Dataset, DatasetSource
from .shown import Shown
from .vectors import Vectors, read_vectors

_FIELD, _EVALUATION_FIELD = "embeddings", "evaluation_embeddings"


@dataclass(frozen=True)
class _Place:
    """Where vectors belong: ``count`` samples with ``names``, or without; errors name ``field``."""

    count: int
    names: Sequence[str]
    field: str


def check_embeddings(source: DatasetSource) -> None:
    """Raise InvalidInput for settings beside vectors that would have no effect, or that make their order unclear."""
    if not source.embeddings:
        if source.evaluation_embeddings:
            message = "evaluation_embeddings is set, but embeddings is empty: name the pool's vectors too"
            raise InvalidInput("EMBEDDINGS_MISSING", message, field=_FIELD)
        return
    if source.graph:
        message = "models see the vectors of embeddings, so that a graph has nothing to do: leave one of them out"
        raise InvalidInput("GRAPH_WITH_EMBEDDINGS", message, field="graph")
    if source.columns:
        message = "models see the vectors of embeddings, and no columns: leave columns out; people see all of them"
        raise InvalidInput("COLUMNS_UNSEEN", message, field="columns")


def embedded(dataset: Dataset, source: DatasetSource) -> Dataset:
    """Return ``dataset`` with the vectors that ``source`` names as its samples, and the samples as what people see.

    Raises:
        InvalidInput: The vectors are not one for each sample, or are none.
        NotFound: There is no such file.
        Corrupt: The file is damaged.
        LimitExceeded: It is too large.
    """
    if not source.embeddings:
        return dataset
    place = _Place(len(dataset.samples), dataset.names, _FIELD)
    samples, notes = _placed(source.embeddings, place, skip_bad=source.skip_bad)
    evaluation, more = _evaluation(dataset, source, samples.shape[1])
    told = f"models see the {samples.shape[1]:,} values of each row of {source.embeddings}, and people see the samples"
    last = "the exported model takes these vectors, not what people see: compute them in the same way before scoring"
    return replace(
        dataset,
        samples=samples,
        layout=SampleLayout(kind=SampleKind.SAMPLE_KIND_VECTOR, on_one_scale=is_on_one_scale(samples)),
        shown=Shown.of(dataset.samples, dataset.layout, dataset.originals),
        originals=(),
        evaluation_samples=evaluation,
        notes=(*dataset.notes, told, *notes, last, *more),
    )


def _evaluation(
    dataset: Dataset, source: DatasetSource, width: int
) -> tuple[NDArray[np.float32] | None, tuple[str, ...]]:
    """Return the vectors of the evaluation set, and notes on them."""
    path = source.evaluation_embeddings
    if dataset.evaluation_samples is None:
        if path:
            message = f"evaluation_embeddings names {path}, but there is no evaluation set: name it in evaluation"
            raise InvalidInput("EVALUATION_MISSING", message, field="evaluation")
        return None, ()
    if not path:
        message = "the pool has vectors (embeddings), but its evaluation set has none: name them"
        raise InvalidInput("EVALUATION_EMBEDDINGS_MISSING", message, field=_EVALUATION_FIELD)
    place = _Place(len(dataset.evaluation_samples), dataset.evaluation_names, _EVALUATION_FIELD)
    samples, notes = _placed(path, place, skip_bad=source.skip_bad)
    if samples.shape[1] != width:
        message = f"{path} has vectors of {samples.shape[1]} values, but the pool's have {width}: prepare both alike"
        raise InvalidInput("EVALUATION_KIND", message, field=_EVALUATION_FIELD)
    told = f"models see the {width:,} values of each row of {path}"
    return samples, tuple(f"evaluation set: {note}" for note in (told, *notes))


def _placed(path: str, place: _Place, *, skip_bad: bool) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Return the vector of each sample, and notes on how they were matched."""
    read = read_vectors(path, place.field)
    if read.names is not None:
        return _by_name(path, read, read.names, place)
    if skip_bad:
        message = (
            f"{path} has no names, and with skip_bad samples may be left out, so that rows could belong to others: "
            "save .npz with the arrays names and embeddings, or mend the pool and leave skip_bad out"
        )
        raise InvalidInput("EMBEDDINGS_UNNAMED", message, field=place.field)
    if len(read.values) != place.count:
        message = f"{path} has {len(read.values):,} vectors for {place.count:,} samples: there must be one for each"
        raise InvalidInput("EMBEDDINGS_COUNT", f"{message}, in the pool's order", field=place.field)
    first, last = (_called(place, row) for row in (0, place.count - 1))
    return read.values, (
        f"vectors are matched by place: row 0 is taken for {first} and row {place.count - 1} for {last}",
    )


def _called(place: _Place, row: int) -> str:
    return repr(place.names[row]) if place.names else f"sample {row}"


def _by_name(
    path: str, read: Vectors, names: Sequence[str], place: _Place
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    if not place.names:
        message = f"{path} has vectors by name, but the samples have no names: name their column (--id), or save .npy"
        raise InvalidInput("EMBEDDINGS_NAMES", message, field=place.field)
    row_of = {name: row for row, name in enumerate(names)}
    if missing := [name for name in place.names if name not in row_of]:
        message = (
            f"{path} has no vector for {len(missing):,} of {place.count:,} samples, such as {missing[0]!r}: add them, "
            "by the names that `labelloop pool inspect` and exports give the samples"
        )
        raise InvalidInput("EMBEDDINGS_MISSING", message, field=place.field, name=missing[0])
    notes = ["vectors are matched by name"]
    if unused := row_of.keys() - set(place.names):
        many = "s are" if len(unused) > 1 else " is"
        notes.append(f"{len(unused):,} vector{many} of no sample of the pool and not used, such as {min(unused)!r}")
    return read.values[[row_of[name] for name in place.names]], tuple(notes)
