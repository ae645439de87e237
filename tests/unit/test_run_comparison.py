"""Runs side by side, the choice of runs of a list, and what programs read of messages."""

from __future__ import annotations

import pytest
from labelloop.events.v1.events_pb2 import DatasetSource, Protocol, RunSpec
from labelloop.oracle.v1.oracle_pb2 import ListUploadsResponse, Upload
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.trainer.v1.trainer_pb2 import GetRunResponse, MeasuredAccuracy, Phase, RoundResult, RunStatus
from labelloop_cli.choices import SortKey
from labelloop_cli.output import comparison, run_summary
from labelloop_cli.output.documents import plain
from labelloop_cli.output.run_filter import chosen_runs


def result(number: int, labels: int, percent: int) -> RoundResult:
    measured = MeasuredAccuracy(correct=10 * percent, total=1_000, value=percent / 100)
    return RoundResult(round=number, labels=labels, evaluation=measured)


def run(name: str, strategy: Strategy.ValueType, *percents: int) -> GetRunResponse:
    rounds = [result(place + 1, 50 * (place + 1), percent) for place, percent in enumerate(percents)]
    spec = RunSpec(
        protocol=Protocol.PROTOCOL_HONEST, strategy=strategy, label_budget=150, dataset=DatasetSource(name="mnist")
    )
    phase = Phase.PHASE_FINISHED
    status = RunStatus(run_id=name, spec=spec, phase=phase, labels_paid=rounds[-1].labels, latest=rounds[-1])
    return GetRunResponse(run=status, rounds=rounds)


MARGIN = run("m", Strategy.STRATEGY_MARGIN, 70, 85, 92)
RANDOM = run("r", Strategy.STRATEGY_RANDOM, 60, 70, 80)


def test_runs_are_held_against_the_accuracy_that_all_reach() -> None:
    found = comparison.outcomes([MARGIN, RANDOM])
    assert found["labels to reach 80.0%"] == ["100", "150"]
    assert found["accuracy"] == [run_summary.short_accuracy(each.run) for each in (MARGIN, RANDOM)]


def test_only_what_differs_in_specs_is_listed() -> None:
    assert comparison.differences([MARGIN, RANDOM]) == {"strategy": ["margin", "random"]}


def test_accuracies_on_other_kinds_of_samples_are_not_compared() -> None:
    controlled = run("c", Strategy.STRATEGY_MARGIN, 70)
    controlled.run.latest.control.CopyFrom(controlled.run.latest.evaluation)
    controlled.run.latest.ClearField("evaluation")
    assert comparison.target_accuracy([MARGIN, controlled]) is None
    assert not [name for name in comparison.outcomes([MARGIN, controlled]) if name.startswith("labels to reach")]


def test_a_run_without_a_model_is_compared_by_its_state() -> None:
    new = GetRunResponse(run=RunStatus(run_id="n", phase=Phase.PHASE_PUBLISHING))
    assert comparison.outcomes([MARGIN, new])["state"] == ["finished", "publishing"]
    assert comparison.target_accuracy([MARGIN, new]) is None


@pytest.mark.parametrize(
    ("states", "search", "sort", "last", "found"),
    [
        ((), "", None, 0, ["m", "r"]),
        (("finished",), "", None, 0, ["m", "r"]),
        (("failed",), "", None, 0, []),
        ((), "MNI", SortKey.accuracy, 0, ["r", "m"]),
        ((), "nowhere", None, 0, []),
        ((), "", SortKey.name, 1, ["r"]),
    ],
)
def test_runs_of_a_list_are_chosen_and_sorted(
    states: tuple[str, ...], search: str, sort: SortKey | None, last: int, found: list[str]
) -> None:
    assert [each.run_id for each in chosen_runs([MARGIN.run, RANDOM.run], states, search, sort, last)] == found


def test_a_line_of_a_csv_has_all_columns() -> None:
    line = run_summary.row(MARGIN.run)
    assert set(run_summary.COLUMNS) <= line.keys()
    assert (line["accuracy"], line["measured_on"]) == (0.92, "evaluation")
    assert run_summary.row(RunStatus(run_id="n", phase=Phase.PHASE_PUBLISHING))["accuracy"] is None


def test_programs_read_numbers_of_64_bits_as_numbers() -> None:
    listed = ListUploadsResponse(uploads=[Upload(id="a", bytes=2**40)], bytes_max=2**50)
    listed.uploads[0].created_at.FromSeconds(1)
    found = plain(listed)
    assert (found["uploads"][0]["bytes"], found["bytes_max"]) == (2**40, 2**50)
    assert found["uploads"][0]["created_at"] == "1970-01-01T00:00:01Z"
