"""The states of all services agree with a plain reading of the list of events, which uses no ``RunLog``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import pytest
from labelloop.domain.run_log import RunLog
from labelloop.eventlog.log import Recorded
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1 import events_pb2 as pb

from oracle_svc.domain.labeling_state import LabelingState
from scorer_svc.models.latest import LatestModel
from tests.unit.drawn_runs import CLASSES, GOLD, drawn_run
from trainer_svc.domain.run_state import RunState

OUTCOMES = {"label_provided", "sample_skipped", "label_withdrawn"}
ENDS = {"run_finished", "run_cancelled", "run_failed"}
RUNS = [drawn_run(seed) for seed in range(40)]


class Entry(NamedTuple):
    """An event that has an effect."""

    kind: str
    round: int
    body: Any
    at: datetime


def effective(events: Sequence[Recorded]) -> list[Entry]:
    """Leave out outcomes with a wrong round, revision or class and, after the end of the run, all other events."""
    entries: list[Entry] = []
    rounds: dict[int, int] = {}
    revisions: Counter[int] = Counter()
    over = False
    for recorded in events:
        assert recorded.event
        kind = recorded.event.WhichOneof("payload") or ""
        entry = Entry(kind, recorded.event.round, getattr(recorded.event, kind), recorded.at)
        if kind in OUTCOMES:
            right = rounds.get(entry.body.sample_id), revisions[entry.body.sample_id]
            if right != (entry.round, entry.body.revision) or getattr(entry.body, "label", 0) >= len(CLASSES):
                continue
            revisions[entry.body.sample_id] += 1
        elif over:
            continue
        if kind == "labels_requested":
            rounds.update(dict.fromkeys(entry.body.sample_ids, entry.round))
        over = over or kind in ENDS
        entries.append(entry)
    return entries


def intakes(entries: Sequence[Entry]) -> Iterator[tuple[int, list[int], dict[int, Entry]]]:
    """Yield where outcomes take effect: the index, the batch completed there, if any, and the outcomes."""
    batch: list[int] = []
    waiting: dict[int, None] = {}
    current: dict[int, Entry] = {}
    for i, entry in enumerate(entries):
        if entry.kind == "labels_requested":
            batch = list(entry.body.sample_ids)
        elif entry.kind in OUTCOMES:
            current[entry.body.sample_id] = entry
            waiting |= {} if entry.body.sample_id in batch else {entry.body.sample_id: None}
        complete = batch and all(id_ in current and current[id_].kind != "label_withdrawn" for id_ in batch)
        if complete or entry.kind == "samples_auto_labelled":
            yield i, batch, {id_: current[id_] for id_ in [*batch, *waiting]}
            batch, waiting = [], {}


def recomputed(events: Sequence[Recorded]) -> dict[str, Any]:
    """Derive from the list of events what the states must hold."""
    entries = effective(events)
    newest = {entry.kind: i for i, entry in enumerate(entries)}
    model, request = newest.get("model_trained", 0), newest.get("labels_requested", 0)
    certificate = entries[newest["auto_labels_certified"]] if "auto_labels_certified" in newest else None
    end = next((entry for entry in entries if entry.kind in ENDS), None)
    asked: dict[int, tuple[int, float]] = {}  # the purpose and confidence of each requested sample
    for body in (entry.body for entry in entries if entry.kind == "labels_requested"):
        asked |= zip(body.sample_ids, zip(body.purposes, body.confidence, strict=True), strict=True)
    inherited = entries[0].body.inheritance
    examples: dict[int, tuple[Any, ...]] = {}
    for id_, label in zip(inherited.sample_ids, inherited.classes, strict=True):
        examples[id_] = (id_, label, entries[0].at, None)
    auto_labels, certified, drawn = list[int](), list[tuple[Any, ...]](), list[int]()
    completed = skipped = news = 0
    for i, batch, outcomes in intakes(entries):
        if batch:
            completed, skipped = i, [outcomes[id_].kind for id_ in batch].count("sample_skipped")
            drawn += [asked[id_][0] for id_ in batch if outcomes[id_].kind == "label_provided"]
        else:
            auto, news = entries[i].body, i
            columns = zip(auto.sample_ids, auto.classes, auto.confidence, strict=True)
            new = {id_: (id_, label, entries[i].at, sure) for id_, label, sure in columns}
            auto_labels += new
            if certificate in entries[:i]:
                certified += new.values()
            else:
                examples |= new
        for id_, outcome in outcomes.items():
            if outcome.kind == "label_provided":
                examples[id_], news = (id_, outcome.body.label, outcome.at, asked[id_][1]), i
            elif examples.pop(id_, None):
                news = i
    audited = {id_ for id_, (purpose, _) in asked.items() if purpose == pb.PURPOSE_AUDIT}
    current = {entry.body.sample_id: entry for entry in entries if entry.kind in OUTCOMES}
    batch = [] if end or completed > request or not request else entries[request].body.sample_ids
    return {
        "ended": end and (end.kind, end.body.message if end.kind == "run_failed" else end.body.reason),
        "pool": entries[newest["pool_published"]].body if "pool_published" in newest else None,
        "features": entries[newest["features_learned"]].body if "features_learned" in newest else None,
        "model": (entries[model].round, entries[model].body.model_sha256) if model else (0, ""),
        "taken": sorted({GOLD, *inherited.sample_ids, *asked, *auto_labels}),
        "outcomes": {id_: entry.body for id_, entry in sorted(current.items())},
        "open": sorted(id_ for id_ in batch if id_ not in current or current[id_].kind == "label_withdrawn"),
        "labelled": (len(examples.keys() & asked.keys()), sorted(examples.keys() & asked.keys())),
        "news": news > model,
        "parts": sum(entry.kind == "labels_requested" for entry in entries[model:]),
        "skipped": skipped if completed > max(model, request) else 0,
        "auto_labels": (len(auto_labels), certificate.body.count - len(certified) if certificate else 0),
        "audit_drawn": len(audited),
        "training": [example for id_, example in examples.items() if id_ not in audited],
        "audit": [example for id_, example in examples.items() if id_ in audited],
        "certified": certified,
        "drawn": (len(drawn) - drawn.count(pb.PURPOSE_AUDIT), drawn.count(pb.PURPOSE_CONTROL)),
        "changed_at": entries[-1].at,
        "asked_at": entries[request].at if request else None,
        "labels": {id_: entry.body.label for id_, entry in sorted(current.items()) if entry.kind == "label_provided"},
        "notified": [entry.kind for entry in entries if entry.kind in {"model_trained", *ENDS}],
    }


class Services:
    """The projections of a run in each service, and the kinds of events that the scorer's was notified of."""

    def __init__(self) -> None:
        self.notified: list[str] = []
        self.trainers, self.oracles = RunProjections(RunState.begin), RunProjections(LabelingState.begin)
        self.scorers = RunProjections(lambda event, _: LatestModel(RunLog(event.run_started), event.run_id, self._note))

    def _note(self, run: LatestModel) -> None:
        self.notified.append(run.ended.kind if run.ended else "model_trained")

    def apply(self, recorded: Recorded) -> None:
        for projections in (self.trainers, self.oracles, self.scorers):
            projections.apply(recorded)

    def held(self) -> Iterator[dict[str, Any]]:
        trainer, oracle = self.trainers.runs["r"], self.oracles.runs["r"]
        for run_log in (trainer.run_log, oracle.run_log, oracle.progress.run_log, self.scorers.runs["r"].run_log):
            yield {
                "pool": run_log.pool,
                "features": run_log.features,
                "ended": run_log.ended and (run_log.ended.kind, run_log.ended.why),
                "model": (run_log.round, run_log.model_sha256),
            }
            if run_log.closed:  # as the scorer's is once the run has ended
                continue
            yield {name: getattr(run_log, name) for name in ("news", "parts", "skipped", "audit_drawn")} | {
                "taken": sorted(run_log.taken),
                "outcomes": dict(sorted(run_log.answers.standing.items())),
                "open": sorted(run_log.open),
                "labelled": (run_log.label_count, sorted(run_log.labelled)),
                "auto_labels": (run_log.auto_labels, run_log.to_certify),
            }
        for name in ("training", "audit", "certified"):
            examples = getattr(trainer, name)
            yield {name: [(each.sample_id, each.label, each.at, each.confidence) for each in examples]}
        yield {"drawn": (trainer.drawn, trainer.drawn_control), "changed_at": trainer.changed_at}
        yield {"asked_at": oracle.asked_at, "labels": dict(sorted(oracle.progress.labels.items()))}
        yield {"notified": self.notified}


@pytest.mark.parametrize("events", RUNS, ids=range(len(RUNS)))
def test_states_hold_what_the_list_of_events_says(events: list[Recorded]) -> None:
    services = Services()
    for count, recorded in enumerate(events, start=1):
        services.apply(recorded)
        if count % 7 == 0 or count == len(events):
            expected = recomputed(events[:count])
            for name, value in (item for state in services.held() for item in state.items()):
                assert repr(value) == repr(expected[name]), (name, count)  # as text, so that NaN equals NaN


def test_the_runs_drawn_hold_events_of_all_kinds() -> None:
    kinds = {entry.kind for events in RUNS for entry in effective(events)}
    outside = {
        "import_cleared",
        "run_archived",
        "run_restored",
        "run_deleted",
    }  # they decide whether there is a run at all
    assert kinds == {each.name for each in pb.Event.DESCRIPTOR.oneofs_by_name["payload"].fields} - outside
