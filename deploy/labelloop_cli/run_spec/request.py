"""Turn the document of a run into the request that starts it, once it is known what the dataset holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labelloop.csv_files.class_rows import ClassRow, read_class_rows
from labelloop.errors import InvalidInput
from labelloop.events.v1.events_pb2 import DatasetSource, GoldSample
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetResponse
from labelloop.trainer.v1.trainer_pb2 import KnownLabel, StartRunRequest

from labelloop_cli.run_options import audit_size, auto_features
from labelloop_cli.run_spec.fields import Document, to_spec
from labelloop_cli.run_spec.file import without_auto
from labelloop_cli.run_spec.guidelines import read_guidelines

_NO_LABELS: Mapping[int, int] = {}
_NO_DATA = (
    "say what to label: `labelloop run start pictures/` for a folder of pictures, `labelloop run start samples.npy` "
    "for an array, or `labelloop run start mnist` to try it; `labelloop pool inspect PATH` shows what would be read"
)


@dataclass(frozen=True)
class WantedRun:
    """A run to start, as far as it is known before its dataset is.

    Attributes:
        request: The request, without what depends on the dataset.
        choose_features: Whether to choose the features that suit the dataset, instead of those in the spec.
        gold: Rows of the file of gold samples; None without a file.
        known: Rows of the file of labels that exist; None without a file.
        notes: What was assumed in reading these files, a sentence each.
    """

    request: StartRunRequest
    choose_features: bool
    gold: Iterator[ClassRow] | None
    known: Iterator[ClassRow] | None = None
    notes: Sequence[str] = ()

    def complete(
        self, dataset: DescribeDatasetResponse, gold: Mapping[int, int], known: Mapping[int, int] = _NO_LABELS
    ) -> None:
        """Set what depends on the dataset; ``gold`` and ``known`` are the classes of those samples, by id."""
        spec = self.request.spec
        if self.choose_features:
            spec.features = auto_features(dataset)
        if spec.HasField("guarantee") and not spec.guarantee.audit_size:
            spec.guarantee.audit_size = audit_size(spec.guarantee, _distinct(dataset) - spec.label_budget)
        if self.gold is not None:
            spec.queue.gold.extend(GoldSample(sample_id=sample_id, label=label) for sample_id, label in gold.items())
        self.request.known.extend(KnownLabel(sample_id=sample_id, label=label) for sample_id, label in known.items())


def _distinct(dataset: DescribeDatasetResponse) -> int:
    """Return the number of samples that can be asked for: of equal ones one."""
    return dataset.sample_count - dataset.duplicate_count


def start_request(document: Document, *, run_id: str, continues: str, known_file: Path | None = None) -> WantedRun:
    """Return the run that ``document`` describes.

    Raises:
        InvalidInput: If it names no dataset, although it continues no run, or has a field that is wrong; or if the file
            of gold samples, of known labels or of guidelines cannot be read.
        NotFound: If there is no such file.
    """
    known = without_auto(document)
    if not (known["dataset"].get("name") or continues):
        raise InvalidInput("NO_DATA", _NO_DATA, field="dataset")
    path = known.get("queue", {}).get("gold")
    gold, notes = read_class_rows(path) if isinstance(path, Path) else (None, ())
    if gold is not None:
        known = known | {"queue": {name: value for name, value in known["queue"].items() if name != "gold"}}
    guidelines = known.get("queue", {}).get("guidelines")
    if isinstance(guidelines, Path):
        known = known | {"queue": known["queue"] | {"guidelines": read_guidelines(guidelines)}}
    request = StartRunRequest(run_id=run_id, spec=to_spec(known), continues=continues)
    rows, more_notes = read_class_rows(known_file) if known_file else (None, ())
    return WantedRun(request, "features" not in known, gold, rows, (*notes, *more_notes))


def continued(dataset: DatasetSource, changes: DatasetSource) -> DatasetSource:
    """Return the dataset of a run to continue with what a spec that names no pool changes of it."""
    fields = {field.name: value for source in (dataset, changes) for field, value in source.ListFields()}
    return DatasetSource(**fields)
