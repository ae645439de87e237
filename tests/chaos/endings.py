"""How a run of several annotators ended, to be compared with a quiet run of the same people. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from labelloop.events.v1.events_pb2 import AnswerGiven, Event, SkipKind
from labelloop.trainer.v1.trainer_pb2 import LabelRecord

from tests.chaos.people import Said

Result = tuple[str, int, Said]
"""Who said what of which sample: annotator, sample, class or None for a skip."""
_LATE = ("late_label", "late_skip")


@dataclass(frozen=True)
class Ending:
    """What the order of answers must not decide.

    Attributes:
        labels: The training set: sample, class and whether the model gave it, by sample.
        outcomes: What became of each requested sample.
        batches: The samples of each request for labels.
        models: Digests of the models.
        all_asked: Whether everybody is asked for every sample.
        results: Everybody's results; empty unless all are asked, as else the first ones to answer decide who is.
    """

    labels: Mapping[int, tuple[int, bool]]
    outcomes: Mapping[int, str]
    batches: Sequence[Sequence[int]]
    models: Sequence[str]
    all_asked: bool
    results: frozenset[Result]


def ending_of(events: Sequence[Event], records: Iterable[LabelRecord], *, all_asked: bool) -> Ending:
    """Return how a run ended, from its events and its training set."""
    batches = [list(event.labels_requested.sample_ids) for event in events if event.HasField("labels_requested")]
    return Ending(
        labels={record.sample_id: (record.label, record.auto_labelled) for record in records},
        outcomes=outcomes(events),
        batches=batches,
        models=[event.model_trained.model_sha256 for event in events if event.HasField("model_trained")],
        all_asked=all_asked,
        results=frozenset(map(_said, _on_time(events))) if all_asked else frozenset(),
    )


def differences(quiet: Ending, other: Ending) -> list[str]:
    """Return in what a run differs from a quiet one."""
    found = _differences("the label of sample", quiet.labels, other.labels)
    found += _differences("the outcome of sample", quiet.outcomes, other.outcomes)
    if list(quiet.batches) != list(other.batches):
        found.append("other samples were requested")
    if list(quiet.models) != list(other.models):
        found.append("another model came out")
    found += [
        f"{who} said {said} of sample {each} in one run only" for who, each, said in quiet.results ^ other.results
    ]
    return found


def _differences(what: str, quiet: Mapping[int, object], other: Mapping[int, object]) -> list[str]:
    return [
        f"{what} {each} is {other.get(each)} instead of {quiet.get(each)}"
        for each in sorted({*quiet, *other})
        if quiet.get(each) != other.get(each)
    ]


def result_faults(events: Sequence[Event], acknowledged: Iterable[Result]) -> list[str]:
    """Return the acknowledged results that are lost, and the people who count twice for a sample.

    A result that came after its sample was settled is recorded only if it contradicts a label, or a skip on which
    people agreed.
    """
    given = [event.answer_given for event in events if event.HasField("answer_given")]
    recorded, settled = {*map(_said, given)}, outcomes(events)
    unsaid = {who_what for who_what in acknowledged if who_what not in recorded}
    disputed = SkipKind.Name(SkipKind.SKIP_KIND_DISPUTED)
    found = [
        f"(a) {who}'s result {said} for sample {each} is lost"
        for who, each, said in sorted(unsaid, key=repr)
        if settled.get(each) not in (disputed, _outcome_named(said))
    ]
    heard = Counter((answer.annotator, answer.sample_id) for answer in _on_time(events))
    return found + [
        f"(c) {who} counts {count} times for sample {each}" for (who, each), count in heard.items() if count > 1
    ]


def outcomes(events: Iterable[Event]) -> dict[int, str]:
    """Return what became of each sample that was settled."""
    found: dict[int, str] = {}
    for event in events:
        if event.HasField("label_provided"):
            found[event.label_provided.sample_id] = _outcome_named(event.label_provided.label)
        elif event.HasField("sample_skipped"):
            found[event.sample_skipped.sample_id] = SkipKind.Name(event.sample_skipped.kind)
        elif event.HasField("label_withdrawn"):
            found.pop(event.label_withdrawn.sample_id, None)
    return found


def _outcome_named(said: Said) -> str:
    return SkipKind.Name(SkipKind.SKIP_KIND_SKIPPED) if said is None else f"class {said}"


def _on_time(events: Iterable[Event]) -> list[AnswerGiven]:
    given = (event.answer_given for event in events if event.HasField("answer_given"))
    return [answer for answer in given if answer.WhichOneof("answer") not in _LATE]


def _said(answer: AnswerGiven) -> Result:
    kind = answer.WhichOneof("answer")
    said = {"label": answer.label, "late_label": answer.late_label}.get(kind or "")
    return answer.annotator, answer.sample_id, said
