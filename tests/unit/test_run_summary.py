"""The text of a run's figures in the command's output."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from labelloop.diagnostics.v1.diagnostics_pb2 import HoldUp
from labelloop.domain.statistics import tells_little
from labelloop.events.v1.events_pb2 import AutoLabelsCertified, GuaranteeSpec, PoolPublished, Protocol, RunSpec
from labelloop.oracle.v1.oracle_pb2 import AnnotatorRecord, Backlog
from labelloop.trainer.v1.trainer_pb2 import MeasuredAccuracy, Phase, RoundResult, RunStatus
from labelloop_cli.operations.backlog import annotators_of
from labelloop_cli.operations.run import listed, standing
from labelloop_cli.output import run_summary
from rich.console import Console
from rich.table import Table


def measured(correct: int) -> MeasuredAccuracy:
    return MeasuredAccuracy(correct=correct, total=100, value=correct / 100, low=0.1, high=0.95)


EVALUATION, CONTROL, STOPPING = measured(90), measured(80), measured(60)
HONEST = RunSpec(protocol=Protocol.PROTOCOL_HONEST, label_budget=400)


@pytest.mark.parametrize(
    ("latest", "protocol", "said"),
    [
        (
            *(RoundResult(evaluation=EVALUATION, control=CONTROL, stopping=STOPPING), 2),
            "accuracy (evaluation set, n = 100) 90 %, 95 % interval 82 to 96 %",
        ),
        (
            *(RoundResult(control=CONTROL, stopping=STOPPING), 2),
            "accuracy (100 control samples) 80 %, 95 % interval 70 to 88 %",
        ),
        (
            *(RoundResult(control=MeasuredAccuracy(correct=4, total=4), stopping=STOPPING), 2),
            "accuracy (4 control samples) between 39 % and 100 %",
        ),
        (RoundResult(stopping=STOPPING), 2, "accuracy not known"),
        (RoundResult(stopping=STOPPING), 1, "accuracy (stopping set, n = 100) 60 %, 95 % interval 49 to 70 %"),
        (RoundResult(), 2, "accuracy not known"),
    ],
)
def test_an_accuracy_names_its_samples_and_prefers_random_ones(
    latest: RoundResult, protocol: Protocol.ValueType, said: str
) -> None:
    run = RunStatus(spec=RunSpec(protocol=protocol), latest=latest)
    assert run_summary.accuracy(run) == said


def test_the_majority_baseline_stands_beside_an_accuracy_on_imbalanced_classes() -> None:
    imbalanced = MeasuredAccuracy(correct=9_988, total=10_000, baseline=0.9886)
    run = RunStatus(spec=HONEST, latest=RoundResult(evaluation=imbalanced), pool=PoolPublished(classes=["ok", "bad"]))
    assert "99.88 % (98.86 % by guessing the most frequent class), 95 % interval" in run_summary.accuracy(run)
    run.latest.evaluation.baseline = 0.5
    assert "99.88 %, 95 % interval" in run_summary.accuracy(run)


def test_a_run_of_an_earlier_release_has_no_baseline_beside_its_accuracy() -> None:
    run = RunStatus(spec=HONEST, latest=RoundResult(evaluation=EVALUATION), pool=PoolPublished(classes=["ok"]))
    assert "guessing" not in run_summary.accuracy(run)


@pytest.mark.parametrize(
    ("baseline", "class_count", "little"),
    [
        (0.1135, 10, False),
        (0.15, 10, True),
        (0.6, 2, False),
        (0.67, 2, True),
        (0.49, 3, False),
        (0.5, 3, True),
        (1.0, 1, True),
        (0.0, 10, False),
        (0.0, 0, False),
    ],
)
def test_classes_are_imbalanced_from_one_and_a_half_times_an_even_share_or_two_thirds(
    baseline: float, class_count: int, *, little: bool
) -> None:
    assert tells_little(baseline, class_count) is little


def test_what_holds_a_run_up_is_told_with_its_service_and_since_when() -> None:
    run = RunStatus(run_id="r", message="no scorer; oracle: refused", progress="the scorers fetch the pool")
    assert standing(run) == [run.message], "of an earlier release"
    run.held_up.add(service="trainer", problem="the scorers fetch the pool", at_work=True)
    for each in (
        HoldUp(service="trainer", problem="no scorer"),
        HoldUp(service="oracle", problem="refused", tool="amqp", direction="results"),
    ):
        each.since.FromSeconds(60)
        run.held_up.append(each)
    assert standing(run) == [
        "held up since 1970-01-01 00:01 UTC, the trainer: no scorer",
        "held up since 1970-01-01 00:01 UTC, amqp is away (results): refused",
    ]
    assert run_summary.document(run)["held_up"][2] == {
        "service": "oracle",
        "tool": "amqp",
        "direction": "results",
        "problem": "refused",
        "since": "1970-01-01T00:01:00Z",
        "at_work": False,
    }
    del run.held_up[1:]
    run.message = ""
    assert standing(run) == ["the scorers fetch the pool"]


def test_a_run_without_a_model_has_no_accuracy() -> None:
    assert run_summary.accuracy(RunStatus(spec=HONEST)) == "accuracy not known"
    assert run_summary.short_accuracy(RunStatus(spec=HONEST)) == "–"


def test_audit_labels_are_not_part_of_the_budget() -> None:
    run = RunStatus(spec=HONEST, labels_paid=1_000, audit_labels=600, auto_labels=2_558)
    run.spec.guarantee.CopyFrom(GuaranteeSpec(audit_size=600))
    run.certificate.CopyFrom(AutoLabelsCertified(count=2_558))
    assert (run_summary.labels(run), run_summary.audit(run), run_summary.auto_labels(run)) == (
        "400/400",
        "600/600",
        "2558/2558",
    )
    assert run_summary.paid(run) == "400 labels and 600 to audit with"


def test_a_running_audit_shows_its_progress() -> None:
    run = RunStatus(spec=HONEST, labels_paid=450)
    run.spec.guarantee.CopyFrom(GuaranteeSpec(audit_size=600))
    assert (run_summary.labels(run), run_summary.audit(run), run_summary.auto_labels(run)) == ("400/400", "50/600", "–")


def test_without_an_audit_or_auto_labels_a_dash_is_shown() -> None:
    run = RunStatus(spec=HONEST, labels_paid=100)
    assert (run_summary.labels(run), run_summary.audit(run), run_summary.auto_labels(run)) == ("100/400", "–", "–")
    assert run_summary.paid(run) == "100 labels"


def test_auto_labels_are_shown_with_their_budget() -> None:
    run = RunStatus(spec=RunSpec(label_budget=20, auto_label_budget=10), labels_paid=20, auto_labels=5)
    assert run_summary.auto_labels(run) == "5/10"


def test_the_list_of_runs_omits_empty_columns() -> None:
    plain = RunStatus(run_id="one", spec=HONEST)
    assert [column.header for column in listed([plain]).columns] == ["run", "state", "round", "labels"]
    labelled = RunStatus(run_id="two", spec=RunSpec(label_budget=20, auto_label_budget=10), auto_labels=5)
    assert [column.header for column in listed([plain, labelled]).columns] == [
        *("run", "state", "round", "labels", "auto"),
    ]


def full(run_id: str) -> RunStatus:
    """A run with something in every column."""
    found = MeasuredAccuracy(correct=912, total=1_000, value=0.912, low=0.89, high=0.93)
    return RunStatus(
        run_id=run_id,
        spec=RunSpec(label_budget=10_000, auto_label_budget=100_000),
        phase=Phase.PHASE_PUBLISHING,
        round=100,
        planned_rounds=1_000,
        labels_paid=10_000,
        auto_labels=100_000,
        latest=RoundResult(evaluation=found),
    )


def test_a_line_of_the_list_fits_into_80_columns_with_whole_words() -> None:
    shown = printed(listed([full("20261129-143533-0a1b"), full("a-name-of-25-characters-a")]))
    assert [line.split() for line in shown] == [
        ["run", "state", "round", "labels", "auto", "accuracy"],
        ["20261129-143533-0a1b", "publishing", "100/1000", "10000/10000", "100000", "91", "%"],
        ["a-name-of-25-characters-a", "publishing", "100/1000", "10000/10000", "100000", "91", "%"],
    ]


def test_an_id_that_is_too_long_is_broken_and_loses_no_character() -> None:
    run_id = "".join(f"run{number:02}" for number in range(12)) + "last"
    assert len(run_id) == 64
    shown = printed(listed([full(run_id)]))
    assert "".join(line.split()[0] for line in shown[1:]) == run_id
    assert shown[1].split()[1:] == ["publishing", "100/1000", "10000/10000", "100000", "91", "%"]


def printed(table: Table, width: int = 80) -> list[str]:
    """Lines of a table on a terminal of ``width`` columns."""
    output = StringIO()
    Console(file=output, width=width).print(table)
    return output.getvalue().splitlines()


def test_gold_samples_are_shown_as_counts_with_an_interval_in_per_cent() -> None:
    known = AnnotatorRecord(annotator="kim", answers=50, compared=40, agreed=38, gold=4, gold_right=3)
    none = AnnotatorRecord(annotator="lee", answers=2)
    shown = printed(annotators_of(Backlog(run_id="r", annotators=[known, none])), width=120)
    assert any("38/40" in line and "3/4" in line and "19 to 100 %" in line for line in shown)
    assert any("lee" in line and "0/0" in line and "–" in line for line in shown)


def test_programs_read_words_numbers_and_times_of_a_run() -> None:
    run = full("r")
    run.started_at.FromJsonString("2026-11-29T14:35:33Z")
    document = json.loads(json.dumps(run_summary.document(run)))
    assert (document["state"], document["started_at"]) == ("publishing", "2026-11-29T14:35:33Z")
    assert document["accuracy"]["measured_on"] == "evaluation"
    assert document["accuracy"]["value"] == 0.912
    assert (document["accuracy"]["short"], document["accuracy"]["name"]) == (
        *("91 %", "accuracy (evaluation set, n = 1,000)"),
    )
    assert document["cross_validated_agreement"] is None
    few = RunStatus(latest=RoundResult(control=measured(20), stopping=STOPPING))
    few.latest.control.total = 24
    document = run_summary.document(few)
    assert (document["accuracy"]["value"], document["accuracy"]["short"]) == (None, "62–96 %")
    assert document["cross_validated_agreement"] == {"correct": 60, "total": 100}
    assert run_summary.document(RunStatus(run_id="new"))["accuracy"] is None
