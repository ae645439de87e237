"""A valid request for each RPC, to services with the runs "done", and "open", "spare" and "tool", which await labels.

Of the run "half" only the beginning of an import stands.
"""

from __future__ import annotations

import asyncio

from google.protobuf.message import Message
from labelloop.artifacts.store import digest_of
from labelloop.artifacts.upload_manifest import write_manifest
from labelloop.events.v1.events_pb2 import (
    Event,
    ImportedEvents,
    LabelSource,
    Protocol,
    QueueSpec,
    RunSpec,
    RunStarted,
    SkipKind,
)
from labelloop.inference.v2 import inference_pb2
from labelloop.oracle.v1 import oracle_pb2
from labelloop.scorer.v1 import scorer_pb2
from labelloop.trainer.v1 import trainer_pb2
from labelloop_cli.clients import Clients

from tests.blobs import IMAGE_BYTES, Blobs, spec
from tests.e2e.driving import waiting_samples
from tests.e2e.nasty import Likely
from tests.memory_uploads import part, uploaded
from tests.patience import PATIENCE_S


def brief_spec(blobs: Blobs, source: LabelSource.ValueType, *, tool: str = "") -> RunSpec:
    """Return the spec of a run with one round of five labels."""
    changes = {"protocol": Protocol.PROTOCOL_HONEST, "stopping_sample_count": 0, "auto_label_budget": 0}
    return spec(blobs, label_source=source, label_budget=5, queue=QueueSpec(tool=tool) if tool else None, **changes)


async def open_samples(clients: Clients, run_id: str = "open") -> list[int]:
    """Return the samples that a run waits for."""
    async with asyncio.timeout(PATIENCE_S):
        async for status in clients.watch(run_id):
            if status.labels_open:
                break
        while True:
            if found := await waiting_samples(clients, run_id):
                return [sample.sample_id for sample in found]
            await asyncio.sleep(0.01)


def half_import(blobs: Blobs) -> Event:
    """Return the first event of an import of two."""
    started = RunStarted(spec=brief_spec(blobs, LabelSource.LABEL_SOURCE_QUEUE))
    started.imported.CopyFrom(ImportedEvents(count=1, sha256="0" * 64))
    return Event(run_id="half", run_started=started)


