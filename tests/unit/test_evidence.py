"""The estimate of how many labels a run has saved by choosing its samples."""

from __future__ import annotations

import numpy as np
import pytest
from labelloop.events.v1.events_pb2 import PoolPublished, Protocol, RunSpec
from labelloop.trainer.v1.trainer_pb2 import GetRunResponse, MeasuredAccuracy, RoundResult, RunStatus
from labelloop_cli.reporting.evidence import NotKnown, Saved, labels_saved

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


def known(made: list[RoundResult], pool: int = MANY) -> Saved:
    found = labels_saved(run_of(made, pool))
    assert isinstance(found, Saved)
    return found


def run_of(made: list[RoundResult], pool: int = MANY) -> GetRunResponse:
    spec = RunSpec(protocol=Protocol.PROTOCOL_HONEST)
    run = RunStatus(spec=spec, pool=PoolPublished(sample_count=pool, classes=["a", "b"]))
    return GetRunResponse(run=run, rounds=made)


def test_the_number_of_random_labels_needed_lies_between_two_curves() -> None:
    found = known(rounds(0.95))
    assert found.flat.labels(0.05) == pytest.approx(1_600, rel=0.03)  # where 2 n ** -0.5 is 0.05
    odds = [2 * n**-0.5 / (1 - 2 * n**-0.5) for n in (8, 96)]
    slope = np.log(odds[1] / odds[0]) / np.log(96 / 8)
    assert found.steep.labels(0.05) == pytest.approx(96 * (0.05 / 0.95 / odds[1]) ** (1 / slope), rel=0.3)
    assert found.low < found.steep.labels(0.05) < found.random_labels < found.flat.labels(0.05) < found.high
    assert found.labels == 960
    assert found.saved == pytest.approx(found.random_labels - 960)
    labels = np.array([8.0, 96.0])
    assert found.flat.errors(labels) == pytest.approx(2 * labels**-0.5, rel=0.01)


def test_noisier_measurements_give_a_wider_interval() -> None:
    sure, unsure = known(rounds(0.95)), known(rounds(0.95, noise=0.1))
    assert unsure.high / unsure.low > 1.2 * sure.high / sure.low


def test_choosing_worse_than_at_random_saves_a_negative_number_of_labels() -> None:
    found = known(rounds(0.8))
    assert found.saved < 0
    assert found.verdict == "more"


def test_an_interval_that_allows_both_gives_no_verdict() -> None:
    assert known(rounds(0.9, noise=0.3)).verdict == "unclear"
    assert known(rounds(0.99)).verdict == "fewer"


def test_too_few_measurements_give_no_estimate() -> None:
    assert "Not enough control samples to tell: 3, and" in missing(
        RoundResult(control_labels=3, evaluation=measured(0.5))
    )
    assert "after 4 rounds" in missing(*rounds(0.95)[-3:])
    assert "not measured" in missing(RoundResult(control_labels=40, stopping=measured(0.5)))
    few = MeasuredAccuracy(correct=20, total=20)
    assert "not measured on enough" in missing(RoundResult(control_labels=40, control=few))


def missing(*made: RoundResult) -> str:
    found = labels_saved(run_of([*made]))
    assert isinstance(found, NotKnown)
    return found.why


def test_a_pool_that_is_labelled_whole_leaves_nothing_to_save() -> None:
    found = labels_saved(run_of(rounds(0.95), 960))
    assert isinstance(found, NotKnown)
    assert "whole pool" in found.why


def test_neither_estimate_nor_interval_exceeds_the_pool() -> None:
    found = known(rounds(0.95), 1_000)
    assert found.low <= found.random_labels <= found.high == 1_000
    assert found.saved_high == 40
    beyond = known(rounds(0.99), 1_000)
    assert beyond.low <= beyond.random_labels == beyond.high == 1_000


def test_models_without_an_error_leave_room_for_one() -> None:
    made = [
        RoundResult(
            round=number,
            labels=40 * number,
            control_labels=4 * number,
            control=MeasuredAccuracy(correct=4 * number, total=4 * number, value=1),
            control_evaluation=MeasuredAccuracy(correct=4 * number, total=4 * number, value=1),
        )
        for number in range(1, 11)
    ]
    assert known(made, 60_000).verdict == "unclear"
