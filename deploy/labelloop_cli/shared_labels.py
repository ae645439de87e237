"""Give the labels of a run to the samples that equal a labelled one. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from labelloop.trainer.v1.trainer_pb2 import LabelRecord

SOURCE = "duplicate"


def shared_labels(records: Sequence[LabelRecord], first_equal: Mapping[int, int]) -> Iterator[tuple[LabelRecord, int]]:
    """Yield a label for each sample that has none but equals a labelled one, and the id of that one, by sample id.

    Where several equal samples have a label, as some did before the run, that of the first counts; labels count before
    auto-labels.

    Args:
        records: The run's labels and auto-labels.
        first_equal: The first sample that equals each duplicate of the pool.
    """
    labelled = {record.sample_id for record in records}
    by_first: dict[int, LabelRecord] = {}
    for record in sorted(records, key=lambda each: (each.auto_labelled, each.sample_id)):
        by_first.setdefault(first_equal.get(record.sample_id, record.sample_id), record)
    for sample_id in sorted({*first_equal, *first_equal.values()} - labelled):
        if equal := by_first.get(first_equal.get(sample_id, sample_id)):
            yield _shared(equal, sample_id), equal.sample_id


def _shared(record: LabelRecord, sample_id: int) -> LabelRecord:
    """Return the label as one of ``sample_id``, for which nobody was asked."""
    shared = LabelRecord()
    shared.CopyFrom(record)
    shared.sample_id, shared.source = sample_id, SOURCE
    shared.ClearField("annotator")
    shared.ClearField("purpose")
    shared.ClearField("score")
    return shared


def equal_samples(sample_id: int, first_equal: Mapping[int, int]) -> list[int]:
    """Return the other samples that equal ``sample_id``, by id."""
    first = first_equal.get(sample_id, sample_id)
    equal = {first, *(each for each, its_first in first_equal.items() if its_first == first)}
    return sorted(equal - {sample_id})


def without_shared(classes: Mapping[int, int], first_equal: Mapping[int, int]) -> dict[int, int]:
    """Leave out duplicates whose class is that of an equal sample before them in ``classes``, by sample id.

    Exports have a row for each of them, but only one of equal samples is asked for.
    """
    firsts = {sample_id for sample_id in classes if sample_id not in first_equal}
    return {
        sample_id: class_
        for sample_id, class_ in classes.items()
        if not ((first := first_equal.get(sample_id)) in firsts and classes[first] == class_)
    }
