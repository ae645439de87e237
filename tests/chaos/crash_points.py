"""All crash points of the services, enumerated from the contract, and the actions that lead a run to each."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from labelloop.domain.run_end import RUN_ENDS
from labelloop.eventlog.log import EventLog
from labelloop.events.v1.events_pb2 import (
    AnnotatorRemoval,
    Event,
    ImportedEvents,
    LabelSource,
    QueueSpec,
    RunStarted,
    SkipKind,
)
from labelloop.oracle.v1 import oracle_pb2
from labelloop.scorer.v1 import scorer_pb2
from labelloop.trainer.v1 import trainer_pb2

from tests.blobs import IMAGE_BYTES, certified_spec, plain, spec
from tests.chaos.trial import Fault, Trial, again_until_answered, training_set
from tests.chaos.world import ARMED

_APPENDS = {
    "trainer": (
        "run_started",
        "features_learned",
        "labels_requested",
        "model_trained",
        "auto_labels_certified",
        "samples_auto_labelled",
        "run_finished",
        "run_cancelled",
        "run_failed",
        "run_archived",
        "run_restored",
        "import_cleared",
    ),
    "oracle": (
        "pool_published",
        "label_provided",
        "sample_skipped",
        "label_withdrawn",
        "answer_given",
        "annotators_changed",
        "run_failed",
    ),
    "scorer": (),
}
_OF_THE_OPERATOR = {"run_deleted"}  # no service writes it; see tests/integration/test_run_deletion.py
_CALLS = {
    "trainer": ("RankPool", "RankPoolStream", "GetSamples", "DescribeDataset", "LearnFeatures", "ExtractFeatures"),
    "oracle": (),
    "scorer": (),
}
_REPEATED = {
    "append labels_requested",
    "append label_provided",
    "append model_trained",
    "call RankPool",
    "serve RankPool",
}
_PUTS = {"trainer": 2, "oracle": 3, "scorer": 0}  # model and training state; shard, evaluation set, manifest
_SERVES = {
    name: tuple(method.name for method in module.DESCRIPTOR.services_by_name[f"{name.title()}Service"].methods)
    for name, module in (("trainer", trainer_pb2), ("scorer", scorer_pb2), ("oracle", oracle_pb2))
}


@dataclass(frozen=True)
class CrashPoint:
    """A place at which a service kills itself; ``name`` is the value of LABELLOOP_CRASH_AT."""

    service: str
    name: str

    @property
    def what(self) -> str:
        """The action, such as "append model_trained"."""
        return self.name.partition(" ")[2].partition("#")[0]


def crash_points(seed: int) -> list[CrashPoint]:
    """Return all crash points: before and after each append, put, call and response of each service.

    For an action that a run repeats, the seed chooses the occurrence.
    """
    done = {kind for kinds in _APPENDS.values() for kind in kinds} | _OF_THE_OPERATOR
    assert done == {field.name for field in Event.DESCRIPTOR.oneofs_by_name["payload"].fields}, "an event has no writer"
    rng = random.Random(seed)
    points = []
    for service in ("trainer", "scorer", "oracle"):
        actions = [f"append {kind}" for kind in _APPENDS[service]]
        actions += [f"put#{number + 1}" for number in range(_PUTS[service])]
        actions += [f"call {method}" for method in _CALLS[service]]
        actions += [f"serve {method}" for method in _SERVES[service]]
        for action in actions:
            times = f"#{rng.randint(1, 9)}" if action in _REPEATED else ""
            points += [CrashPoint(service, f"{when} {action}{times}") for when in ("before", "after")]
    return points


def crash_fault(point: CrashPoint) -> Fault:
    """Return the fault in which a service dies at ``point``, to which the trial's run or one beside it leads."""
    lead = _LEADS.get(point.what, _nothing)

    async def make(trial: Trial) -> None:
        service = trial.world.services[point.service]
        process = service.process
        assert process is not None, "services are up"
        Path(service.environment[ARMED]).write_text(point.name)
        if (point.service, point.what) == ("oracle", "put"):  # it would not publish a pool again before a restart
            await trial.world.restart("oracle")
            process = service.process
            assert process is not None, "services are up"
        leading = asyncio.ensure_future(lead(trial))
        assert await process.wait() == -signal.SIGKILL
        await trial.over(point.service)
        await trial.world.up_again(point.service, process.pid)
        await leading

    return Fault(f"{point.service} dies {point.name.partition('#')[0]}", "SIGKILL of itself at that point", make)


