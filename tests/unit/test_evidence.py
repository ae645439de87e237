"""The estimate of how many labels a run has saved by choosing its samples."""

from __future__ import annotations

import numpy as np
import pytest
from labelloop.trainer.v1.trainer_pb2 import MeasuredAccuracy, RoundResult
from labelloop_cli.reporting.evidence import labels_saved

TOTAL = 10_000
MANY = 1_000_000  # samples in the pool


def measured(value: float) -> MeasuredAccuracy:
    return MeasuredAccuracy(correct=round(value * TOTAL), total=TOTAL, value=value)


def rounds(own: float, *, noise: float = 0.0, count: int = 12) -> list[RoundResult]:
    """Rounds with a tenth of control samples, of error ``2 / sqrt(labels)``; the run's model has accuracy ``own``."""
    rng = np.random.default_rng(1)
    made = []
    for number in range(1, count + 1):
        control = 8 * number
        error = 2 * control**-0.5 * np.exp(noise * rng.normal())
        made.append(
            RoundResult(
                round=number,
                labels=10 * control,
                control_labels=control,
                control_evaluation=measured(1 - error),
                evaluation=measured(own),
            )
        )
    return made


def test_the_number_of_random_labels_needed_lies_between_two_curves() -> None:
    found = labels_saved(rounds(0.95), MANY)
    assert found is not None
    assert found.flat.labels(0.05) == pytest.approx(1_600, rel=0.03)  # where 2 n ** -0.5 is 0.05
    odds = [2 * n**-0.5 / (1 - 2 * n**-0.5) for n in (8, 96)]
    slope = np.log(odds[1] / odds[0]) / np.log(96 / 8)
    assert found.steep.labels(0.05) == pytest.approx(96 * (0.05 / 0.95 / odds[1]) ** (1 / slope), rel=0.3)
    assert found.high is not None
    assert found.low < found.steep.labels(0.05) < found.random_labels < found.flat.labels(0.05) < found.high
    assert found.labels == 960
    assert found.saved == pytest.approx(found.random_labels - 960)
    labels = np.array([8.0, 96.0])
    assert found.flat.errors(labels) == pytest.approx(2 * labels**-0.5, rel=0.01)


def test_noisier_measurements_give_a_wider_interval() -> None:
    sure, unsure = labels_saved(rounds(0.95), MANY), labels_saved(rounds(0.95, noise=0.1), MANY)
    assert sure is not None
    assert unsure is not None
    assert sure.high is not None
    assert (unsure.high or np.inf) / unsure.low > 1.2 * sure.high / sure.low


def test_choosing_worse_than_at_random_saves_a_negative_number_of_labels() -> None:
    found = labels_saved(rounds(0.8), MANY)
    assert found is not None
    assert found.saved < 0


def test_too_few_measurements_give_no_estimate() -> None:
    assert labels_saved([], MANY) is None
    assert labels_saved(rounds(0.95, count=3), MANY) is None
    assert labels_saved([RoundResult(round=1, labels=10, evaluation=measured(0.5))] * 9, MANY) is None


def test_the_estimate_does_not_exceed_the_size_of_the_pool() -> None:
    found = labels_saved(rounds(0.95), 1_000)
    assert found is not None
    assert found.random_labels <= 1_000
    assert found.high is None
