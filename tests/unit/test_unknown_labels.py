"""Labels of which some are unknown, in every form in which they are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from labelloop.domain.event_schema import shape_fault
from labelloop.errors import InvalidInput, LimitExceeded
from labelloop.events.v1.events_pb2 import (
    Event,
    FeatureKind,
    GoldSample,
    Inheritance,
    LabelSource,
    Protocol,
    Purpose,
    RunSpec,
    RunStarted,
)
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetResponse
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop_cli.output.pool_summary import facts
from labelloop_cli.reporting.truth import read_truth
from labelloop_cli.sample_names import SampleNames

from oracle_svc.datasets import Dataset, DatasetSource, load
from oracle_svc.datasets.duplicates import with_duplicates
from oracle_svc.datasets.identity import dataset_digest
from oracle_svc.datasets.known_labels import class_counts, partly_known
from oracle_svc.datasets.limit import limited
from tests.unused import UNUSED
from trainer_svc.domain.spec_validation import check_spec
from trainer_svc.known_labels import take_over_known

LABELS = (1, None, 0, None, 2, 1)
QUEUE, DATASET = LabelSource.LABEL_SOURCE_QUEUE, LabelSource.LABEL_SOURCE_DATASET


def pool(folder: Path) -> str:
    np.save(folder / "pool.npy", np.arange(12, dtype=np.float32).reshape(6, 2))
    return str(folder / "pool.npy")


def array(folder: Path, labels: Sequence[Any]) -> DatasetSource:
    np.save(folder / "labels.npy", np.array(labels))
    return DatasetSource(pool(folder), labels=str(folder / "labels.npy"))


def integers(folder: Path) -> DatasetSource:
    return array(folder, [-1 if label is None else label for label in LABELS])


def floats(folder: Path) -> DatasetSource:
    return array(folder, [np.nan if label is None else label for label in LABELS])


def strings(folder: Path) -> DatasetSource:
    return array(folder, ["" if label is None else str(label) for label in LABELS])


def label_file(folder: Path, unknown: str = "") -> DatasetSource:
    rows = [f"{place},{unknown if label is None else label}" for place, label in enumerate(LABELS)]
    (folder / "labels.csv").write_text("\n".join(["id,class", *rows]))
    return DatasetSource(pool(folder), labels=str(folder / "labels.csv"))


def label_file_of_minus_ones(folder: Path) -> DatasetSource:
    return label_file(folder, "-1")


def label_file_without_rows(folder: Path) -> DatasetSource:
    known = [f"{place},{label}" for place, label in enumerate(LABELS) if label is not None]
    (folder / "labels.csv").write_text("\n".join(["id,class", *known]))
    return DatasetSource(pool(folder), labels=str(folder / "labels.csv"))


def table(folder: Path, *, text: str = "", unknown: str = "") -> DatasetSource:
    rows = [f"{place},word {place},{unknown if label is None else label}" for place, label in enumerate(LABELS)]
    (folder / "pool.csv").write_text("\n".join(["number,text,kind", *rows]))
    return DatasetSource(str(folder / "pool.csv"), label_column="kind", text_column=text)


def table_of_minus_ones(folder: Path) -> DatasetSource:
    return table(folder, unknown="-1")


def texts(folder: Path) -> DatasetSource:
    return table(folder, text="text")


def parquet(folder: Path) -> DatasetSource:
    pq.write_table(pa.table({"number": [*range(6)], "kind": pa.array(LABELS, pa.int64())}), folder / "pool.parquet")
    return DatasetSource(str(folder / "pool.parquet"), label_column="kind")


FORMS = [
    integers,
    floats,
    strings,
    label_file,
    label_file_of_minus_ones,
    label_file_without_rows,
    table,
    table_of_minus_ones,
    texts,
    parquet,
]


def loaded(source: DatasetSource, folder: Path) -> Dataset:
    return load(source, data_dir=None, cache_dir=folder)


@pytest.mark.parametrize("form", FORMS)
def test_known_labels_are_told_from_unknown_ones(form: Callable[[Path], DatasetSource], tmp_path: Path) -> None:
    dataset = loaded(form(tmp_path), tmp_path)
    assert dataset.labels is None
    assert dataset.known is not None
    assert dataset.known.tolist() == [-1 if label is None else label for label in LABELS]
    assert dataset.classes == ("0", "1", "2")
    assert class_counts(dataset) == [1, 2, 1]
    assert partly_known(dataset).ids == [0, 2, 4, 5]
    assert partly_known(dataset).classes == [1, 0, 2, 1]
    assert "4 of 6 samples have a label: it costs nothing" in " ".join(dataset.notes)
    assert "partly labelled" in dataset.description


def test_minus_one_is_a_class_where_it_is_named_and_said_to_be_unknown_elsewhere(tmp_path: Path) -> None:
    for form, classes in (
        (table_of_minus_ones, ("-1", "0", "1", "2")),
        (label_file_of_minus_ones, ("-1", "0", "1", "2")),
    ):
        source = form(tmp_path)
        named = loaded(DatasetSource(**{**vars(source), "classes": classes}), tmp_path)
        assert named.labels is not None
        assert named.labels.tolist() == [0 if label is None else label + 1 for label in LABELS]
    assert "2 labels are -1, which is taken for unknown" in " ".join(
        loaded(table_of_minus_ones(tmp_path), tmp_path).notes
    )


def test_a_pool_without_any_label_is_unlabelled(tmp_path: Path) -> None:
    source = array(tmp_path, [-1] * 6)
    dataset = loaded(DatasetSource(source.name, labels=source.labels, classes=("a", "b")), tmp_path)
    assert (dataset.labels, dataset.known) == (None, None)
    with pytest.raises(InvalidInput) as caught:
        loaded(source, tmp_path)
    assert caught.value.reason == "TOO_FEW_CLASSES"


@pytest.mark.parametrize("form", FORMS)
def test_an_evaluation_set_needs_all_labels(form: Callable[[Path], DatasetSource], tmp_path: Path) -> None:
    source = form(tmp_path)
    own = {"evaluation": source.name, "evaluation_labels": source.labels}
    with pytest.raises(InvalidInput, match="2 of 6 evaluation samples have no label, such as '1'") as caught:
        loaded(DatasetSource(**{**vars(source), **own}), tmp_path)
    assert caught.value.reason == "EVALUATION_LABELS_MISSING"
    assert caught.value.field == ("evaluation_labels" if source.labels else "evaluation")


def test_known_labels_are_part_of_the_digest_and_of_limits(tmp_path: Path) -> None:
    dataset = loaded(integers(tmp_path), tmp_path)
    other = loaded(array(tmp_path, [1, -1, 1, -1, 2, 1]), tmp_path)
    assert dataset_digest(dataset) != dataset_digest(other)
    drawn = limited(dataset, 3, 5)
    assert drawn.known is not None
    rows = [int(value) // 2 for value in drawn.samples[:, 0]]
    assert drawn.known.tolist() == [-1 if (label := LABELS[row]) is None else label for row in rows]


def test_equal_samples_differ_only_in_labels_that_are_known(tmp_path: Path) -> None:
    np.save(tmp_path / "pool.npy", np.array([[0.0], [0], [1], [1]]))
    for labels, told in (([0, -1, 1, -1], False), ([0, 1, 1, -1], True)):
        np.save(tmp_path / "labels.npy", np.array(labels))
        source = DatasetSource(str(tmp_path / "pool.npy"), labels=str(tmp_path / "labels.npy"))
        notes = with_duplicates(loaded(source, tmp_path)).notes
        assert any("different labels" in note for note in notes) == told


def described(count: int = 4) -> DescribeDatasetResponse:
    return DescribeDatasetResponse(
        sample_count=6,
        shape=[2],
        dtype="float32",
        classes=["0", "1", "2"],
        partly_known_count=4,
        partly_known_ids=[0, 2, 4, 5][:count],
        partly_known_classes=[1, 0, 2, 1][:count],
    )


def spec(source: LabelSource.ValueType, budget: int = 2) -> RunSpec:
    return RunSpec(
        strategy=Strategy.STRATEGY_MARGIN,
        first_strategy=Strategy.STRATEGY_RANDOM,
        protocol=Protocol.PROTOCOL_HONEST,
        batch_size=1,
        label_budget=budget,
        report_every=1,
        label_source=source,
    )


def test_people_are_asked_for_unknown_labels_only() -> None:
    started = RunStarted(spec=spec(QUEUE))
    take_over_known(started, described())
    assert list(started.inheritance.sample_ids) == [0, 2, 4, 5]
    assert list(started.inheritance.classes) == [1, 0, 2, 1]
    check_spec(started.spec, described(), started.inheritance)
    with pytest.raises(InvalidInput, match="the pool has 2 left to label"):
        check_spec(spec(QUEUE, budget=3), described(), started.inheritance)


def test_gold_samples_and_labels_of_the_request_come_before_those_of_the_dataset() -> None:
    started = RunStarted(spec=spec(QUEUE))
    started.spec.queue.gold.append(GoldSample(sample_id=2, label=0))
    started.inheritance.CopyFrom(Inheritance(sample_ids=[5, 1], classes=[1, 0], auto_labelled=[False, False]))
    take_over_known(started, described())
    assert list(started.inheritance.sample_ids) == [5, 1, 0, 4]
    started.inheritance.CopyFrom(Inheritance(sample_ids=[5], classes=[0], auto_labelled=[False]))
    with pytest.raises(InvalidInput) as caught:
        take_over_known(started, described())
    assert (caught.value.reason, caught.value.field) == ("KNOWN_DIFFERS", "known")


def test_a_label_of_the_run_to_continue_comes_before_the_datasets() -> None:
    started = RunStarted(spec=spec(QUEUE))
    parent = Inheritance(
        run_id="p", sample_ids=[5], classes=[0], auto_labelled=[False], purposes=[Purpose.PURPOSE_CHOSEN]
    )
    started.inheritance.CopyFrom(parent)
    take_over_known(started, described())
    assert list(started.inheritance.sample_ids) == [5, 0, 2, 4]
    assert list(started.inheritance.classes) == [0, 1, 0, 2]
    assert list(started.inheritance.purposes) == [1, 0, 0, 0]
    assert started.inheritance.given_count == 3
    event = Event(run_id="r", run_started=started)
    started.inheritance.given_count = 5
    assert "more given labels" in shape_fault(Event(run_id="r", run_started=started))
    assert "more given labels" not in shape_fault(event)


def test_a_dataset_that_lacks_labels_cannot_answer() -> None:
    with pytest.raises(InvalidInput, match="2 of 6 samples have no label") as caught:
        check_spec(spec(DATASET), described(), Inheritance())
    assert (caught.value.reason, caught.value.field) == ("PARTLY_LABELLED", "spec.label_source")


def test_more_labels_than_a_run_can_take_over_are_refused() -> None:
    with pytest.raises(LimitExceeded) as caught:
        take_over_known(RunStarted(spec=spec(QUEUE)), described(count=0))
    assert caught.value.reason == "TOO_MANY_KNOWN"


def test_the_summary_says_how_many_labels_are_known() -> None:
    told = dict(facts(described(), FeatureKind.FEATURE_KIND_PIXELS))
    assert told["labels"].startswith("4 of 6 are known and cost nothing; people are asked")


@pytest.mark.parametrize("form", [integers, floats])
async def test_auto_labels_are_judged_by_the_labels_that_are_known(
    form: Callable[[Path], DatasetSource], tmp_path: Path
) -> None:
    truth = await read_truth(Path(form(tmp_path).labels), ["0", "1", "2"], SampleNames(UNUSED))
    assert truth == {0: 1, 2: 0, 4: 2, 5: 1}
