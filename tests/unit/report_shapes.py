"""Runs of many shapes as the trainer reports them, with the classes that a model of known accuracy would give."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np
from labelloop.domain.statistics import wilson_interval
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
from labelloop_cli.reporting.run_report import run_page

CLASSES = ["ant", "bee", "cat"]


@dataclass(frozen=True)
class Shape:
    """A run whose models have the error ``scale * labels ** -power``; those of random labels have the power 0.5."""

    pool: int = 5_000
    rounds: int = 10
    batch: int = 40
    control: float = 0.1
    evaluation: int = 0
    scale: float = 1.5
    power: float = 0.6
    known: int = 0
    audit: int = 0
    phase: Phase.ValueType = Phase.PHASE_FINISHED
    published: bool = False


SHAPES = {
    "no controls": Shape(control=0, evaluation=1_000),
    "neither controls nor evaluation": Shape(control=0),
    "three controls": Shape(rounds=3, batch=10),
    "29 controls": Shape(rounds=29, batch=10),
    "30 controls": Shape(rounds=30, batch=10),
    "controls and evaluation": Shape(evaluation=10_000),
    "a saving": Shape(pool=60_000, rounds=25, batch=100, evaluation=10_000, power=0.75),
    "worse than at random": Shape(rounds=20, evaluation=10_000, power=0.3),
    "all right": Shape(scale=0),
    "all right on an evaluation set": Shape(scale=0, evaluation=1_000),
    "all wrong": Shape(scale=1e9),
    "tiny pool": Shape(pool=12, rounds=3, batch=4),
    "pool exhausted": Shape(pool=400),
    "no evaluation": Shape(rounds=20),
    "imported labels only": Shape(rounds=1, batch=0, control=0, known=300),
    "imported labels and controls": Shape(known=300),
    "auto-labels with a guarantee": Shape(rounds=20, audit=300, evaluation=2_000),
    "an audit that allows nothing": Shape(audit=60, scale=1e9),
    "cancelled in round 1": Shape(rounds=1, phase=Phase.PHASE_CANCELLED),
    "published": Shape(control=0, evaluation=400, published=True),
}


@cache
def page_of(shape: Shape, *, price: float = 0.0) -> str:
    """Render the report of a run of this shape."""
    whole, labels = run_of(shape)
    asked = asked_for(labels, whole.run.spec, CLASSES)
    left = shape.pool - len(labels)
    predicted = Counter({0: left // 2, 1: left - left // 2})
    return " ".join(run_page(whole, labels, asked, [], predicted, None, price, {}).split())


def run_of(shape: Shape) -> tuple[GetRunResponse, list[LabelRecord]]:
    rng = np.random.default_rng(7)
    results = [_result(shape, number, rng) for number in range(1, shape.rounds + 1)]
    budget = shape.rounds * shape.batch
    spec = RunSpec(
        strategy=Strategy.STRATEGY_MARGIN,
        protocol=Protocol.PROTOCOL_PUBLISHED if shape.published else Protocol.PROTOCOL_HONEST,
        label_budget=budget,
        batch_size=shape.batch,
    )
    pool = PoolPublished(sample_count=shape.pool, classes=CLASSES, description="insects")
    run = RunStatus(run_id="r", spec=spec, phase=shape.phase, pool=pool, labels_paid=min(budget, shape.pool))
    run.latest.CopyFrom(results[-1])
    labels = _labels(shape, run, rng)
    return GetRunResponse(run=run, rounds=results), labels


def _result(shape: Shape, number: int, rng: np.random.Generator) -> RoundResult:
    asked = min(shape.pool, number * shape.batch)
    controls, labels = round(asked * shape.control), asked + shape.known
    error = min(1.0, shape.scale * max(1, labels) ** -shape.power)
    alone = min(1.0, shape.scale * max(1, controls) ** -0.5)
    result = RoundResult(
        round=number, labels=labels, control_labels=controls, calibration_error=0.05, steps=9, fit_s=0.1
    )
    result.stopping.CopyFrom(measured(shape.evaluation if shape.published else labels, min(1.0, 1.5 * error), rng))
    if shape.evaluation:
        result.evaluation.CopyFrom(measured(shape.evaluation, error, rng))
    if controls:
        result.control.CopyFrom(measured(controls, error, rng))
        if controls > 1:
            result.control_evaluation.CopyFrom(measured(shape.evaluation or controls, alone, rng))
    return result


def measured(total: int, error: float, rng: np.random.Generator) -> MeasuredAccuracy:
    correct = total - int(rng.binomial(total, error))
    low, high = wilson_interval(correct, total)
    found = MeasuredAccuracy(correct=correct, total=total, value=correct / total, low=low, high=high)
    of_class = [(total + each) // 3 for each in range(3)]
    right = [min(correct * each // total, each) for each in of_class]
    for each in range(3):
        right[each] += min(correct - sum(right), of_class[each] - right[each])
    found.class_correct.extend(right)
    found.class_total.extend(of_class)
    found.baseline = max(of_class) / total
    found.balanced = float(np.mean([a / b for a, b in zip(right, of_class, strict=True) if b]))
    return found


def _labels(shape: Shape, run: RunStatus, rng: np.random.Generator) -> list[LabelRecord]:
    """Labels of the run; fills in what ``run`` says of an audit."""
    given = [LabelRecord(sample_id=each, label=each % 3, source="given") for each in range(shape.known)]
    for each in range(run.labels_paid):
        purpose = Purpose.PURPOSE_CONTROL if rng.random() < shape.control else Purpose.PURPOSE_CHOSEN
        given.append(_label(shape.known + each, 1 + each // shape.batch, purpose, rng))
    if shape.audit:
        run.spec.guarantee.CopyFrom(GuaranteeSpec(target_accuracy=0.95, confidence=0.95, audit_size=shape.audit))
        run.audit_labels, run.labels_paid = shape.audit, run.labels_paid + shape.audit
        given += [_label(len(given) + each, shape.rounds, Purpose.PURPOSE_AUDIT, rng) for each in range(shape.audit)]
        run.certificate.CopyFrom(AutoLabelsCertified(audited=shape.audit, looks=4))
        if shape.scale < 10:
            above = shape.audit - 20
            certified = AutoLabelsCertified(threshold=0.8, audited_above=above, correct_above=above - 2)
            run.certificate.MergeFrom(certified)
            run.certificate.lower_bound, run.certificate.count = 0.95999, 1_000
            run.auto_labels = 1_000
            first = len(given)
            auto = [LabelRecord(sample_id=first + each, label=each % 3, auto_labelled=True) for each in range(1_000)]
            given += auto
    return given


def _label(sample_id: int, round_: int, purpose: Purpose.ValueType, rng: np.random.Generator) -> LabelRecord:
    confidence = float(rng.uniform(0.4, 1))
    return LabelRecord(
        sample_id=sample_id,
        label=sample_id % 3,
        round=round_,
        purpose=purpose,
        predicted=int(rng.integers(3)),
        confidence=confidence,
        score=confidence,
    )