Lead = Callable[[Trial], Awaitable[None]]


async def _nothing(trial: Trial) -> None:
    """Do nothing: the trial's run reaches the point by itself."""


async def _cancel(trial: Trial) -> None:
    """Start a run that waits for annotators, so that it cannot end by itself, and cancel it."""
    run_id = f"{trial.run_id}-cancelled"
    by_hand = spec(trial.world.blobs, label_source=LabelSource.LABEL_SOURCE_QUEUE)
    await again_until_answered(
        trial.world.clients.trainer.StartRun, trainer_pb2.StartRunRequest(run_id=run_id, spec=by_hand)
    )
    try:
        request = trainer_pb2.CancelRunRequest(run_id=run_id, reason="tried out")
        await again_until_answered(trial.world.clients.trainer.CancelRun, request)
    except grpc.aio.AioRpcError as error:
        if error.code() != grpc.StatusCode.FAILED_PRECONDITION:  # cancelled by a call whose response was lost
            raise
    await trial.world.watch.first(run_id, lambda seen: seen.kind == "run_cancelled")


async def _archive(trial: Trial) -> None:
    """Start a run, cancel it, archive it and purge what stands of it."""
    run_id = await _start_by_hand(trial, "archived")
    trainer = trial.world.clients.trainer
    await trial.world.watch.first(run_id, lambda seen: seen.kind == "labels_requested")
    await again_until_answered(trainer.CancelRun, trainer_pb2.CancelRunRequest(run_id=run_id))
    request = trainer_pb2.ArchiveRunRequest(run_id=run_id)
    archived = await again_until_answered(trainer.ArchiveRun, request)
    await EventLog(trial.world.client).purge_archived(run_id, archived.sequence)


async def _restore(trial: Trial) -> None:
    """Archive a run as :func:`_archive` does, and bring it back."""
    await _archive(trial)
    run_id = f"{trial.run_id}-archived"
    request = trainer_pb2.RestoreRunRequest(run_id=run_id)
    restored = await again_until_answered(trial.world.clients.trainer.RestoreRun, request)
    assert restored.run.phase == trainer_pb2.Phase.PHASE_CANCELLED
    await trial.world.watch.first(run_id, lambda seen: seen.kind == "run_restored")


async def _submit(trial: Trial) -> None:
    """Start a run of two labels and submit them; resent labels count as repeats."""
    run_id = await _start_by_hand(trial, "queue")
    asked = await trial.world.watch.first(run_id, lambda seen: seen.kind == "labels_requested")
    await _give_labels(trial, run_id, asked.event.labels_requested.sample_ids)


async def _skip(trial: Trial) -> None:
    """Start a run, skip its first two samples and label those requested instead; resent skips count as repeats."""
    run_id = await _start_by_hand(trial, "skips")
    asked = await trial.world.watch.first(run_id, lambda seen: seen.kind == "labels_requested")
    kind = SkipKind.SKIP_KIND_SKIPPED
    samples = [oracle_pb2.SkippedSample(sample_id=each, kind=kind) for each in asked.event.labels_requested.sample_ids]
    request = oracle_pb2.SkipSamplesRequest(run_id=run_id, samples=samples)
    await _until_read(trial.world.clients.oracle.SkipSamples, request)
    instead = await trial.world.watch.first(run_id, lambda seen: seen.event.labels_requested.part == 1)
    await _give_labels(trial, run_id, instead.event.labels_requested.sample_ids)


