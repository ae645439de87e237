"""States of ended runs that are packed are the same as those that were kept, whenever they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelloop.eventlog import run_states
from labelloop.eventlog.log import Recorded
from labelloop.eventlog.packed_events import PackedEvents
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1 import events_pb2 as pb
from structlog.testing import capture_logs

from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.domain.listed_run import ended_run, listed_run
from tests.bench.log_events import run_events
from tests.examples import examples
from tests.unit.drawn_runs import drawn_run
from trainer_svc.domain.run_state import RunState
from trainer_svc.status import status_of

DRAWN = [drawn_run(seed) for seed in range(12)]
SERVICES: dict[str, tuple[Callable[..., Any], Callable[[Any], object]]] = {
    "trainer": (RunState.begin, status_of),
    "oracle": (LabelingState.begin, ended_run),
}


@pytest.fixture
def one_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the state of one ended run, so that all others are packed."""
    monkeypatch.setattr(run_states, "_FOLDED_KEPT", 0)


def several_runs(seed: int) -> list[Recorded]:
    """Return the events of drawn runs of different ids, mixed, each run's in order."""
    rng = Random(seed)
    queues = [(f"run-{i}", [each.event for each in run]) for i, run in enumerate(rng.sample(DRAWN, 4))]
    stream: list[Recorded] = []
    while queues := [(run_id, events) for run_id, events in queues if events]:
        run_id, events = rng.choice(queues)
        for _ in range(rng.randrange(1, 60)):
            if events and (event := events.pop(0)):
                own = pb.Event()
                own.CopyFrom(event)
                own.run_id = run_id
                data = own.SerializeToString(deterministic=True) if rng.random() < 0.5 else b""
                stream.append(Recorded(own, len(stream) + 1, data=data))
    return stream


@pytest.mark.parametrize("service", SERVICES)
@given(seed=st.integers(0, 10**6), looked_up=st.lists(st.integers(0, 3), max_size=8), cut=st.floats(0, 1))
@settings(max_examples=examples(15), deadline=None)
def test_packed_runs_are_what_they_would_be_had_their_states_been_kept(
    service: str, seed: int, looked_up: list[int], cut: float
) -> None:
    begin, summarize = SERVICES[service]
    with pytest.MonkeyPatch.context() as patch, capture_logs():
        patch.setattr(run_states, "_FOLDED_KEPT", 0)
        kept, packed = RunProjections(begin), RunProjections(begin, summarize)
        stream = several_runs(seed)
        stream = stream[: int(len(stream) * cut)]
        for recorded in stream:
            for projections in (kept, packed):
                projections.apply(recorded)
            if looked_up and f"run-{looked_up[-1]}" in packed.runs:
                assert packed.get(f"run-{looked_up.pop()}").run_log
        assert repr(packed.runs.going()) == repr(kept.runs.going())
        assert repr(packed.runs.each(summarize, lambda each: each)) == repr(kept.runs.each(summarize, str))
        assert [*packed.runs] == [*kept.runs]
        assert packed.refused == kept.refused
        assert {run_id: repr(packed.get(run_id)) for run_id in packed.runs} == {
            run_id: repr(run) for run_id, run in kept.runs.items()
        }


def applied(projections: RunProjections[Any], run_id: str, labels: int = 6) -> list[pb.Event]:
    """Apply the events of a run that ends, and return them."""
    events = list(run_events(run_id, labels, 3, ended=True))
    for event in events:
        projections.apply(Recorded(event, projections.sequence + 1))
    return events


@pytest.mark.usefixtures("one_kept")
def test_the_state_of_a_run_that_ended_before_others_is_dropped_until_it_is_asked_for() -> None:
    projections = RunProjections(RunState.begin, status_of)
    applied(projections, "first")
    before = projections.get("first")
    applied(projections, "second")
    assert projections.runs.each(lambda _: "state", lambda _: "summary") == ["summary", "state"]
    again = projections.get("first")
    assert again is not before
    assert repr(again) == repr(before)
    assert projections.runs.each(lambda _: "state", lambda _: "summary") == ["state", "summary"]


@pytest.mark.usefixtures("one_kept")
def test_a_label_that_comes_after_the_end_counts_in_a_packed_run() -> None:
    projections = RunProjections(RunState.begin, status_of)
    events = applied(projections, "first")
    applied(projections, "second")
    label = next(event for event in events if event.HasField("label_provided"))
    revised = pb.Event()
    revised.CopyFrom(label)
    revised.label_provided.revision, revised.label_provided.label = 1, 9
    projections.apply(Recorded(revised, projections.sequence + 1))
    applied(projections, "third")
    outcome = projections.get("first").answers.standing[label.label_provided.sample_id]
    assert isinstance(outcome, pb.LabelProvided)
    assert outcome.label == 9


@pytest.mark.usefixtures("one_kept")
def test_a_run_too_long_to_be_folded_at_once_keeps_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_states, "FOLDED_AT_ONCE_MAX", 10)
    projections = RunProjections(RunState.begin, status_of)
    applied(projections, "long", labels=12)
    before = projections.get("long")
    applied(projections, "short")
    applied(projections, "other")
    assert projections.get("long") is before


@pytest.mark.usefixtures("one_kept")
def test_runs_that_go_on_are_never_packed() -> None:
    projections = RunProjections(LabelingState.begin, ended_run)
    for event in list(run_events("live", 6, 3, ended=False)):
        projections.apply(Recorded(event, projections.sequence + 1))
    live = projections.get("live")
    applied(projections, "first")
    applied(projections, "second")
    assert projections.runs.going() == [live]
    assert projections.get("live") is live


@pytest.mark.usefixtures("one_kept")
def test_lists_show_packed_runs_as_they_show_others() -> None:
    projections, others = RunProjections(LabelingState.begin, ended_run), RunProjections(LabelingState.begin)
    for run_id in ("first", "second", "third"):
        applied(projections, run_id)
        for event in run_events(run_id, 6, 3, ended=True):
            others.apply(Recorded(event, others.sequence + 1))
    shown = projections.runs.each(listed_run, lambda ended: ended.listed)
    assert shown == others.runs.each(listed_run, lambda ended: ended.listed)


def test_packed_events_come_back_in_order_before_and_after_they_are_sealed() -> None:
    packed, events = PackedEvents(), list(run_events("r", 2_000, 50, ended=True))
    for i, event in enumerate(events):
        packed.add(event.SerializeToString())
        if i == len(events) // 2:
            assert list(packed) == events[: i + 1]
            packed.seal()
    assert packed.count == len(events)
    assert list(packed) == events
