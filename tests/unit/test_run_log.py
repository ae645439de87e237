"""Which events the log of a run may hold."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from labelloop.domain.event_schema import shape_fault
from labelloop.domain.run_log import RunLog
from labelloop.errors import WrongState
from labelloop.eventlog.log import Recorded
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import (
    AutoLabelsCertified,
    Event,
    FeatureKind,
    FeaturesLearned,
    GuaranteeSpec,
    Inheritance,
    LabelProvided,
    LabelSource,
    LabelsRequested,
    ModelTrained,
    PoolPublished,
    Protocol,
    Purpose,
    RunFailed,
    RunFinished,
    RunSpec,
    RunStarted,
    SamplesAutoLabelled,
    SampleSkipped,
    SkipKind,
)

from trainer_svc.domain.run_state import RunState

DIGEST = "0" * 64
SPEC = RunSpec(
    batch_size=2,
    report_every=1,
    protocol=Protocol.PROTOCOL_HONEST,
    label_source=LabelSource.LABEL_SOURCE_QUEUE,
)
POOL = PoolPublished(pool_sha256=DIGEST, sample_count=9, shape=[2], dtype="uint8", classes=["a", "b"])


def started(**changes: object) -> Event:
    made = RunSpec()
    made.CopyFrom(SPEC)
    for name, value in changes.items():
        if isinstance(value, Message):
            getattr(made, name).CopyFrom(value)
        else:
            setattr(made, name, value)
    return Event(run_id="r", run_started=RunStarted(spec=made))


def asked(round_: int, *sample_ids: int, part: int = 0) -> Event:
    request = LabelsRequested(sample_ids=sample_ids, score=[0.0] * len(sample_ids), part=part)
    return Event(run_id="r", round=round_, labels_requested=request)


def label(round_: int, sample_id: int, class_: int = 0) -> Event:
    return Event(run_id="r", round=round_, label_provided=LabelProvided(sample_id=sample_id, label=class_))


def skip(round_: int, sample_id: int) -> Event:
    skipped = SampleSkipped(sample_id=sample_id, kind=SkipKind.SKIP_KIND_REJECTED)
    return Event(run_id="r", round=round_, sample_skipped=skipped)


def trained(round_: int, labels: int) -> Event:
    return Event(run_id="r", round=round_, model_trained=ModelTrained(model_sha256=DIGEST, labels=labels))


def auto(round_: int, *sample_ids: int, class_: int = 0) -> Event:
    count = len(sample_ids)
    given = SamplesAutoLabelled(sample_ids=sample_ids, classes=[class_] * count, confidence=[1.0] * count)
    return Event(run_id="r", round=round_, samples_auto_labelled=given)


def with_duplicates(count: int, digest: str) -> PoolPublished:
    changed = PoolPublished(duplicate_count=count, duplicates_sha256=digest)
    changed.MergeFrom(POOL)
    return changed


def pool(message: PoolPublished = POOL) -> Event:
    return Event(run_id="r", pool_published=message)


def failed(round_: int) -> Event:
    return Event(run_id="r", round=round_, run_failed=RunFailed(reason="GONE"))


FINISHED = Event(run_id="r", run_finished=RunFinished(reason="done"))
WHOLE = [
    started(),
    pool(),
    asked(0, 3, 1),
    label(0, 1),
    label(0, 3),
    trained(1, 2),
    auto(1, 5),
    trained(2, 3),
    FINISHED,
]


def rules(*events: Event) -> RunLog:
    made = RunLog(WHOLE[0].run_started)
    for event in events:
        assert not made.fault(event)
        made.apply(event)
    return made


def test_a_complete_run_breaks_no_rule() -> None:
    assert not any(shape_fault(event) for event in WHOLE)
    assert not shape_fault(pool(with_duplicates(8, DIGEST)))
    rules(*WHOLE[1:])


@pytest.mark.parametrize(
    ("before", "event", "said"),
    [
        (1, asked(0, 1), "no pool"),
        (2, WHOLE[0], "started already"),
        (2, pool(), "a pool already"),
        (1, failed(1), "fails in round 0"),
        (2, failed(0), "want of one"),
        (2, failed(2), "next round is 1"),
        (3, failed(1), "still open"),
        (6, failed(1), "next round is 2"),
        (2, asked(1, 1), "in round 0"),
        (2, asked(0), "names no sample"),
        (2, asked(0, 9), "outside the pool"),
        (2, label(0, 3), "did not ask"),
        (2, trained(1, 0), "saw 0"),
        (3, asked(0, 4), "still open"),
        (3, trained(1, 2), "still open"),
        (3, auto(0, 4), "still open"),
        (3, label(1, 3), "did not ask"),
        (3, label(0, 3, class_=2), "outside the pool's classes"),
        (5, trained(2, 2), "begins round 1"),
        (5, trained(1, 3), "there are 2"),
        (6, trained(2, 2), "there are 2"),
        (6, asked(1, 3), "chosen before"),
        (6, auto(1, 1), "chosen before"),
        (6, auto(1, 4, class_=2), "outside the pool's classes"),
        (7, label(1, 5), "did not ask"),
        (2, Event(run_id="r"), "unknown kind"),
    ],
)
def test_events_that_cannot_come_next_are_faults(before: int, event: Event, said: str) -> None:
    assert said in rules(*WHOLE[1:before]).fault(event)


def test_a_run_with_a_pool_may_fail_before_its_next_round() -> None:
    for before, round_ in ((2, 1), (6, 2), (7, 2)):
        assert rules(*WHOLE[1:before], failed(round_)).over


WITH_SKIPS = [
    started(),
    pool(),
    asked(0, 3, 1),
    skip(0, 1),
    label(0, 3),
    asked(0, 4, part=1),
    label(0, 4),
    trained(1, 2),
]


def test_a_run_with_skips_breaks_no_rule() -> None:
    assert not any(shape_fault(event) for event in WITH_SKIPS)
    rules(*WITH_SKIPS[1:], asked(1, 5))


@pytest.mark.parametrize(
    ("before", "event", "said"),
    [
        (3, skip(0, 4), "did not ask"),
        (3, skip(1, 3), "did not ask"),
        (5, asked(0, 4), "number 1"),
        (5, asked(0, 4, part=2), "number 1"),
        (5, asked(0, 4, 5, part=1), "more than the 1"),
        (5, asked(0, 1, part=1), "chosen before"),
        (7, asked(0, 5, part=2), "more than the 0"),
        (7, trained(1, 3), "there are 2"),
        (8, asked(1, 5, part=1), "number 0"),
    ],
)
def test_events_that_cannot_come_next_in_a_run_with_skips_are_faults(before: int, event: Event, said: str) -> None:
    assert said in rules(*WITH_SKIPS[1:before]).fault(event)


def test_a_skip_without_a_kind_is_malformed() -> None:
    assert shape_fault(Event(run_id="r", sample_skipped=SampleSkipped(sample_id=3)))


def test_events_after_the_end_of_a_run_are_ignored_without_a_fault() -> None:
    ended = rules(*WHOLE[1:])
    ended.apply(asked(2, 7))
    assert not ended.fault(label(2, 7))
    assert 7 not in ended.taken


@pytest.mark.parametrize(
    "event",
    [
        started(batch_size=0),
        started(report_every=0),
        started(auto_label_budget=1),
        started(label_budget=2**32 - 1),
        started(start_scale=float("nan")),
        started(start_scale=float("inf")),
        started(protocol=7),
        started(label_source=0),
        Event(run_id="r", run_started=RunStarted(spec=SPEC, inheritance=Inheritance(sample_ids=[1]))),
        Event(run_id="r", run_started=RunStarted(spec=SPEC, inheritance=Inheritance(model_sha256="*"))),
        Event(run_id="r", run_started=RunStarted(spec=SPEC, inheritance=Inheritance(head_sha256="*"))),
        Event(
            run_id="r", run_started=RunStarted(spec=SPEC, inheritance=Inheritance(purposes=[Purpose.PURPOSE_CHOSEN]))
        ),
        Event(run_id="r", round=1, pool_published=POOL),
        pool(PoolPublished(pool_sha256=DIGEST, sample_count=9, shape=[2**31, 2], dtype="uint8", classes=["a"])),
        pool(PoolPublished(pool_sha256=">", sample_count=9, shape=[2], dtype="uint8", classes=["a"])),
        pool(PoolPublished(pool_sha256=DIGEST, shape=[2], dtype="uint8", classes=["a"])),
        pool(with_duplicates(9, DIGEST)),
        pool(with_duplicates(2, "")),
        pool(with_duplicates(0, DIGEST)),
        pool(with_duplicates(2, "*")),
        asked(0, 4, 4),
        Event(run_id="r", labels_requested=LabelsRequested(sample_ids=[4, 5], score=[0.0])),
        Event(run_id="r", labels_requested=LabelsRequested(sample_ids=[4], score=[0.0], predicted=[1])),
        Event(run_id="r", round=1, model_trained=ModelTrained(model_sha256="A" * 64)),
        Event(run_id="r", samples_auto_labelled=SamplesAutoLabelled(sample_ids=[4], classes=[1])),
        auto(1, 4, 4),
    ],
)
def test_malformed_events_have_a_shape_fault(event: Event) -> None:
    assert shape_fault(event)


@pytest.mark.parametrize("time", [{"seconds": 2**62}, {"seconds": -1}, {"nanos": -1}, {"nanos": 10**9}])
def test_a_recorded_time_out_of_range_is_a_shape_fault(time: dict[str, int]) -> None:
    event = asked(0, 1)
    event.recorded_at.MergeFrom(Timestamp(**time))
    assert shape_fault(event)


AUDITED = started(
    features=FeatureKind.FEATURE_KIND_PATCHES,
    guarantee=GuaranteeSpec(target_accuracy=0.9, confidence=0.9, audit_size=2),
)
LEARNED = Event(run_id="r", features_learned=FeaturesLearned(features_sha256=DIGEST, feature_count=3))


def audit(round_: int, *sample_ids: int) -> Event:
    event = asked(round_, *sample_ids)
    event.labels_requested.purposes.extend([Purpose.PURPOSE_AUDIT] * len(sample_ids))
    return event


def uneven_purposes() -> Event:
    event = audit(0, 4)
    event.labels_requested.purposes.append(Purpose.PURPOSE_CONTROL)
    return event


def certified(round_: int, count: int) -> Event:
    certificate = AutoLabelsCertified(threshold=0.9, audited=2, audited_above=1, correct_above=1, count=count)
    return Event(run_id="r", round=round_, auto_labels_certified=certificate)


def part(number: int, *sample_ids: int) -> Event:
    event = auto(1, *sample_ids)
    event.samples_auto_labelled.part = number
    return event


WITH_AUDIT = [
    *(AUDITED, pool(), LEARNED, asked(0, 3, 1), label(0, 1), label(0, 3), trained(1, 2)),
    *(audit(1, 4, 5), label(1, 4), label(1, 5), certified(1, 3), part(0, 6, 7), part(1, 8), FINISHED),
]


def audited(count: int) -> RunLog:
    """The rules after the first ``count`` events."""
    made = RunLog(AUDITED.run_started)
    for event in WITH_AUDIT[1:count]:
        assert not made.fault(event)
        made.apply(event)
    return made


def test_a_run_with_an_audit_breaks_no_rule() -> None:
    assert not any(shape_fault(event) for event in WITH_AUDIT)
    audited(len(WITH_AUDIT))


@pytest.mark.parametrize(
    ("before", "event", "said"),
    [
        (3, LEARNED, "features already"),
        (3, audit(0, 1), "nothing to audit"),
        (7, certified(1, 1), "no audit"),
        (8, certified(1, 1), "no audit"),
        (10, asked(1, 6, part=1), "its auto-labels"),
        (10, trained(2, 4), "audited already"),
        (10, part(0, 6), "does not allow"),
        (10, certified(1, 6), "more than is left"),
        (10, certified(0, 1), "in round 1"),
        (11, certified(1, 1), "certified already"),
        (11, part(1, 6), "number 0"),
        (12, part(1, 8, 0), "does not allow"),
        (13, part(2, 0), "does not allow"),
    ],
)
def test_events_that_an_audit_does_not_allow_are_faults(before: int, event: Event, said: str) -> None:
    assert said in audited(before).fault(event)


def test_learned_features_in_a_run_that_uses_none_are_a_fault() -> None:
    assert "as they are" in rules(pool()).fault(LEARNED)


@pytest.mark.parametrize(
    "event",
    [
        started(control_percent=51),
        started(features=9),
        started(guarantee=GuaranteeSpec(target_accuracy=1, confidence=0.9, audit_size=2)),
        started(guarantee=GuaranteeSpec(target_accuracy=0.9, confidence=0.9)),
        Event(run_id="r", features_learned=FeaturesLearned(features_sha256=DIGEST)),
        Event(run_id="r", features_learned=FeaturesLearned(features_sha256="x", feature_count=1)),
        Event(run_id="r", auto_labels_certified=AutoLabelsCertified(count=1)),
        Event(run_id="r", auto_labels_certified=AutoLabelsCertified(audited=1, audited_above=2)),
        Event(run_id="r", auto_labels_certified=AutoLabelsCertified(lower_bound=2)),
        uneven_purposes(),
    ],
)
def test_malformed_events_of_runs_with_an_audit_have_a_shape_fault(event: Event) -> None:
    assert shape_fault(event)


async def test_an_event_against_the_rules_is_skipped_and_its_writer_gets_an_error() -> None:
    projections = RunProjections(RunState.begin)
    stray = Recorded(asked(0, 99), 3)
    for number, event in enumerate(WHOLE[:2]):
        projections.apply(Recorded(event, number + 1))
    projections.apply(stray)
    assert projections.refused == {3}
    assert not projections.get("r").answers.batch
    with pytest.raises(WrongState, match="sequence 3"):
        await projections.wait_for_append(stray)


def test_events_before_run_started_are_applied_once_it_arrives() -> None:
    projections = RunProjections(RunState.begin)
    for number, event in enumerate([*WHOLE[1:], WHOLE[0]]):
        assert "r" not in projections.runs
        projections.apply(Recorded(event, number + 1))
    state = projections.get("r")
    assert (state.over, state.labels_paid, state.run_log.auto_labels, state.round) == (True, 2, 1, 2)
    assert not projections.refused


def test_a_repeated_event_changes_nothing() -> None:
    projections = RunProjections(RunState.begin)
    for number, event in enumerate(WHOLE[:5]):
        projections.apply(Recorded(event, number + 1))
        projections.apply(Recorded(event, number + 1))
    assert not projections.refused
    assert projections.get("r").labels_paid == 2
