"""The state in which an event will leave its run, against the state once the event was applied."""

from __future__ import annotations

from typing import Any

from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st
from labelloop.events.v1.events_pb2 import Event, LabelProvided, LabelsRequested, ModelTrained, SamplesAutoLabelled

from tests.unit.drawn_runs import drawn_run
from tests.unit.test_run_state import NOW, asked, begun, labelled, trained
from trainer_svc.domain.expected_state import expected_state
from trainer_svc.domain.policy import AutoLabel, Fit, next_step
from trainer_svc.domain.run_state import RunState


def content(state: RunState) -> dict[str, Any]:
    """Return all that a state holds as text, in which NaN equals itself."""
    return {name: repr(sorted(value) if isinstance(value, set) else value) for name, value in vars(state).items()}


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6))
def test_it_is_the_state_after_the_event_and_the_one_before_is_left_alone(seed: int) -> None:
    first, *others = drawn_run(seed)
    assert first.event is not None
    state = RunState.begin(first.event, first.at)
    for recorded in others:
        assert recorded.event is not None
        before, expected = content(state), expected_state(state, recorded.event)
        assert content(state) == before
        if state.run_log.fault(recorded.event):
            assert expected is None
            continue
        foreseen = content(expected) if expected else {}
        state.apply(recorded.event, recorded.at)
        if expected:
            note(f"followed {recorded.event.WhichOneof('payload')}")
            assert foreseen == content(state)
            assert next_step(expected) == next_step(state)


def test_a_fit_follows_auto_labels_and_a_choice_follows_a_model() -> None:
    state = begun()
    asked(state, 0, 1, 2, 3)
    labelled(state, 0, 1, 2, 3)
    model = Event(run_id="r", round=1, model_trained=ModelTrained(model_sha256="m", labels=4))
    expected = expected_state(state, model)
    assert expected is not None
    assert (expected.head_sha256, expected.event_count) == ("m", state.event_count + 1)
    trained(state)
    given_labels = SamplesAutoLabelled(sample_ids=[7], classes=[0], confidence=[0.9])
    expected = expected_state(state, Event(run_id="r", round=1, samples_auto_labelled=given_labels))
    assert expected is not None
    assert next_step(expected) == Fit()
    assert not isinstance(next_step(state), AutoLabel)


def test_nothing_is_expected_while_a_changed_label_waits() -> None:
    """What it changes is held in parts that copies of a state share."""
    state = begun()
    asked(state, 0, 1, 2, 3)
    labelled(state, 0, 1, 2, 3)
    trained(state)
    state.apply(Event(run_id="r", label_provided=LabelProvided(sample_id=0, label=1, revision=1)), NOW)
    given_labels = SamplesAutoLabelled(sample_ids=[7], classes=[0], confidence=[0.9])
    assert expected_state(state, Event(run_id="r", round=1, samples_auto_labelled=given_labels)) is None


def test_nothing_is_expected_after_a_request_which_people_answer() -> None:
    request = LabelsRequested(sample_ids=[5, 6])
    assert expected_state(begun(), Event(run_id="r", labels_requested=request)) is None
