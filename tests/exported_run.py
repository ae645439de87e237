"""A small run as `ExportRun` sends it: its events and its artifacts, without services that make them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from labelloop.artifacts.formats import PoolManifest, SampleIndex, Shard
from labelloop.artifacts.store import digest_of
from labelloop.events.v1 import events_pb2 as pb
from labelloop.trainer.v1.trainer_pb2 import ArtifactPiece, ImportRunRequest

ORIGINALS = [b"original %d" % number for number in range(3)]
SHARD, MODEL = b"shard", b"model"
INDEX = SampleIndex(originals=tuple(map(digest_of, ORIGINALS)))
MANIFEST = PoolManifest(
    dtype="uint8",
    shape=(1,),
    shards=(Shard(sha256=digest_of(SHARD), sample_count=3, index=digest_of(INDEX.to_bytes())),),
)
ARTIFACTS = (MANIFEST.to_bytes(), INDEX.to_bytes(), SHARD, *ORIGINALS, MODEL)


def exported_events(run_id: str = "r", *, seed: int = 0) -> list[pb.Event]:
    """Return the events of a run of three samples up to its first model; ``seed`` makes labels differ."""
    spec = pb.RunSpec(batch_size=3, label_budget=3, report_every=1, seed=seed)
    spec.protocol, spec.label_source = pb.PROTOCOL_HONEST, pb.LABEL_SOURCE_QUEUE
    pool = pb.PoolPublished(pool_sha256=digest_of(MANIFEST.to_bytes()), sample_count=3, shape=[1], dtype="uint8")
    pool.classes.extend("ab")
    labels = [pb.LabelProvided(sample_id=id_, label=(id_ + seed) % 2, source="queue") for id_ in (2, 0, 1)]
    events = [
        pb.Event(run_started=pb.RunStarted(spec=spec)),
        pb.Event(pool_published=pool),
        pb.Event(labels_requested=pb.LabelsRequested(sample_ids=[2, 0, 1], score=[0, 0, 0])),
        *(pb.Event(label_provided=label) for label in labels),
        pb.Event(round=1, model_trained=pb.ModelTrained(model_sha256=digest_of(MODEL), labels=3)),
    ]
    for number, event in enumerate(events):
        event.run_id = run_id
        event.recorded_at.seconds = 1_000 + number
    return events


def pieces(artifacts: Iterable[bytes]) -> Iterator[ImportRunRequest]:
    """Yield each artifact in two pieces."""
    for data in artifacts:
        for part, last in ((data[:3], False), (data[3:], True)):
            yield ImportRunRequest(artifact=ArtifactPiece(sha256=digest_of(data), data=part, last=last))


def import_parts(events: Sequence[pb.Event], artifacts: Iterable[bytes] = ARTIFACTS) -> list[ImportRunRequest]:
    return [*(ImportRunRequest(event=event) for event in events), *pieces(artifacts)]