async def _cancel_requests(trial: Trial) -> None:
    """Start a run, cancel its first two requests and label the samples requested in their place."""
    run_id = await _start_by_hand(trial, "taken-back")
    asked = await trial.world.watch.first(run_id, lambda seen: seen.kind == "labels_requested")
    request = oracle_pb2.CancelRequestsRequest(run_id=run_id, sample_ids=asked.event.labels_requested.sample_ids)
    await _until_read(trial.world.clients.oracle.CancelRequests, request)
    instead = await trial.world.watch.first(run_id, lambda seen: seen.event.labels_requested.part == 1)
    await _give_labels(trial, run_id, instead.event.labels_requested.sample_ids)


async def _resend_requests(trial: Trial) -> None:
    """Start a run that is labelled in a tool, have the tool asked again, and give the labels in another way."""
    run_id = await _start_by_hand(trial, "resent", QueueSpec(tool="nats"))
    asked = await trial.world.watch.first(run_id, lambda seen: seen.kind == "labels_requested")
    request = oracle_pb2.ResendRequestsRequest(run_id=run_id, sample_ids=asked.event.labels_requested.sample_ids)
    await _until_read(trial.world.clients.oracle.ResendRequests, request)
    await _give_labels(trial, run_id, asked.event.labels_requested.sample_ids)


async def _change_mind(trial: Trial) -> None:
    """Start a run whose first label is withdrawn and given again before the second one is given."""
    run_id = await _start_by_hand(trial, "withdrawn")
    asked = await trial.world.watch.first(run_id, lambda seen: seen.kind == "labels_requested")
    first, second = (f"{run_id}/0/{sample_id}" for sample_id in asked.event.labels_requested.sample_ids)
    await _say(trial, request_id=first, annotator="a", label=0)
    await _say(trial, request_id=first, annotator="a", revision=1, withdrawn=True)
    await _say(trial, request_id=first, annotator="a", revision=2, label=1)
    await _say(trial, request_id=second, annotator="b", label=0)
    await trial.world.watch.first(run_id, lambda seen: seen.kind == "run_finished")


async def _remove(trial: Trial) -> None:
    """Start a run and remove an annotator, whose label is withdrawn, so that another one gives it again."""
    run_id = await _start_by_hand(trial, "removed")
    asked = await trial.world.watch.first(run_id, lambda seen: seen.kind == "labels_requested")
    first, second = (f"{run_id}/0/{sample_id}" for sample_id in asked.event.labels_requested.sample_ids)
    await _say(trial, request_id=first, annotator="a", label=0)
    removal = AnnotatorRemoval(name="a", withdraw=True)
    request = oracle_pb2.ChangeAnnotatorsRequest(run_id=run_id, removal=removal)
    await _until_read(trial.world.clients.oracle.ChangeAnnotators, request)
    await trial.world.watch.first(run_id, lambda seen: seen.kind == "label_withdrawn")
    await _say(trial, request_id=first, annotator="b", label=1)
    await _say(trial, request_id=second, annotator="b", label=0)
    await trial.world.watch.first(run_id, lambda seen: seen.kind == "run_finished")


async def _agree(trial: Trial) -> None:
    """Start a run with two annotators for each sample; they disagree on the first, and a third one decides."""
    run_id = await _start_by_hand(trial, "several", QueueSpec(annotators=2, annotators_max=3))
    asked = await trial.world.watch.first(run_id, lambda seen: seen.kind == "labels_requested")
    first, second = (f"{run_id}/0/{sample_id}" for sample_id in asked.event.labels_requested.sample_ids)
    for annotator, label in (("a", 0), ("b", 1)):
        await _say(trial, request_id=first, annotator=annotator, label=label)
        await _say(trial, request_id=second, annotator=annotator, label=2)
    await _say(trial, request_id=first, annotator="c", label=1)
    await trial.world.watch.first(run_id, lambda seen: seen.kind == "run_finished")


