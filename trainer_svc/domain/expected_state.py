"""Tell the state in which an event will leave its run. No I/O."""

from __future__ import annotations

from datetime import UTC

from labelloop.events.v1.events_pb2 import Event

from trainer_svc.domain.run_state import RunState

_FOLLOWED = frozenset({"model_trained", "samples_auto_labelled"})  # by a step that waits for nobody else


def expected_state(state: RunState, event: Event) -> RunState | None:
    """Return the state after ``event``, if no other event of the run comes first; ``state`` stays as it is.

    Returns:
        None for an event that the trainer's next step does not follow at once, or that cannot come next, and while
        changed labels wait to be taken in: these are held in a part that copies of a state share.
    """
    if event.WhichOneof("payload") not in _FOLLOWED or state.answers.changed or state.run_log.fault(event):
        return None
    expected = state.as_it_stands()
    expected.apply(event, event.recorded_at.ToDatetime(UTC))
    return expected
