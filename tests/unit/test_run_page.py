"""The report page, for runs with and without evaluation set, controls and audit."""

from __future__ import annotations

from collections import Counter

from labelloop.events.v1.events_pb2 import AutoLabelsCertified, GuaranteeSpec, PoolPublished, Protocol, Purpose, RunSpec
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.trainer.v1.trainer_pb2 import (
    GetRunResponse,
    LabelRecord,
    MeasuredAccuracy,
    Phase,
    RoundResult,
    RunStatus,
)
from labelloop_cli.reporting.asked import asked_for
from labelloop_cli.reporting.page import Tile
from labelloop_cli.reporting.recall import recall
from labelloop_cli.reporting.run_report import run_page

CLASSES = ["cat", "dog"]


def measured(value: float) -> MeasuredAccuracy:
    return MeasuredAccuracy(correct=round(100 * value), total=100, value=value, low=value - 0.05, high=value + 0.04)


def run_of(rounds: list[RoundResult], protocol: Protocol.ValueType) -> GetRunResponse:
    spec = RunSpec(strategy=Strategy.STRATEGY_MARGIN, protocol=protocol, label_budget=60, batch_size=10)
    pool = PoolPublished(sample_count=1_000, classes=CLASSES, description="pets")
    run = RunStatus(run_id="r", spec=spec, phase=Phase.PHASE_FINISHED, pool=pool, labels_paid=60)
    return GetRunResponse(run=run, rounds=rounds)


def labels() -> list[LabelRecord]:
    return [LabelRecord(sample_id=each, label=each % 2, round=1, purpose=Purpose.PURPOSE_CHOSEN) for each in range(60)]


def page(whole: GetRunResponse, records: list[LabelRecord], *, price: float = 0.0, truth: bool = False) -> str:
    asked = asked_for(records, whole.run.spec, CLASSES)
    known = {each: each % 2 for each in range(1_000)} if truth else None
    return " ".join(run_page(whole, records, asked, [], Counter({0: 500, 1: 440}), known, price, {}).split())


def test_without_an_evaluation_set_control_samples_are_used() -> None:
    control = MeasuredAccuracy(correct=5, total=6)
    rounds = [RoundResult(round=1, labels=60, stopping=measured(0.6), control=control, control_labels=6)]
    text = page(run_of(rounds, Protocol.PROTOCOL_HONEST), labels())
    assert "<b>between 35 % and 100 %</b><span>accuracy (6 control samples)</span>" in text
    assert "control samples, drawn at random" in text
    assert "<b>No saving shown</b><span>Not enough control samples to tell: 6, and it takes 30.</span>" in text
    assert not [said for said in ("Auto-labels", "When to stop", "The truth") if said in text]


def test_a_cross_validated_share_of_hard_samples_is_no_accuracy() -> None:
    rounds = [RoundResult(round=1, labels=60, stopping=measured(0.6))]
    text = page(run_of(rounds, Protocol.PROTOCOL_HONEST), labels())
    assert "<b>Accuracy not known</b>" in text
    assert "<td>60 %</td>" in text
    assert "Most were chosen for being hard, so it is not the accuracy" in text
    assert "Learning curve" not in text


def test_auto_labels_of_a_published_run_are_shown_as_not_audited() -> None:
    whole = run_of([RoundResult(round=1, labels=60, stopping=measured(0.6))], Protocol.PROTOCOL_PUBLISHED)
    whole.run.auto_labels = 2
    auto = [LabelRecord(sample_id=100 + each, label=0, auto_labelled=True) for each in range(2)]
    text = page(whole, [*labels(), *auto], truth=True)
    assert "the test samples that it stops on" in text
    assert "no audit says how many are right" in text
    assert "<b>1 of 2</b> are right." in text
    assert "the bound" not in text