async def _say(trial: Trial, **result: Any) -> None:
    request = oracle_pb2.SubmitResultsRequest(results=[oracle_pb2.LabelResult(**result)])
    await _until_read(trial.world.clients.oracle.SubmitResults, request)


async def _start_by_hand(trial: Trial, name: str, queue: QueueSpec | None = None) -> str:
    """Start a run that requests two labels in all from annotators, and return its id."""
    run_id = f"{trial.run_id}-{name}"
    changes = {"label_budget": 2, "batch_size": 2, "auto_label_budget": 0, "queue": queue}
    by_hand = spec(trial.world.blobs, label_source=LabelSource.LABEL_SOURCE_QUEUE, **changes)
    request = trainer_pb2.StartRunRequest(run_id=run_id, spec=by_hand)
    await again_until_answered(trial.world.clients.trainer.StartRun, request)
    return run_id


async def _give_labels(trial: Trial, run_id: str, sample_ids: Iterable[int]) -> None:
    labels = [oracle_pb2.SubmittedLabel(sample_id=each) for each in sample_ids]
    request = oracle_pb2.SubmitLabelsRequest(run_id=run_id, labels=labels)
    await _until_read(trial.world.clients.oracle.SubmitLabels, request)
    await trial.world.watch.first(run_id, lambda seen: seen.kind == "run_finished")


async def _until_read(call: Any, request: Message) -> None:
    """Repeat the call until the oracle has read the events that it depends on."""
    while True:
        try:
            await again_until_answered(call, request)
            return
        except grpc.aio.AioRpcError as error:
            if error.code() not in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}:
                raise
            await asyncio.sleep(0.02)


async def _fail(trial: Trial) -> None:
    """Start two runs that fail: one whose dataset is missing, and one that can learn no features from its pool."""
    blobs = trial.world.blobs
    for name, path in (("gone", blobs.samples.with_name("gone.npy")), ("plain", plain(blobs))):
        broken = certified_spec(blobs)
        broken.dataset.name = str(path)
        run_id = f"{trial.run_id}-{name}"
        await EventLog(trial.world.client).append_once(Event(run_id=run_id, run_started=RunStarted(spec=broken)))
        await trial.world.watch.first(run_id, lambda seen: seen.kind == "run_failed")


async def _continue(trial: Trial) -> None:
    """Start a run that inherits a training set and reads the samples of it."""
    world = trial.world
    await world.watch.first(trial.run_id, lambda seen: seen.kind in RUN_ENDS)
    child = trainer_pb2.StartRunRequest(
        run_id=f"{trial.run_id}-child", continues=trial.run_id, spec=spec(world.blobs, label_budget=0)
    )
    await again_until_answered(world.clients.trainer.StartRun, child)
    await world.watch.first(child.run_id, lambda seen: seen.kind in RUN_ENDS)


async def _certify(trial: Trial) -> None:
    """Start a run on learned features that ends with audited auto-labels."""
    run_id = f"{trial.run_id}-certified"
    certified = certified_spec(trial.world.blobs)
    request = trainer_pb2.StartRunRequest(run_id=run_id, spec=certified)
    await again_until_answered(trial.world.clients.trainer.StartRun, request)
    end = await trial.world.watch.first(run_id, lambda seen: seen.kind in RUN_ENDS)
    assert end.kind == "run_finished"


async def _start_another(trial: Trial) -> None:
    request = trainer_pb2.StartRunRequest(run_id=f"{trial.run_id}-other", spec=trial.spec)
    await again_until_answered(trial.world.clients.trainer.StartRun, request)
    await trial.world.watch.first(request.run_id, lambda seen: seen.kind in RUN_ENDS)


async def _list_labels(trial: Trial) -> None:
    await trial.world.watch.first(trial.run_id, lambda seen: seen.kind == "model_trained")
    while True:
        try:
            await training_set(trial.world, trial.run_id)
            return
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise


