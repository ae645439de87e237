"""Take over labels that exist before a run: those of a request, and those that a dataset knows. Pure functions."""

from __future__ import annotations

from collections import Counter

from labelloop.errors import InvalidInput, LimitExceeded
from labelloop.events.v1.events_pb2 import Inheritance, LabelSource, Purpose, RunStarted
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetResponse
from labelloop.trainer.v1.trainer_pb2 import StartRunRequest


def given_labels(request: StartRunRequest) -> Inheritance:
    """Return what a run takes over of the labels that its request names, without a model.

    Raises InvalidInput for a sample that is named twice, or is a gold sample, on which no model is trained.
    """
    known = request.known
    sample_ids = [each.sample_id for each in known]
    if gold := {sample.sample_id for sample in request.spec.queue.gold}.intersection(sample_ids):
        message = f"sample {min(gold)} is a gold sample and has a known label: leave it to one of them"
        raise InvalidInput("KNOWN_GOLD", message, field="known", sample_id=min(gold))
    if len({*sample_ids}) < len(sample_ids):
        repeated = next(sample_id for sample_id, times in Counter(sample_ids).items() if times > 1)
        message = f"sample {repeated} is named twice among the known labels: leave one of them"
        raise InvalidInput("KNOWN_TWICE", message, field="known", sample_id=repeated)
    return Inheritance(
        sample_ids=sample_ids, classes=[each.label for each in known], auto_labelled=[False] * len(known)
    )


def take_over_known(started: RunStarted, dataset: DescribeDatasetResponse) -> None:
    """Add the labels that the dataset knows, where it does not know all, to what a run of people's labels takes over.

    Gold samples are left out, on which no model is trained. A label of the run to continue, or of the request, counts
    before the dataset's.

    Raises:
        InvalidInput: The request and the dataset have different labels of a sample.
        LimitExceeded: The dataset knows more labels than a run can take over.
    """
    if started.spec.label_source != LabelSource.LABEL_SOURCE_QUEUE or not dataset.partly_known_count:
        return
    if dataset.partly_known_count > len(dataset.partly_known_ids):
        message = f"the dataset knows {dataset.partly_known_count:,} labels, more than a run can take over: use fewer"
        raise LimitExceeded("TOO_MANY_KNOWN", message, field="spec.dataset.labels", count=dataset.partly_known_count)
    inheritance = started.inheritance
    of_dataset = dict(zip(dataset.partly_known_ids, dataset.partly_known_classes, strict=True))
    if not inheritance.run_id:
        _check_agreement(inheritance, of_dataset)
    for sample_id in {*inheritance.sample_ids, *(sample.sample_id for sample in started.spec.queue.gold)}:
        of_dataset.pop(sample_id, None)
    inheritance.sample_ids.extend(of_dataset)
    inheritance.classes.extend(of_dataset.values())
    inheritance.auto_labelled.extend([False] * len(of_dataset))
    if inheritance.purposes:
        inheritance.purposes.extend([Purpose.PURPOSE_UNSPECIFIED] * len(of_dataset))
    inheritance.given_count = len(of_dataset)


def _check_agreement(inheritance: Inheritance, of_dataset: dict[int, int]) -> None:
    for sample_id, label in zip(inheritance.sample_ids, inheritance.classes, strict=True):
        if of_dataset.get(sample_id, label) != label:
            message = f"the known label of sample {sample_id} differs from the one in the dataset: correct one of them"
            raise InvalidInput("KNOWN_DIFFERS", message, field="known", sample_id=sample_id)