def good_requests(blobs: Blobs, done: trainer_pb2.RunStatus, open_sample: int) -> dict[str, Message]:
    """Return a valid request for each RPC, by the RPC's name."""
    pool, model = done.pool.pool_sha256, done.latest.model_sha256
    margin = scorer_pb2.Strategy.STRATEGY_MARGIN
    score = scorer_pb2.ScoreRequest(
        run_id="done", dtype="uint8", images=bytes(2 * IMAGE_BYTES), with_probabilities=True
    )
    tensor = inference_pb2.ModelInferRequest.InferInputTensor(name="samples", datatype="UINT8", shape=[2, 6, 6])
    tensor.contents.uint_contents.extend(range(2 * IMAGE_BYTES))
    inference = inference_pb2.ModelInferRequest(model_name="done", id="a", inputs=[tensor])
    inference.outputs.add(name="probabilities")
    label = oracle_pb2.SubmittedLabel(sample_id=open_sample, label=1)
    skip = oracle_pb2.SkippedSample(sample_id=open_sample, kind=SkipKind.SKIP_KIND_SKIPPED)
    result = oracle_pb2.LabelResult(request_id=f"open/0/{open_sample}/0", annotator="kim", label=1)
    manifest = write_manifest([uploaded("pool.bin", b"samples")])
    parts = [part(data) for data in (b"samples", manifest)]
    upload = oracle_pb2.PutUploadRequest(id=digest_of(manifest), name="pool", manifest_parts=[digest_of(manifest)])
    imported = Event(run_id="imported", run_started=RunStarted(spec=brief_spec(blobs, LabelSource.LABEL_SOURCE_QUEUE)))
    ranking = scorer_pb2.RankPoolRequest(pool_sha256=pool, model_sha256=model, strategy=margin, limit=3)
    return {
        "StartRun": trainer_pb2.StartRunRequest(spec=brief_spec(blobs, LabelSource.LABEL_SOURCE_QUEUE)),
        "GetRun": trainer_pb2.GetRunRequest(run_id="done"),
        "ListRuns": trainer_pb2.ListRunsRequest(),
        "WatchRun": trainer_pb2.WatchRunRequest(run_id="open"),
        "CancelRun": trainer_pb2.CancelRunRequest(run_id="spare", reason="enough"),
        "ListLabels": trainer_pb2.ListLabelsRequest(run_id="done"),
        "GetModel": trainer_pb2.GetModelRequest(run_id="done", round=1),
        "ExportRun": trainer_pb2.ExportRunRequest(run_id="done"),
        "ImportRun": trainer_pb2.ImportRunRequest(event=imported),
        "ArchiveRun": trainer_pb2.ArchiveRunRequest(run_id="spare"),
        "RestoreRun": trainer_pb2.RestoreRunRequest(run_id="open"),
        "ClearImport": trainer_pb2.ClearImportRequest(run_id="half", reason="cut short"),
        "SweepArtifacts": trainer_pb2.SweepArtifactsRequest(older_than_s=7_200),
        "FindFetchedShards": scorer_pb2.FindFetchedShardsRequest(pool_sha256=pool),
        "RankPool": ranking,
        "RankPoolStream": scorer_pb2.RankPoolStreamRequest(ranking=ranking),
        "GetSamples": scorer_pb2.GetSamplesRequest(pool_sha256=pool, sample_ids=[0, 299, 0]),
        "ClusterPool": scorer_pb2.ClusterPoolRequest(pool_sha256=pool, cluster_count=3),
        "LearnFeatures": scorer_pb2.LearnFeaturesRequest(pool_sha256=pool, seed=1),
        "ExtractFeatures": scorer_pb2.ExtractFeaturesRequest(features_sha256=model, samples=bytes(2 * IMAGE_BYTES)),
        "Score": score,
        "ServerLive": inference_pb2.ServerLiveRequest(),
        "ServerReady": inference_pb2.ServerReadyRequest(),
        "ServerMetadata": inference_pb2.ServerMetadataRequest(),
        "ModelReady": inference_pb2.ModelReadyRequest(name="done"),
        "ModelMetadata": inference_pb2.ModelMetadataRequest(name="done", version="1"),
        "ModelConfig": inference_pb2.ModelConfigRequest(name="done", version=model),
        "ModelInfer": inference,
        "ModelStreamInfer": inference,
        "ScoreStream": scorer_pb2.ScoreStreamRequest(score=score),
        "DescribeDataset": oracle_pb2.DescribeDatasetRequest(dataset=blobs.source()),
        "ListOpenSamples": oracle_pb2.ListOpenSamplesRequest(run_id="open"),
        "FindSamples": oracle_pb2.FindSamplesRequest(run_id="done", sample_ids=[0, 299]),
        "ListRequests": oracle_pb2.ListRequestsRequest(run_id="open"),
        "SkipSamples": oracle_pb2.SkipSamplesRequest(run_id="open", annotator="kim", samples=[skip]),
        "LeaseNext": oracle_pb2.LeaseNextRequest(run_id="open", annotator="kim", count=2, lease_s=1),
        "ReleaseLeases": oracle_pb2.ReleaseLeasesRequest(annotator="kim", request_ids=[f"open/0/{open_sample}/0"]),
        "SubmitResults": oracle_pb2.SubmitResultsRequest(results=[result]),
        "ChangeAnnotators": oracle_pb2.ChangeAnnotatorsRequest(run_id="open", restored="kim"),
        "CancelRequests": oracle_pb2.CancelRequestsRequest(run_id="open", sample_ids=[open_sample], annotator="kim"),
        "ResendRequests": oracle_pb2.ResendRequestsRequest(run_id="tool"),
        "GetBacklog": oracle_pb2.GetBacklogRequest(run_id="open"),
        "ListAnswers": oracle_pb2.ListAnswersRequest(run_id="done", limit=3),
        "ListDeadLetters": oracle_pb2.ListDeadLettersRequest(),
        "DiscardDeadLetters": oracle_pb2.DiscardDeadLettersRequest(),
        "ListHeldWithdrawals": oracle_pb2.ListHeldWithdrawalsRequest(run_id="open"),
        "AcceptWithdrawals": oracle_pb2.AcceptWithdrawalsRequest(run_id="open"),
        "ReplayDeadLetters": oracle_pb2.ReplayDeadLettersRequest(),
        "FindMissingParts": oracle_pb2.FindMissingPartsRequest(sha256=[each.sha256 for each in parts]),
        "PutParts": oracle_pb2.PutPartsRequest(parts=parts),
        "PutUpload": upload,
        "ListUploads": oracle_pb2.ListUploadsRequest(),
        "RemoveUpload": oracle_pb2.RemoveUploadRequest(id=upload.id),
        "SubmitLabels": oracle_pb2.SubmitLabelsRequest(run_id="open", annotator="kim", labels=[label]),
    }


def likely_strings(blobs: Blobs, odd: list[str], done: trainer_pb2.RunStatus) -> Likely:
    """Return plausible values of the strings in requests, by the field's name."""
    paths = [str(blobs.samples), str(blobs.labels), str(blobs.evaluation), *odd]
    runs = ["done", "spare", "nobody"]  # not "open", which must stay open
    versions = ["1", "2", done.latest.model_sha256]
    digests = [done.pool.pool_sha256, done.pool.evaluation_sha256, done.latest.model_sha256]
    return {
        **dict.fromkeys(("name", "labels", "evaluation", "evaluation_labels", "graph"), paths),
        **dict.fromkeys(("run_id", "continues", "model_name"), runs),
        **dict.fromkeys(("version", "model_version"), versions),
        "key": ["shared_memory_region", "classification", "sequence_id", "binary_data", "timeout"],
        "datatype": ["UINT8", "FP32", "BYTES", "INT64"],
        **dict.fromkeys(("pool_sha256", "model_sha256", "features_sha256", "graph_sha256"), digests),
    }
