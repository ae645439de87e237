"""A report's reasons why samples were requested."""

from __future__ import annotations

import pytest
from labelloop.events.v1.events_pb2 import Purpose, RunSpec
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.trainer.v1.trainer_pb2 import LabelRecord
from labelloop_cli.reporting.asked import Asked, asked_for
from labelloop_cli.reporting.sections import first_of_each_round

CHOSEN, CONTROL, AUDIT = Purpose.PURPOSE_CHOSEN, Purpose.PURPOSE_CONTROL, Purpose.PURPOSE_AUDIT
SPEC = RunSpec(strategy=Strategy.STRATEGY_CLUSTERED_MARGIN, first_strategy=Strategy.STRATEGY_K_CENTER)


def told(record: LabelRecord, spec: RunSpec = SPEC) -> Asked:
    (asked,) = asked_for([record], spec, ["cat", "dog"])
    return asked


def test_samples_of_joint_strategies_have_a_place_and_no_score() -> None:
    record = LabelRecord(sample_id=7, round=3, purpose=CHOSEN, score=4.0, predicted=1, confidence=0.5, label=0)
    assert told(record) == Asked(7, 3, "chosen", "clustered-margin", 5, None, "dog", 0.5, "cat", agreed=False)


def test_samples_of_scoring_strategies_keep_their_score() -> None:
    spec = RunSpec(strategy=Strategy.STRATEGY_MARGIN)
    record = LabelRecord(round=3, purpose=CHOSEN, score=0.25, predicted=0, confidence=0.5)
    asked = told(record, spec)
    assert (asked.strategy, asked.place, asked.score, asked.agreed) == ("margin", None, 0.25, True)


@pytest.mark.parametrize(("purpose", "why"), [(CONTROL, "control"), (AUDIT, "audit")])
def test_random_samples_have_neither_place_nor_score(purpose: Purpose.ValueType, why: str) -> None:
    asked = told(LabelRecord(round=3, purpose=purpose, score=0.0003, predicted=0, confidence=0.5))
    assert (asked.why, asked.strategy, asked.place, asked.score) == (why, "random", None, None)


def test_the_first_batch_has_no_prediction() -> None:
    asked = told(LabelRecord(purpose=CHOSEN, score=-2.5, label=1))
    assert (asked.why, asked.strategy, asked.score) == ("first", "k-center", -2.5)
    assert (asked.predicted, asked.confidence, asked.agreed) == (None, None, None)


def test_inherited_labels_are_marked_and_auto_labels_are_left_out() -> None:
    assert told(LabelRecord(source="inherited:r")).why == "inherited"
    assert asked_for([LabelRecord(auto_labelled=True)], SPEC, ["cat"]) == []


def test_pictures_are_of_the_first_samples_of_each_round() -> None:
    records = [LabelRecord(round=each // 10, purpose=CHOSEN, sample_id=each) for each in range(40)]
    records.append(LabelRecord(round=4, purpose=AUDIT))
    asked = asked_for(records, SPEC, ["cat", "dog"])
    assert [each.sample_id for each in first_of_each_round(asked, 9)] == [0, 1, 10, 11, 20, 21, 30, 31]
    assert [each.sample_id for each in first_of_each_round(asked, 3)] == [0, 10, 20]
    assert first_of_each_round([], 9) == []