def certified(**certificate: object) -> GetRunResponse:
    whole = run_of([RoundResult(round=1, labels=60, evaluation=measured(0.9))], Protocol.PROTOCOL_HONEST)
    whole.run.spec.guarantee.CopyFrom(GuaranteeSpec(target_accuracy=0.9, confidence=0.95, audit_size=30))
    whole.run.certificate.CopyFrom(AutoLabelsCertified(audited=30, looks=3, **certificate))  # type: ignore[arg-type]
    whole.run.audit_labels, whole.run.labels_paid = 30, 90
    return whole


def test_a_bound_that_the_truth_violates_is_reported() -> None:
    whole = certified(threshold=0.8, audited_above=20, correct_above=20, lower_bound=0.9, count=2)
    whole.run.auto_labels = 2
    auto = [LabelRecord(sample_id=100 + each, label=0, auto_labelled=True) for each in range(2)]
    text = page(whole, [*labels(), *auto], truth=True, price=0.5)
    assert "the bound does not hold" in text
    assert "The audit cost 30 labels (15.00)" in text
    assert "60 labels</b><span>of a budget of 60, and 30 to audit with; 45.00 at 0.50 a label" in text


def test_an_audit_that_allows_no_auto_labels_is_reported() -> None:
    text = page(certified(), labels())
    assert "Nothing is auto-labelled" in text
    assert "90 % with 95 % confidence (3 looked at, the strictest first)" in text


def test_at_most_2000_samples_are_listed() -> None:
    many = [LabelRecord(sample_id=each, round=1, purpose=Purpose.PURPOSE_CHOSEN) for each in range(2_001)]
    text = page(run_of([RoundResult(round=1, labels=60)], Protocol.PROTOCOL_HONEST), many)
    assert "The first 2,000 of 2,001 samples" in text
    assert text.count("<td>chosen</td>") == 2_000


def test_class_names_are_escaped() -> None:
    whole = run_of([RoundResult(round=1, labels=60)], Protocol.PROTOCOL_HONEST)
    whole.run.pool.classes[0] = "<b>cat</b>"
    asked = asked_for(labels(), whole.run.spec, list(whole.run.pool.classes))
    text = run_page(whole, labels(), asked, [], Counter(), None, 0.0, {})
    assert "<b>cat" not in text


def test_samples_go_by_their_names_escaped_and_cut_in_the_middle() -> None:
    whole = run_of([RoundResult(round=1, labels=60)], Protocol.PROTOCOL_HONEST)
    names = {each: f"<i>{each}</i>.png" for each in range(60)} | {7: "a" * 50 + "/7.png"}
    asked = asked_for(labels(), whole.run.spec, CLASSES)
    tile = Tile("data:,", "cat", "round 1", names[7])
    text = run_page(whole, labels(), asked, [tile], Counter(), None, 0.0, names)
    assert "<i>" not in text
    assert "&lt;i&gt;3&lt;/i&gt;.png</bdi></td>" in text
    assert f'title="sample 7: {names[7]}">{"a" * 20}…{"a" * 13}/7.png</bdi></td>' in text
    assert f'title="{names[7]}">{"a" * 12}…{"a" * 5}/7.png</bdi>' in text


def imbalanced(*, by_class: bool = True) -> MeasuredAccuracy:
    found = MeasuredAccuracy(correct=991, total=1_000, value=0.991, low=0.983, high=0.995, baseline=0.99, balanced=0.55)
    if by_class:
        found.class_correct.extend([990, 1, 0])
        found.class_total.extend([990, 10, 0])
    return found


def of_three(result: RoundResult) -> GetRunResponse:
    whole = run_of([result], Protocol.PROTOCOL_HONEST)
    whole.run.pool.classes.append("fox")
    return whole


def test_the_majority_baseline_stands_beside_every_accuracy_on_imbalanced_classes() -> None:
    result = RoundResult(round=1, labels=60, evaluation=imbalanced(), control=imbalanced(), calibration_error=0.1)
    text = page(of_three(result), labels())
    beside = "(99.0 % by guessing the most frequent class)"
    assert f"<b>99.1 %</b><span>accuracy (evaluation set, n = 1,000) {beside}, 95 % interval 98.2 to 99.6 %" in text
    assert "<b>55 %</b><span>balanced accuracy: mean recall over the classes that occur (50 % by guessing" in text
    assert "of them), 95 % interval 50 to 73 %</span>" in text
    assert "991 of 1000 are right: 98.2 to 99.6 % of the pool" in text
    assert "guessing the most frequent class</text>" in text
    assert "Evaluation: guessing the most frequent class would give 99.0 % in the last round" in text
    assert "Control: guessing the most frequent class would give 99.0 % in the last round" in text


