"""A run's progress, folded from its events, and the JSON that the page gets of it."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import pytest
from labelloop.domain.hold_ups import HoldUp
from labelloop.domain.run_log import RunLog
from labelloop.events.v1.events_pb2 import (
    Accuracy,
    Event,
    FeatureKind,
    FeaturesLearned,
    LabelProvided,
    LabelsRequested,
    LabelWithdrawn,
    ModelTrained,
    PoolPublished,
    Protocol,
    QueueSpec,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunSpec,
    RunStarted,
    SamplesAutoLabelled,
    SampleSkipped,
)

from oracle_svc.domain.progress import Prediction, Progress
from oracle_svc.web.progress_json import curves_json, curves_version, now_json

AT = datetime(2026, 1, 1, tzinfo=UTC)
SHA = "0" * 64


def begun(queue: QueueSpec | None = None) -> Progress:
    """Return a run with a pool of three classes and nothing requested yet."""
    spec = RunSpec(batch_size=3, label_budget=6, queue=queue)
    progress = Progress(RunLog(RunStarted(spec=spec)))
    return fold(progress, Event(pool_published=PoolPublished(classes=["a", "b", "c"])))


def fold(progress: Progress, *events: Event) -> Progress:
    for event in events:
        if progress.run_log.apply(event):
            progress.apply(event, AT)
    return progress


def asked(round_: int, *sample_ids: int, said: tuple[tuple[int, float], ...] = (), part: int = 0) -> Event:
    request = LabelsRequested(
        sample_ids=sample_ids, predicted=[each[0] for each in said], confidence=[each[1] for each in said], part=part
    )
    return Event(round=round_, labels_requested=request)


def label(round_: int, sample_id: int, class_: int, revision: int = 0, annotator: str = "ada") -> Event:
    given = LabelProvided(sample_id=sample_id, label=class_, revision=revision, annotator=annotator)
    return Event(round=round_, label_provided=given)


def skip(round_: int, sample_id: int) -> Event:
    return Event(round=round_, sample_skipped=SampleSkipped(sample_id=sample_id))


def withdrawn(round_: int, sample_id: int, revision: int = 1) -> Event:
    return Event(round=round_, label_withdrawn=LabelWithdrawn(sample_id=sample_id, revision=revision))


def trained(
    round_: int,
    labels: int,
    *,
    evaluation: Accuracy | None = None,
    stopping: Accuracy | None = None,
    control: Accuracy | None = None,
    auto: int = 0,
) -> Event:
    model = ModelTrained(
        model_sha256=SHA, labels=labels, auto_labels=auto, evaluation=evaluation, stopping=stopping, control=control
    )
    return Event(round=round_, model_trained=model)


def right(correct: int, total: int = 100) -> Accuracy:
    return Accuracy(correct=correct, total=total)


def test_what_is_done_before_the_first_samples_is_told() -> None:
    spec = RunSpec(features=FeatureKind.FEATURE_KIND_PATCHES, batch_size=3, label_budget=6)
    progress = Progress(RunLog(RunStarted(spec=spec)))
    published = Event(pool_published=PoolPublished(classes=["a", "b", "c"]))
    events = (published, Event(features_learned=FeaturesLearned()), asked(0, 1))
    said = [now_json(progress)["doing"], *(now_json(fold(progress, event))["doing"] for event in events)]
    assert said == [
        "the pool is being read and stored",
        "features are being learned from the pool",
        "the first samples are being chosen",
        "",
    ]


def test_what_holds_the_run_up_is_told_and_a_long_step_in_place_of_the_stage() -> None:
    problem = HoldUp("oracle", "refused", 5.0, tool="webhook", direction="requests")
    step = HoldUp("oracle", "the oracle stores the pool: 5 of 9 samples", 1.0, "r", at_work=True)
    told = now_json(fold(begun()), [step, problem])
    assert told["doing"] == step.problem
    assert told["held_up"] == [
        {"service": "oracle", "tool": "webhook", "direction": "requests", "problem": "refused", "since": 5.0}
    ]


def test_labels_are_counted_by_class_and_a_revision_counts_once() -> None:
    progress = fold(begun(), asked(0, 1, 2, 3), label(0, 1, 0), label(0, 2, 2), label(0, 2, 1, revision=1))
    assert now_json(progress)["counts"] == [1, 1, 0]
    assert now_json(progress)["labels"] == 2
    assert set(progress.run_log.open) == {3}


def test_a_sample_whose_label_is_withdrawn_is_open_again_in_an_open_batch() -> None:
    progress = fold(begun(), asked(0, 1, 2), label(0, 1, 0), withdrawn(0, 1))
    assert (set(progress.run_log.open), dict(progress.labels), progress.last) == ({1, 2}, {}, None)
    fold(progress, label(0, 1, 2, revision=2))
    assert (set(progress.run_log.open), progress.labels) == ({2}, {1: 2})


def test_a_label_withdrawn_from_a_complete_batch_is_not_requested_again() -> None:
    progress = fold(begun(), asked(0, 1), label(0, 1, 0), withdrawn(0, 1))
    assert (set(progress.run_log.open), progress.labels, progress.phase) == (set(), {}, "training")


def test_a_skip_can_be_withdrawn() -> None:
    progress = fold(begun(), asked(0, 1, 2), skip(0, 1))
    assert (progress.answers.skipped, set(progress.run_log.open)) == ({1}, {2})
    fold(progress, withdrawn(0, 1))
    assert (progress.answers.skipped, set(progress.run_log.open)) == (set(), {1, 2})


def test_a_skip_replaces_the_label_of_its_sample() -> None:
    progress = fold(begun(), asked(0, 1, 2), label(0, 1, 0), skip(0, 1))
    assert (progress.labels, progress.answers.skipped, progress.counts[0]) == ({}, {1}, 0)


def test_guessing_stands_beside_an_accuracy_on_imbalanced_classes_only() -> None:
    uneven, even = right(96), right(96)
    uneven.most_frequent, even.most_frequent = 90, 40
    progress = fold(begun(), asked(0, 1, 2), label(0, 1, 0), trained(1, 1, evaluation=even), label(0, 2, 0))
    fold(progress, trained(2, 2, evaluation=uneven))
    beside = " (90 % by guessing the most frequent class)"
    assert [point["beside"] for point in curves_json(progress)["learning"]] == ["", beside]
    assert curves_json(progress)["change"]["after"]["beside"] == now_json(progress)["accuracy"]["beside"] == beside
    fold(progress, trained(3, 3, evaluation=right(97)))  # of an earlier release
    assert now_json(progress)["accuracy"]["beside"] == ""


def test_agreement_counts_current_labels_of_samples_with_a_prediction() -> None:
    first = begun()
    fold(first, asked(0, 1), label(0, 1, 0), trained(1, 1))
    progress = fold(first, asked(1, 2, 3, said=((0, 0.25), (1, 0.5))), label(1, 2, 0), label(1, 3, 2))
    assert (progress.agreed, progress.compared) == (1, 2)
    fold(progress, label(1, 3, 1, revision=1))
    assert (progress.agreed, progress.compared) == (2, 2)
    fold(progress, withdrawn(1, 3, 2))
    assert (progress.agreed, progress.compared) == (1, 1)


def test_the_last_label_comes_with_the_models_prediction() -> None:
    progress = fold(begun(), asked(1, 5, 6, said=((2, 0.25), (1, 0.75))), label(1, 5, 0))
    assert progress.last is not None
    assert (progress.last.prediction, progress.last.agreed) == (Prediction(2, 0.25), False)
    assert now_json(progress)["last"] == {
        "sample_id": 5,
        "label": 0,
        "annotator": "ada",
        "opinion": {"label": 2, "confidence": 0.25, "agreed": False},
    }


def test_the_last_label_comes_without_a_prediction_if_those_are_hidden() -> None:
    progress = fold(
        begun(QueueSpec(hide_predictions=True)), asked(1, 5, 6, said=((2, 0.25), (1, 0.75))), label(1, 5, 0)
    )
    assert now_json(progress)["last"]["opinion"] is None


def test_agreement_is_not_told_if_predictions_are_hidden() -> None:
    for queue, told in ((QueueSpec(hide_predictions=True), 0), (QueueSpec(), 1)):
        progress = fold(begun(queue), asked(1, 5, 6, said=((2, 0.25), (1, 0.75))), label(1, 5, 2))
        assert (now_json(progress)["compared"], now_json(progress)["agreed"]) == (told, told)
        assert bool(curves_json(progress)["newest_batch"]) == bool(told), "they tell it by the order of samples"


def test_a_label_without_a_prediction_neither_agrees_nor_disagrees() -> None:
    progress = fold(begun(), asked(0, 5, 6), label(0, 5, 0))
    assert progress.last is not None
    assert progress.last.agreed is None


def test_accuracy_is_measured_on_the_evaluation_set_else_on_control_samples() -> None:
    progress = fold(
        begun(),
        trained(1, 3, stopping=right(80), control=right(4, 4)),
        trained(2, 6, stopping=right(81), control=right(30, 32), evaluation=right(70)),
    )
    assert [(point["labels"], point["headline"], point["name"]) for point in curves_json(progress)["learning"]] == [
        (3, "between 39 % and 100 %", "accuracy (4 control samples)"),
        (6, "70 %", "accuracy (evaluation set, n = 100)"),
    ]
    assert now_json(progress)["accuracy"]["text"] == (
        "accuracy (evaluation set, n = 100) 70 %, 95 % interval 60 to 79 %"
    )
    assert curves_json(progress)["learning"][0]["value"] is None


def test_what_was_cross_validated_on_chosen_samples_is_no_accuracy() -> None:
    progress = fold(begun(), trained(1, 3, evaluation=right(70)), trained(2, 6, stopping=right(81)))
    assert [point.labels for point in progress.points] == [3]
    assert now_json(progress)["accuracy"] is None


def test_a_published_run_shows_the_samples_that_it_stops_on() -> None:
    spec = RunSpec(batch_size=3, label_budget=6, protocol=Protocol.PROTOCOL_PUBLISHED)
    progress = fold(Progress(RunLog(RunStarted(spec=spec))), trained(1, 3, stopping=right(360, 400)))
    assert now_json(progress)["accuracy"]["name"] == "accuracy (stopping set, n = 400)"


def test_intervals_contain_the_accuracy_and_lie_between_0_and_1() -> None:
    progress = fold(begun(), trained(1, 1, evaluation=right(0)), trained(2, 2, evaluation=right(100)))
    worst, best = (point.estimate.share for point in progress.points)
    assert worst.low == 0.0 < worst.high == pytest.approx(0.0362, abs=1e-4)  # Clopper and Pearson 1934, n = 100
    assert best.low == pytest.approx(1 - worst.high)
    assert best.high == 1.0


def test_the_accuracy_gain_of_a_rounds_labels_is_reported() -> None:
    first = fold(begun(), trained(1, 10, evaluation=right(500, 1_000)))
    assert first.change is None
    progress = fold(first, trained(2, 20, evaluation=right(600, 1_000)))
    assert progress.change is not None
    assert progress.change.gain_per_label == pytest.approx(0.01)
    told = curves_json(progress)["change"]
    assert (told["round"], told["labels"], told["before"]["headline"], told["after"]["headline"]) == (
        *(1, 10, "50 %", "60 %"),
    )
    fold(progress, trained(3, 20, evaluation=right(580, 1_000), auto=10))
    assert progress.change.round == 1, "auto-labels are nobody's"


def test_a_gain_that_may_be_chance_is_not_reported() -> None:
    progress = fold(begun(), trained(1, 10, evaluation=right(50)), trained(2, 20, evaluation=right(60)))
    assert curves_json(progress)["change"]["gain_per_label"] is None
    few = fold(begun(), trained(1, 10, control=right(0, 20)), trained(2, 20, control=right(20, 20)))
    assert curves_json(few)["change"]["gain_per_label"] is None


def test_accuracies_on_different_samples_are_not_compared() -> None:
    progress = fold(begun(), trained(1, 10, control=right(50)), trained(2, 20, evaluation=right(60)))
    assert progress.change is None
    fold(progress, trained(3, 30, control=right(80)))
    assert progress.change is not None
    assert (progress.change.labels, progress.change.before.share.correct) == (20, 50)


def test_agreement_has_a_share_only_where_there_are_enough_samples() -> None:
    said = tuple((0, 0.5) for _ in range(30))
    progress = fold(begun(), asked(1, *range(30), said=said), *(label(1, each, each % 2) for each in range(29)))
    assert (now_json(progress)["agreed"], now_json(progress)["agreement"]) == (15, None)
    fold(progress, label(1, 29, 1))
    assert now_json(progress)["agreement"] == "50 %"


def test_the_curve_of_a_very_long_run_is_thinned_and_ends_with_the_newest_model() -> None:
    many = fold(begun(), *(trained(each, each, evaluation=right(50)) for each in range(1, 1_002)))
    shown = curves_json(many)["learning"]
    assert len(shown) == 251
    assert (shown[0]["labels"], shown[-1]["labels"]) == (1, 1_001)
    assert curves_json(fold(begun(), trained(1, 1, evaluation=right(50))))["learning"][0]["labels"] == 1


def test_confidence_is_kept_by_batch_and_for_the_newest_batch_by_sample() -> None:
    progress = fold(begun(), asked(0, 1), label(0, 1, 0), trained(1, 1))
    fold(progress, asked(1, 2, 3, said=((0, 0.5), (1, 0.25))))
    (batch,) = progress.batches
    assert (batch.round, batch.labels, batch.mean, batch.least) == (1, 1, 0.375, 0.25)
    assert progress.sureness == [0.25, 0.5]


def test_samples_that_replace_skipped_ones_join_the_batch_of_their_round() -> None:
    progress = fold(begun(), asked(1, 2, 3, said=((0, 0.5), (1, 0.25))), label(1, 2, 0), skip(1, 3))
    before = curves_version(progress)
    fold(progress, asked(1, 4, said=((0, 0.75),), part=1))
    (batch,) = progress.batches
    assert (batch.labels, batch.mean, batch.least) == (0, 0.5, 0.25)
    assert set(progress.run_log.open) == {4}
    assert curves_version(progress) != before


def test_the_phase_follows_the_events_of_the_run() -> None:
    progress = begun()
    assert progress.phase == "starting"
    assert fold(progress, asked(0, 1)).phase == "labelling"
    assert fold(progress, label(0, 1, 0)).phase == "training"
    assert fold(progress, Event(round=1, run_finished=RunFinished(reason="done"))).phase == "over"


@pytest.mark.parametrize(
    ("event", "kind", "why"),
    [
        (Event(run_finished=RunFinished(reason="done")), "run_finished", "done"),
        (Event(run_cancelled=RunCancelled(reason="enough")), "run_cancelled", "enough"),
        (Event(run_failed=RunFailed(reason="NO_POOL", message="bring it")), "run_failed", "bring it"),
        (Event(round=1, run_failed=RunFailed(reason="BAD_GRAPH", message="mend it")), "run_failed", "mend it"),
    ],
)
def test_the_end_of_a_run_is_shown_with_its_reason(event: Event, kind: str, why: str) -> None:
    progress = fold(begun(), asked(0, 1, 2), event)
    assert now_json(progress)["ended"] == {"kind": kind, "why": why}
    assert progress.round == 0
    assert not progress.run_log.open


def test_after_the_end_only_labels_already_requested_count() -> None:
    progress = fold(begun(), asked(0, 1, 2), Event(run_finished=RunFinished(reason="done")))
    fold(progress, label(0, 1, 0), trained(1, 1, evaluation=right(50)), asked(1, 7))
    assert (len(progress.labels), progress.points, set(progress.run_log.open)) == (1, [], set())


def test_auto_labels_are_not_counted_as_labels() -> None:
    given = SamplesAutoLabelled(sample_ids=[7, 8], classes=[0, 1], confidence=[1.0, 0.9])
    progress = fold(begun(), Event(round=1, samples_auto_labelled=given))
    assert (now_json(progress)["auto_labels"], now_json(progress)["labels"]) == (2, 0)


def test_invalid_predictions_and_accuracies_still_give_valid_json() -> None:
    absurd = ((7, math.nan), (0, math.inf), (1, -1.0))
    progress = fold(begun(), asked(1, 2, 3, 4, said=absurd), label(1, 2, 0), trained(2, 3, evaluation=right(101)))
    assert progress.sureness == [0.0, 0.0, 1.0]
    assert progress.points == []
    told = json.dumps([now_json(progress), curves_json(progress)], allow_nan=False)
    assert json.loads(told)[1]["newest_batch"] == [0.0, 0.0, 1.0]