async def _show_requests(trial: Trial) -> None:
    """Start a run, read what it asks for, and label that."""
    run_id = await _start_by_hand(trial, "shown")
    asked = await trial.world.watch.first(run_id, lambda seen: seen.kind == "labels_requested")
    wanted = list(asked.event.labels_requested.sample_ids)
    oracle, request = trial.world.clients.oracle, oracle_pb2.ListRequestsRequest(run_id=run_id)
    shown: list[int] = []
    while shown != wanted:  # the oracle may not have read the run's events yet
        shown = await _read(lambda: oracle.ListRequests(request))
    await _give_labels(trial, run_id, wanted)


async def _find_samples(trial: Trial) -> None:
    await trial.world.watch.first(trial.run_id, lambda seen: seen.kind == "model_trained")
    oracle, request = trial.world.clients.oracle, oracle_pb2.FindSamplesRequest(run_id=trial.run_id, sample_ids=[1])
    await _read(lambda: oracle.FindSamples(request))


async def _read(call: Callable[[], Any]) -> list[int]:
    """Return the samples of all answers of a stream; repeat the call until it ends well."""
    while True:
        try:
            return [getattr(answer, "sample_id", 0) async for answer in call()]
        except grpc.aio.AioRpcError as error:
            if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND}:
                raise
            await asyncio.sleep(0.02)


async def _exported(trial: Trial) -> list[Event]:
    """Return the events of the run once it has ended; repeat the export until it is complete."""
    await trial.world.watch.first(trial.run_id, lambda seen: seen.kind in RUN_ENDS)
    request = trainer_pb2.ExportRunRequest(run_id=trial.run_id)
    while True:
        try:
            parts = trial.world.clients.trainer.ExportRun(request, wait_for_ready=True)
            return [part.event async for part in parts if part.HasField("event")]
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise


async def _export(trial: Trial) -> None:
    assert await _exported(trial)


async def _import_again(trial: Trial) -> None:
    """Import events that the log already holds, which changes nothing."""
    parts = [trainer_pb2.ImportRunRequest(event=event) for event in await _exported(trial)]
    while True:
        try:
            await trial.world.clients.trainer.ImportRun(iter(parts), wait_for_ready=True)
            return
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise


async def _clear_import(trial: Trial) -> None:
    """Give up an import of which only ``run_started`` stands."""
    run_id = f"{trial.run_id}-cleared"
    started = RunStarted(spec=spec(trial.world.blobs), imported=ImportedEvents(count=1, sha256="0" * 64))
    await EventLog(trial.world.client).append_once(Event(run_id=run_id, run_started=started))
    request = trainer_pb2.ClearImportRequest(run_id=run_id, reason="tried out")
    await again_until_answered(trial.world.clients.trainer.ClearImport, request)


async def _watch(trial: Trial) -> None:
    await trial.world.watch.first(trial.run_id, lambda seen: seen.kind == "model_trained")
    async for _ in trial.world.clients.watch(trial.run_id):
        pass


async def _score_stream(trial: Trial) -> None:
    await trial.world.watch.first(trial.run_id, lambda seen: seen.kind == "model_trained")
    while True:
        try:
            requests = [scorer_pb2.ScoreStreamRequest(score=_images(trial))]
            answers = trial.world.clients.scorer.ScoreStream(iter(requests), wait_for_ready=True)
            assert [answer async for answer in answers]
            return
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise


def _images(trial: Trial) -> scorer_pb2.ScoreRequest:
    """Return a request for one black image and the newest model of the run."""
    return scorer_pb2.ScoreRequest(run_id=trial.run_id, dtype="uint8", images=bytes(IMAGE_BYTES))


def _ask(service: str, method: str, make: Callable[[Trial, str], Message]) -> Lead:
    async def lead(trial: Trial) -> None:
        published = await trial.world.watch.first(trial.run_id, lambda seen: seen.kind == "pool_published")
        await trial.world.watch.first(trial.run_id, lambda seen: seen.kind == "model_trained")
        request = make(trial, published.event.pool_published.pool_sha256)
        await again_until_answered(getattr(getattr(trial.world.clients, service), method), request)

    return lead


