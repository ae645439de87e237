"""Draw runs at random: the events obey the rules, except for some outcomes with a wrong round, revision or class."""

from __future__ import annotations

from random import Random
from typing import Any

from labelloop.domain.run_log import RunLog
from labelloop.domain.sample_outcomes import outcome_of
from labelloop.eventlog.log import Recorded
from labelloop.events.v1 import events_pb2 as pb

POOL_SIZE, GOLD, CLASSES = 40, 39, ["a", "b", "c"]
_KINDS = [
    *["outcome"] * 20,
    *["request"] * 6,
    *["model"] * 4,
    *["certificate"] * 2,
    "answer",
    "auto",
    "features",
    "people",
]


def drawn_run(seed: int) -> list[Recorded]:
    """Return the events of a run, with some after its end, as a slow service writes them."""
    rng = Random(seed)
    spec = pb.RunSpec(batch_size=4, label_budget=20, queue=pb.QueueSpec(gold=[pb.GoldSample(sample_id=GOLD, label=1)]))
    spec.features = rng.choice((pb.FEATURE_KIND_UNSPECIFIED, pb.FEATURE_KIND_PATCHES))
    if rng.random() < 0.7:
        spec.guarantee.audit_size = 4
    inherited = [0, 1] if rng.random() < 0.5 else []
    taken_over = pb.Inheritance(sample_ids=inherited, classes=inherited, auto_labelled=[False] * len(inherited))
    started = pb.RunStarted(spec=spec, inheritance=taken_over)
    run_log, events = RunLog(started), [pb.Event(run_id="r", run_started=started)]
    before_end, after_end = rng.choices(_KINDS, k=rng.randrange(250)), rng.choices(_KINDS, k=30)
    for kind in ["pool", *before_end, "end", *after_end, "end"]:
        event = _outcome(rng, run_log) if kind == "outcome" else _candidate(kind, rng, run_log)
        fault = run_log.fault(event)
        if outcome_of(event) or not fault:
            event.run_id, event.recorded_at.seconds = "r", rng.randrange(10**6)
            events.append(event)
        if not fault:
            run_log.apply(event)
    return [Recorded(event, i) for i, event in enumerate(events, start=1)]


def _candidate(kind: str, rng: Random, run_log: RunLog) -> pb.Event:
    round_ = run_log.round
    free = sorted(set(range(POOL_SIZE)).difference(run_log.taken))
    ids = rng.sample(free, min(len(free), rng.choice((1, 1, 2, 3))))
    classes, confidence = [rng.randrange(3) for _ in ids], [rng.choice((0.5, 0.75, float("nan"))) for _ in ids]
    match kind:
        case "pool":
            return pb.Event(pool_published=pb.PoolPublished(sample_count=POOL_SIZE, classes=CLASSES))
        case "features":
            return pb.Event(features_learned=pb.FeaturesLearned(feature_count=3))
        case "request":
            drawn, audit = [rng.choice((pb.PURPOSE_CHOSEN, pb.PURPOSE_CONTROL)) for _ in ids], rng.random() < 0.15
            request = pb.LabelsRequested(sample_ids=ids, part=run_log.parts, predicted=classes, confidence=confidence)
            request.purposes.extend([pb.PURPOSE_AUDIT] * len(ids) if audit else drawn)
            return pb.Event(round=round_, labels_requested=request)
        case "auto":
            auto = pb.SamplesAutoLabelled(sample_ids=ids, classes=classes, confidence=confidence)
            auto.part = run_log.auto_parts
            return pb.Event(round=round_, samples_auto_labelled=auto)
        case "answer":
            return pb.Event(answer_given=pb.AnswerGiven(sample_id=GOLD, slot=rng.randrange(2), label=1))
        case "people":
            changed = pb.AnnotatorsChanged(number=run_log.annotators.changes)
            match rng.randrange(3):
                case 0:
                    changed.alias.MergeFrom(pb.AnnotatorAlias(name=rng.choice("ab"), same_as=rng.choice("ab")))
                case 1:
                    changed.removal.MergeFrom(pb.AnnotatorRemoval(name=rng.choice("ab"), withdraw=rng.random() < 0.5))
                case _:
                    changed.restored = rng.choice("ab")
            return pb.Event(annotators_changed=changed)
        case "certificate":
            return pb.Event(round=round_, auto_labels_certified=pb.AutoLabelsCertified(count=5))
        case "model":
            model = pb.ModelTrained(model_sha256=f"model {round_ + 1}", labels=run_log.known)
            return pb.Event(round=round_ + 1, model_trained=model)
    ends = [
        pb.Event(round=round_, run_finished=pb.RunFinished(reason="done")),
        pb.Event(run_cancelled=pb.RunCancelled(reason="enough")),
        pb.Event(round=round_ + 1, run_failed=pb.RunFailed(reason="CORRUPT", message="broken")),
    ]
    return rng.choice(ends)


def _outcome(rng: Random, run_log: RunLog) -> pb.Event:
    answers, right = run_log.answers, rng.random() < 0.9
    among = list(answers.open if answers.open and rng.random() < 0.8 else answers.rounds) or [GOLD]
    sample_id = rng.choice(among if right else range(POOL_SIZE))
    wrong = "" if right else rng.choice(("round", "revision", "class"))
    revision = answers.next_revision(sample_id) + (wrong == "revision")
    given: dict[str, Any] = {"sample_id": sample_id, "annotator": rng.choice("ab"), "revision": revision}
    event = pb.Event(round=answers.rounds.get(sample_id, 0) + (wrong == "round"))
    match rng.randrange(5) if wrong != "class" else 4:
        case 0:
            event.label_withdrawn.MergeFrom(pb.LabelWithdrawn(**given))
        case 1:
            event.sample_skipped.MergeFrom(pb.SampleSkipped(**given, kind=pb.SKIP_KIND_SKIPPED))
        case _:
            label = len(CLASSES) if wrong == "class" else rng.randrange(3)
            event.label_provided.MergeFrom(pb.LabelProvided(**given, label=label))
    return event
