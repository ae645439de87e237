"""What a run says of the labels that choosing has saved."""

from __future__ import annotations

import numpy as np
import pytest
from labelloop.trainer.v1.trainer_pb2 import MeasuredAccuracy, RoundResult
from labelloop_cli.reporting.evidence import labels_saved

TOTAL = 10_000


def measured(value: float) -> MeasuredAccuracy:
    return MeasuredAccuracy(correct=round(value * TOTAL), total=TOTAL, value=value)


def rounds(power: float, own: float, *, noise: float = 0.0, count: int = 12) -> list[RoundResult]:
    """Control samples whose error is ``2 labels ** power``, a tenth of all; the run's own model ends at ``own``."""
    rng = np.random.default_rng(1)
    made = []
    for number in range(1, count + 1):
        control = 8 * number
        error = 2 * control**power * np.exp(noise * rng.normal())
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


def test_the_labels_that_random_labels_would_have_taken_are_found() -> None:
    found = labels_saved(rounds(-0.5, 0.95))
    assert found is not None
    expected = (2 / 0.05) ** 2  # where 2 n ** -0.5 is 0.05
    assert found.random_labels == pytest.approx(expected, rel=0.03)
    assert found.labels == 960
    assert found.saved == pytest.approx(expected - 960, rel=0.1)
    assert found.high is not None
    assert found.low < found.random_labels < found.high
    assert found.random_accuracy(expected) == pytest.approx(0.95, abs=0.002)


def test_what_is_less_sure_has_a_wider_interval() -> None:
    sure, unsure = labels_saved(rounds(-0.5, 0.95)), labels_saved(rounds(-0.5, 0.95, noise=0.1))
    assert sure is not None
    assert unsure is not None
    assert sure.high is not None
    assert (unsure.high or np.inf) - unsure.low > 2 * (sure.high - sure.low)


def test_choosing_that_did_harm_is_said_so() -> None:
    found = labels_saved(rounds(-0.5, 0.85))
    assert found is not None
    assert found.saved < 0


def test_too_little_says_nothing() -> None:
    assert labels_saved([]) is None
    assert labels_saved(rounds(-0.5, 0.95, count=3)) is None
    assert labels_saved([RoundResult(round=1, labels=10, evaluation=measured(0.5))] * 9) is None