_LEADS: dict[str, Lead] = {
    "append run_started": _start_another,
    **dict.fromkeys(
        (
            "append features_learned",
            "append auto_labels_certified",
            "call LearnFeatures",
            "call ExtractFeatures",
            "call RankPoolStream",
            "serve RankPoolStream",
            "serve LearnFeatures",
            "serve ExtractFeatures",
        ),
        _certify,
    ),
    "append run_cancelled": _cancel,
    "append import_cleared": _clear_import,
    "serve ClearImport": _clear_import,
    "append run_failed": _fail,
    **dict.fromkeys(("append run_archived", "serve ArchiveRun"), _archive),
    **dict.fromkeys(("append run_restored", "serve RestoreRun"), _restore),
    "append sample_skipped": _skip,
    "append label_withdrawn": _change_mind,
    "append answer_given": _agree,
    **dict.fromkeys(("append annotators_changed", "serve ChangeAnnotators"), _remove),
    "call GetSamples": _continue,
    "call DescribeDataset": _start_another,
    "serve StartRun": _start_another,
    "serve GetRun": _ask("trainer", "GetRun", lambda trial, _: trainer_pb2.GetRunRequest(run_id=trial.run_id)),
    "serve ListRuns": _ask("trainer", "ListRuns", lambda _, __: trainer_pb2.ListRunsRequest()),
    "serve WatchRun": _watch,
    "serve CancelRun": _cancel,
    "serve ExportRun": _export,
    "serve ImportRun": _import_again,
    "serve ListLabels": _list_labels,
    "serve GetModel": _ask("trainer", "GetModel", lambda trial, _: trainer_pb2.GetModelRequest(run_id=trial.run_id)),
    "serve GetSamples": _ask(
        "scorer", "GetSamples", lambda _, pool: scorer_pb2.GetSamplesRequest(pool_sha256=pool, sample_ids=[1, 2])
    ),
    "serve ClusterPool": _ask(
        "scorer", "ClusterPool", lambda _, pool: scorer_pb2.ClusterPoolRequest(pool_sha256=pool, cluster_count=2)
    ),
    "serve Score": _ask("scorer", "Score", lambda trial, _: _images(trial)),
    "serve ScoreStream": _score_stream,
    "serve DescribeDataset": _start_another,
    "serve SubmitLabels": _submit,
    "serve SkipSamples": _skip,
    "serve LeaseNext": _ask(
        "oracle", "LeaseNext", lambda trial, _: oracle_pb2.LeaseNextRequest(run_id=trial.run_id, annotator="a")
    ),
    "serve ReleaseLeases": _ask(
        "oracle", "ReleaseLeases", lambda _, __: oracle_pb2.ReleaseLeasesRequest(annotator="a", request_ids=["r/0/1/0"])
    ),
    "serve SubmitResults": _change_mind,
    "serve CancelRequests": _cancel_requests,
    "serve ResendRequests": _resend_requests,
    "serve GetBacklog": _ask("oracle", "GetBacklog", lambda _, __: oracle_pb2.GetBacklogRequest()),
    "serve ListAnswers": _ask(
        "oracle", "ListAnswers", lambda trial, _: oracle_pb2.ListAnswersRequest(run_id=trial.run_id)
    ),
    "serve ListDeadLetters": _ask("oracle", "ListDeadLetters", lambda _, __: oracle_pb2.ListDeadLettersRequest()),
    "serve ReplayDeadLetters": _ask("oracle", "ReplayDeadLetters", lambda _, __: oracle_pb2.ReplayDeadLettersRequest()),
    "serve FindSamples": _find_samples,
    "serve ListRequests": _show_requests,
    "serve ListOpenSamples": _ask(
        "oracle", "ListOpenSamples", lambda trial, _: oracle_pb2.ListOpenSamplesRequest(run_id=trial.run_id)
    ),
}
