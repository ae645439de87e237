"""Compute the sections of a run's report: figures, tables and charts. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from labelloop.domain.limits import KAPPA
from labelloop.domain.proportion import RELIABLE_MIN, Proportion
from labelloop.events.v1.events_pb2 import Purpose
from labelloop.trainer.v1.trainer_pb2 import GetRunResponse, LabelRecord, Phase, RoundResult
from numpy.typing import NDArray

from labelloop_cli.output.run_summary import estimate_of
from labelloop_cli.reporting import run_charts
from labelloop_cli.reporting.asked import Asked
from labelloop_cli.reporting.evidence import Saved
from labelloop_cli.reporting.run_charts import Watched

_CLASS_ROWS = 100


def learning(whole: GetRunResponse) -> str:
    """Draw the learning curve of the rounds judged on the same samples as the newest; empty if none was judged."""
    classes, protocol = whole.run.pool.classes, whole.run.spec.protocol
    found = [(result, known) for result in whole.rounds if (known := estimate_of(result, protocol, classes))]
    if not found:
        return ""
    shown = [(result, known) for result, known in found if known.measured_on == found[-1][1].measured_on]
    auto = any(result.auto_labels for result, _ in shown)
    return run_charts.interval_curve(
        [result.labels + result.auto_labels for result, _ in shown],
        [known.share.value for _, known in shown],
        [known.share.low for _, known in shown],
        [known.share.high for _, known in shown],
        "labels and auto-labels" if auto else "labels",
        guessing.value if (guessing := shown[-1][1].guessing) else None,
    )


def saved_curve(whole: GetRunResponse, saved: Saved) -> str:
    """Draw the curves behind an estimate of labels saved, as far as the pool goes."""
    known = [(result, estimate_of(result, whole.run.spec.protocol)) for result in whole.rounds]
    own = [
        (float(result.labels), value)
        for result, each in known
        if each and each.measured_on != "stopping set" and (value := each.share.value) is not None
    ]
    needed = saved.flat.labels(1 - saved.reached.correct / saved.reached.total)
    end = min(max(needed, saved.labels), max(saved.pool, saved.labels))
    reach = np.geomspace(saved.points[0][0], end, 60)
    return run_charts.saved_curve(own, saved.points, reach, 1 - saved.steep.errors(reach), 1 - saved.flat.errors(reach))


@dataclass(frozen=True)
class AutoLabels:
    """Number of auto-labels, and how many of them are right; ``right`` is None if the true classes are not known."""

    count: int
    right: int | None

    @property
    def share(self) -> Proportion | None:
        return None if self.right is None or not self.count else Proportion(self.right, self.count)


def auto_labels(labels: Sequence[LabelRecord], truth: Mapping[int, int] | None) -> AutoLabels:
    """Count the auto-labels: those of samples with a known true class if ``truth`` is given, else all."""
    given = [label for label in labels if label.auto_labelled]
    if truth is None:
        return AutoLabels(len(given), None)
    judged_ones = [label for label in given if label.sample_id in truth]
    return AutoLabels(len(judged_ones), sum(truth[label.sample_id] == label.label for label in judged_ones))


@dataclass(frozen=True)
class Stopping:
    """The chart of the stopping rules, and the labels of the budget left unspent because a rule held."""

    chart: str
    budget_left: int


def stopping(whole: GetRunResponse) -> Stopping | None:
    """Draw the figures that the stopping rules looked at. Returns None if no rule is set."""
    run, spec = whole.run, whole.run.spec.stopping
    if not spec.ByteSize():
        return None
    watched = []
    if spec.stable_rounds:
        points = [(result.labels, result.agreement) for result in whole.rounds if result.HasField("agreement")]
        watched.append(Watched(f"agreement with the model before, kappa ({KAPPA} counts)", points, KAPPA))
    if spec.plateau_rounds or spec.label_price:
        points = [(result.labels, result.expected_accuracy) for result in whole.rounds if result.expected_accuracy]
        watched.append(Watched("expected accuracy: mean confidence on a fixed part of the pool", points))
    if spec.target_accuracy:
        points = [(result.labels, result.control_bound) for result in whole.rounds if result.HasField("control")]
        name = f"accuracy on control samples, lower bound over all looks (target {spec.target_accuracy:g})"
        watched.append(Watched(name, points, spec.target_accuracy))
    asked = run.labels_paid - run.audit_labels
    early = run.phase == Phase.PHASE_FINISHED and asked < run.spec.label_budget
    chart = run_charts.stopping_curves(watched, whole.rounds[-1].labels if early else None)
    return Stopping(chart, run.spec.label_budget - asked if early else 0)


@dataclass(frozen=True)
class Reliability:
    """The reliability chart, and a description of the samples it is based on."""

    chart: str
    on: str


def reliability(labels: Sequence[LabelRecord]) -> Reliability | None:
    """Draw accuracy by confidence on samples drawn at random. Returns None if there are fewer than 30.

    These are the audited samples, with the last model's predictions, or else the control samples, each with the
    prediction of the model that requested it.
    """
    for purpose, on in (
        (Purpose.PURPOSE_AUDIT, "audited samples, by the last model"),
        (Purpose.PURPOSE_CONTROL, "control samples, each by the model that there was when it was asked for"),
    ):
        drawn = [label for label in labels if label.purpose == purpose and label.HasField("confidence")]
        if len(drawn) >= RELIABLE_MIN:
            right = [label.predicted == label.label for label in drawn]
            return Reliability(
                run_charts.reliability([label.confidence for label in drawn], right), f"{len(drawn)} {on}"
            )
    return None


def calibration(rounds: Sequence[RoundResult]) -> str:
    """Draw the expected calibration error by labels; empty if none was measured."""
    curves = {
        "labelled samples, by cross-validation": [
            (result.labels, result.calibration_error) for result in rounds if result.calibration_error
        ],
        "evaluation set": [
            (result.labels, result.evaluation_calibration_error)
            for result in rounds
            if result.evaluation_calibration_error
        ],
    }
    shown = {name: points for name, points in curves.items() if points}
    return run_charts.calibration_curves(shown) if shown else ""


@dataclass(frozen=True)
class ClassRow:
    """One class: its labels and auto-labels, and its share of the labels, of the pool as estimated, and as it is."""

    name: str
    labels: int
    auto_labels: int
    of_labels: float
    of_pool: float
    of_truth: float | None


@dataclass(frozen=True)
class Balance:
    """Class shares as a chart and as table rows; ``left_out`` is the number of classes that the table omits."""

    chart: str
    rows: list[ClassRow]
    left_out: int


def balance(
    labels: Sequence[LabelRecord], predicted: Counter[int], truth: Mapping[int, int] | None, classes: list[str]
) -> Balance:
    """Compare the class shares of the labels with those of the pool.

    Labels of an audit do not count among the labels. The pool's shares are an estimate: its labels, its auto-labels,
    and the newest model's predictions for the rest.

    Args:
        predicted: Number of predictions by class, over the samples with neither a label nor an auto-label.
        truth: True class by sample id; None if it is not known.
    """
    paid = [label for label in labels if not label.auto_labelled]
    trained = _by_class([each.label for each in paid if each.purpose != Purpose.PURPOSE_AUDIT], len(classes))
    auto = _by_class([label.label for label in labels if label.auto_labelled], len(classes))
    pool = _by_class([label.label for label in paid], len(classes)) + auto
    pool += np.array([predicted[each] for each in range(len(classes))])
    of_labels, of_pool = _shares(trained), _shares(pool)
    of_truth = _shares(_by_class(list(truth.values()), len(classes))) if truth else None
    rows = [
        ClassRow(
            name, int(trained[i]), int(auto[i]), of_labels[i], of_pool[i], of_truth[i] if of_truth is not None else None
        )
        for i, name in enumerate(classes)
    ]
    shares = {"of the labels": of_labels, "of the pool, estimated": of_pool}
    if of_truth is not None:
        shares["of the pool, truly"] = of_truth
    return Balance(run_charts.class_shares(classes, shares), rows[:_CLASS_ROWS], max(0, len(rows) - _CLASS_ROWS))


def first_of_each_round(asked: Sequence[Asked], most: int) -> list[Asked]:
    """Return the first labels of each round, equally many, at most ``most`` in all; those of an audit are left out."""
    by_round: dict[int, list[Asked]] = {}
    for each in asked:
        if each.why != "audit":
            by_round.setdefault(each.round, []).append(each)
    share = max(1, most // max(1, len(by_round)))
    return [each for batch in by_round.values() for each in batch[:share]][:most]


def _by_class(found: Sequence[int], class_count: int) -> NDArray[np.int64]:
    return np.bincount(np.array(found, np.int64), minlength=class_count)


def _shares(counts: NDArray[np.int64]) -> list[float]:
    return [float(each) for each in counts / max(1, counts.sum())]
