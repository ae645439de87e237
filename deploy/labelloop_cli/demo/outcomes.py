"""Compute the rows of the demo's result table from finished runs. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from labelloop.domain.proportion import rounded_down
from labelloop.trainer.v1.trainer_pb2 import LabelRecord, RoundResult, RunStatus

from labelloop_cli.choices import ProtocolName
from labelloop_cli.demo.plan import Experiment

_T_975 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # Student's t for a 95 per cent interval, by sample count


@dataclass(frozen=True)
class Outcome:
    """A finished run of an experiment.

    Attributes:
        labels: Labels and auto-labels in the order of the run's training set.
    """

    experiment: Experiment
    run: RunStatus
    rounds: list[RoundResult]
    labels: list[LabelRecord]

    @property
    def seconds(self) -> float:
        return (self.run.changed_at.ToNanoseconds() - self.run.started_at.ToNanoseconds()) / 1e9

    @property
    def last(self) -> RoundResult:
        return self.rounds[-1]


def wrong_auto_labels(labels: list[LabelRecord], truth: dict[int, int]) -> list[LabelRecord]:
    """Return the auto-labels that differ from ``truth`` (class by sample id), most confident first."""
    wrong = [label for label in labels if label.auto_labelled and truth[label.sample_id] != label.label]
    return sorted(wrong, key=lambda label: (-label.confidence, label.sample_id))


def article_row(outcome: Outcome, truth: dict[int, int], *, stand_in: bool) -> dict[str, Any]:
    """Build the row of one run under the published protocol, judged on the stopping samples and on the whole set."""
    last = outcome.last
    return {
        "experiment": outcome.experiment.name,
        "labels": last.labels,
        "auto_labels": last.auto_labels,
        "wrong_auto_labels": len(wrong_auto_labels(outcome.labels, truth)),
        "rounds": len(outcome.rounds),
        "test_accuracy": last.stopping.value,
        "published_accuracy": None if stand_in else outcome.experiment.published,
        "test_accuracy_10k": last.evaluation.value,
        "interval_10k": [last.evaluation.low, last.evaluation.high],
        "model_sha256": last.model_sha256,
        "seconds": round(outcome.seconds, 3),
        "protocol": ProtocolName.published.value,
        "measured_on": f"{last.stopping.total} test samples",
    }


def honest_row(outcomes: list[Outcome]) -> dict[str, Any]:
    """Build the row of several seeds under the honest protocol: their mean accuracy, its interval, and the spread.

    The interval is the 95 per cent one of Student's t over seeds, cut at 0 and 1.
    """
    values = [outcome.last.evaluation.value for outcome in outcomes]
    mean, spread = fmean(values), stdev(values)
    reach = _T_975[len(values)] * spread / len(values) ** 0.5
    first = outcomes[0]
    return {
        "experiment": first.experiment.name,
        "labels": first.last.labels,
        "auto_labels": 0,
        "wrong_auto_labels": 0,
        "rounds": len(first.rounds),
        "test_accuracy": mean,
        "published_accuracy": None,
        "test_accuracy_10k": mean,
        "interval_10k": [max(mean - reach, 0.0), min(mean + reach, 1.0)],
        "model_sha256": [outcome.last.model_sha256 for outcome in outcomes],
        "seconds": round(sum(outcome.seconds for outcome in outcomes), 3),
        "protocol": ProtocolName.honest.value,
        "measured_on": f"{first.last.evaluation.total} test samples, mean of {len(values)} seeds",
        "spread": {"sd": spread, "min": min(values), "max": max(values), "values": values},
    }


def audited_row(outcome: Outcome, truth: dict[int, int]) -> dict[str, Any]:
    """Build the row of a run that auto-labels what its audit allows, with the true accuracy of those auto-labels."""
    last, certificate = outcome.last, outcome.run.certificate
    wrong = len(wrong_auto_labels(outcome.labels, truth))
    return {
        "experiment": "better_auto",
        "labels": outcome.run.labels_paid,
        "auto_labels": outcome.run.auto_labels,
        "wrong_auto_labels": wrong,
        "rounds": len(outcome.rounds),
        "test_accuracy": last.evaluation.value,
        "published_accuracy": None,
        "test_accuracy_10k": last.evaluation.value,
        "interval_10k": [last.evaluation.low, last.evaluation.high],
        "model_sha256": last.model_sha256,
        "seconds": round(outcome.seconds, 3),
        "protocol": ProtocolName.honest.value,
        "measured_on": f"{last.evaluation.total} test samples",
        "audit": {
            "labels": outcome.run.audit_labels,
            "threshold": certificate.threshold if certificate.HasField("threshold") else None,
            "lower_bound": certificate.lower_bound,
            "true_accuracy": 1 - wrong / outcome.run.auto_labels if outcome.run.auto_labels else None,
            "left": outcome.run.pool.sample_count - len(outcome.labels),
        },
    }


def audit_line(row: dict[str, Any]) -> str:
    """Describe the outcome of the audit in a sentence."""
    audit, count = row["audit"], row["auto_labels"]
    if not count:
        return f"better_auto: the audit of {audit['labels']} labels allows no auto-labels"
    share = 100 * count / (count + audit["left"])
    return (
        f"better_auto: after an audit of {audit['labels']} labels, {count:,} of the rest ({share:.0f} %) are "
        f"auto-labelled, at least {rounded_down(audit['lower_bound'], 2)} % of them right, so the audit says with 95 % "
        f"confidence; {100 * audit['true_accuracy']:.2f} % are"
    )


def clustering_row(clusters: list[int], truth: dict[int, int], seconds: float) -> dict[str, Any]:
    """Build the row of the clustering: the share of the pool whose class is the majority class of its cluster."""
    names = majority_names(clusters, truth)
    correct = sum(names[cluster] == truth[sample_id] for sample_id, cluster in enumerate(clusters))
    return {
        "experiment": "clustering",
        "labels": len(clusters),
        "auto_labels": 0,
        "wrong_auto_labels": 0,
        "rounds": 0,
        "test_accuracy": correct / len(clusters),
        "published_accuracy": None,
        "test_accuracy_10k": None,
        "interval_10k": None,
        "model_sha256": None,
        "seconds": round(seconds, 3),
        "protocol": "none",
        "measured_on": f"the {len(clusters)} samples of the pool",
    }


def majority_names(clusters: list[int], truth: dict[int, int]) -> dict[int, int]:
    """Map each cluster to its most frequent true class; to the lower class if two are equally frequent."""
    counts: dict[int, dict[int, int]] = {}
    for sample_id, cluster in enumerate(clusters):
        of_cluster = counts.setdefault(cluster, {})
        of_cluster[truth[sample_id]] = of_cluster.get(truth[sample_id], 0) + 1
    return {cluster: min(of, key=lambda label: (-of[label], label)) for cluster, of in counts.items()}


def perturbation_summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """Summarise the final accuracies of active_400 from starts that differ in the seventh decimal."""
    values = [outcome.last.stopping.value for outcome in outcomes]
    return {
        "runs": len(values),
        "mean": fmean(values),
        "sd": stdev(values),
        "min": min(values),
        "max": max(values),
        "values": values,
    }


def curve(outcomes: list[Outcome]) -> tuple[list[int], list[list[float]]]:
    """Return the number of labels by round, and each outcome's accuracies on the whole evaluation set."""
    accuracies = [[result.evaluation.value for result in outcome.rounds] for outcome in outcomes]
    return [result.labels for result in outcomes[0].rounds], accuracies
