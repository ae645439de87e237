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
    rounds = [RoundResult(round=1, labels=60, stopping=measured(0.6), control=measured(0.8), control_labels=6)]
    text = page(run_of(rounds, Protocol.PROTOCOL_HONEST), labels())
    assert "80.00 %" in text
    assert "control samples, drawn at random" in text
    assert "6 control samples say too little yet" in text
    assert not [said for said in ("Auto-labels", "When to stop", "The truth") if said in text]


def test_a_cross_validated_accuracy_is_marked_as_of_hard_samples() -> None:
    rounds = [RoundResult(round=1, labels=60, stopping=measured(0.6))]
    text = page(run_of(rounds, Protocol.PROTOCOL_HONEST), labels())
    assert "60.00 %" in text
    assert "by cross-validation: hard ones" in text


def test_auto_labels_of_a_published_run_are_shown_as_not_audited() -> None:
    whole = run_of([RoundResult(round=1, labels=60, stopping=measured(0.6))], Protocol.PROTOCOL_PUBLISHED)
    whole.run.auto_labels = 2
    auto = [LabelRecord(sample_id=100 + each, label=0, auto_labelled=True) for each in range(2)]
    text = page(whole, [*labels(), *auto], truth=True)
    assert "the test samples that it stops on" in text
    assert "no audit says how many are right" in text
    assert "<b>50.00 %</b> are right, 1 of 2" in text
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
    assert "90.00 % with 95 % confidence (3 looked at, the strictest first)" in text


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
