"""Validate changes of a run's annotators and convert them to events. Pure functions."""

from __future__ import annotations

from labelloop.domain.limits import ANNOTATOR_CHANGES_MAX
from labelloop.errors import InvalidInput, LimitExceeded, WrongState
from labelloop.events.v1.events_pb2 import AnnotatorsChanged, Event, LabelProvided, SampleSkipped
from labelloop.oracle.v1.oracle_pb2 import ChangeAnnotatorsRequest

from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.domain.result_validation import check_labels_of_people, check_takes_part, check_words


def annotators_change(labeling: LabelingState, request: ChangeAnnotatorsRequest) -> Event | None:
    """Return the event for a change that is asked for; None if it holds already.

    Raises:
        InvalidInput: If it names nobody, or by a name that annotators cannot have.
        WrongState: If the run gets its labels from its dataset or has ended, or an alias names somebody removed.
        LimitExceeded: If the run's annotators were changed too often.
    """
    check_labels_of_people(labeling)
    if labeling.over:
        message = f"run {labeling.run_id!r} has ended: its annotators are not changed any more"
        raise WrongState("RUN_OVER", message, run_id=labeling.run_id)
    check_words(request.changed_by, field="changed_by")
    annotators = labeling.run_log.annotators
    changed = AnnotatorsChanged(number=annotators.changes, changed_by=request.changed_by)
    match request.WhichOneof("change"):
        case "alias":
            changed.alias.name, changed.alias.same_as = _names(labeling, request.alias.name, request.alias.same_as)
            for name in (changed.alias.name, changed.alias.same_as):
                check_takes_part(labeling, name)
        case "removal":
            [changed.removal.name] = _names(labeling, request.removal.name)
            changed.removal.withdraw = request.removal.withdraw
        case "restored":
            [changed.restored] = _names(labeling, request.restored)
        case _:
            raise InvalidInput("NO_CHANGE", "say what changes: an alias, a removal or a restoral", field="change")
    if not annotators.has_effect(changed):
        return None
    if changed.number >= ANNOTATOR_CHANGES_MAX:
        message = f"the annotators of run {labeling.run_id!r} were changed {ANNOTATOR_CHANGES_MAX:,} times: no more"
        raise LimitExceeded("ANNOTATORS_CHANGED_TOO_OFTEN", message, most=ANNOTATOR_CHANGES_MAX)
    return Event(run_id=labeling.run_id, annotators_changed=changed)


def changed_name(request: ChangeAnnotatorsRequest) -> str:
    """Return the name that a change is about."""
    return request.alias.name or request.removal.name or request.restored


def answer_count(labeling: LabelingState, name: str) -> int:
    """Return how many answers hold that a person gave, by any of their names."""
    names = labeling.names_of(name)
    given = [given for slots in labeling.given.values() for given in slots.values() if not given.withdrawn]
    outcomes = [each for each in labeling.answers.standing.values() if isinstance(each, (LabelProvided, SampleSkipped))]
    return sum(each.annotator in names for each in (*given, *outcomes))


def _names(labeling: LabelingState, *names: str) -> list[str]:
    """Return names as the log has them. Raises InvalidInput for one that no annotator can have."""
    recorded = [labeling.name_in_log(name) for name in names]
    for name in recorded:
        if not name:
            raise InvalidInput("NO_ANNOTATOR", "say which annotator is meant", field="annotator")
        check_words(name)
    return recorded