def test_recall_by_class_is_listed_worst_first_with_its_interval() -> None:
    text = page(of_three(RoundResult(round=1, labels=60, evaluation=imbalanced())), labels())
    table = text[text.index("Recall by class") : text.index("Labels by class")]
    assert "guessing the most frequent class, cat, would give 99.0 %" in table
    assert table.index("<td>dog</td><td>–</td><td>0 to 45 %</td><td>1</td><td>10</td>") < table.index(
        "<td>cat</td><td>100.0 %</td><td>99.6 to 100.0 %</td><td>990</td><td>990</td>"
    )
    assert "nothing is known of them (1): fox." in table
    assert "recall over the 2 classes that occur" in table


def test_recall_of_more_than_a_thousand_classes_is_said_not_to_be_recorded() -> None:
    text = page(of_three(RoundResult(round=1, labels=60, evaluation=imbalanced(by_class=False))), labels())
    assert "Recall by class is not recorded for more than 1,000 classes" in text
    assert "<b>55 %</b>" in text


def test_a_run_of_an_earlier_release_is_shown_without_recall_and_baseline() -> None:
    text = page(run_of([RoundResult(round=1, labels=60, evaluation=measured(0.9))], Protocol.PROTOCOL_HONEST), labels())
    assert "90 %" in text
    assert not [said for said in ("Recall by class", "guessing", "balanced accuracy") if said in text]


def test_balanced_classes_are_shown_with_recall_but_without_a_baseline_beside_the_accuracy() -> None:
    even = MeasuredAccuracy(correct=90, total=100, value=0.9, low=0.8, high=0.95, baseline=0.5, balanced=0.9)
    even.class_correct.extend([45, 45])
    even.class_total.extend([50, 50])
    text = page(run_of([RoundResult(round=1, labels=60, evaluation=even)], Protocol.PROTOCOL_HONEST), labels())
    assert "Recall by class" in text
    assert "by guessing" not in text
    assert "<span>balanced accuracy" not in text


def test_a_run_that_balances_its_classes_is_shown_to() -> None:
    whole = of_three(RoundResult(round=1, labels=60, evaluation=imbalanced(), calibration_error=0.1))
    assert "weighs the same" not in page(whole, labels())
    whole.run.spec.balance_classes = True
    text = page(whole, labels())
    assert "seed 0, each class weighs the same." in text
    assert "probabilities are those of a pool in which classes are equally frequent" in text


def test_auto_labels_that_are_nearly_all_of_one_class_are_said_to_be() -> None:
    whole = run_of([RoundResult(round=1, labels=60, stopping=measured(0.6))], Protocol.PROTOCOL_PUBLISHED)
    whole.run.auto_labels = 10
    auto = [LabelRecord(sample_id=100 + each, label=int(each > 8), auto_labelled=True) for each in range(10)]
    assert "90 % of the auto-labels are of one class, cat." in page(whole, [*labels(), *auto])
    even = [LabelRecord(sample_id=100 + each, label=each % 2, auto_labelled=True) for each in range(10)]
    assert "are of one class" not in page(whole, [*labels(), *even])


def test_a_hundred_classes_are_listed_and_the_others_counted() -> None:
    names = [f"class {each}" for each in range(150)]
    found = MeasuredAccuracy(class_correct=range(150), class_total=[200] * 150)
    listed = recall(found, names)
    assert listed is not None
    assert (len(listed.rows), listed.left_out, listed.occurring) == (100, 50, 150)
    assert [row.share.correct for row in listed.rows] == [*range(100)]
    assert recall(found, names[1:]) is None
