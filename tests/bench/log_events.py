"""Events of many runs, and their quick way into a broker."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

from labelloop.eventlog.connection import jetstream
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.subjects import STREAM, subject_of
from labelloop.events.v1 import events_pb2 as pb
from nats.aio.client import Client

_CLASSES = [str(each) for each in range(10)]
_FLUSH_EVERY = 500


def run_events(run_id: str, labels: int, batch: int, *, ended: bool) -> Iterator[pb.Event]:
    """Yield the events of a run with ``labels`` labels from people, requested ``batch`` at a time."""
    spec = pb.RunSpec(
        dataset=pb.DatasetSource(name="mnist"),
        batch_size=batch,
        label_budget=labels,
        report_every=1,
        protocol=pb.Protocol.PROTOCOL_HONEST,
        label_source=pb.LabelSource.LABEL_SOURCE_QUEUE,
    )
    yield _stamped(pb.Event(run_id=run_id, run_started=pb.RunStarted(spec=spec)))
    pool = pb.PoolPublished(
        pool_sha256=_digest("pool"), sample_count=max(60_000, labels), shape=[784], dtype="uint8", classes=_CLASSES
    )
    yield _stamped(pb.Event(run_id=run_id, pool_published=pool))
    for round_, start in enumerate(range(0, labels, batch)):
        yield from _round(run_id, round_, range(start, min(start + batch, labels)))
    if ended:
        yield _stamped(pb.Event(run_id=run_id, round=-(-labels // batch), run_finished=pb.RunFinished(reason="done")))


def _round(run_id: str, round_: int, samples: range) -> Iterator[pb.Event]:
    count = len(samples)
    request = pb.LabelsRequested(sample_ids=samples, score=[0.5] * count)
    if round_:
        request.predicted.extend(sample % 10 for sample in samples)
        request.confidence.extend([0.5] * count)
    yield _stamped(pb.Event(run_id=run_id, round=round_, labels_requested=request))
    for sample in samples:
        label = pb.LabelProvided(
            sample_id=sample, label=sample % 10, source="queue", annotator=f"annotator-{sample % 7}", time_spent_s=2.5
        )
        yield _stamped(pb.Event(run_id=run_id, round=round_, label_provided=label))
    trained = pb.ModelTrained(
        model_sha256=_digest(f"{run_id} {round_}"),
        labels=samples.stop,
        steps=30,
        evaluation=pb.Accuracy(correct=9_000, total=10_000, most_frequent=1_000, balanced=0.9),
    )
    yield _stamped(pb.Event(run_id=run_id, round=round_ + 1, model_trained=trained))


def _stamped(event: pb.Event) -> pb.Event:
    event.recorded_at.GetCurrentTime()
    return event


def _digest(of: str) -> str:
    return sha256(of.encode()).hexdigest()


async def fill(client: Client, events: Iterator[pb.Event]) -> int:
    """Write ``events`` without waiting for each, and return how many the stream then holds.

    Raises:
        RuntimeError: If the broker dropped some.
    """
    log = EventLog(client)
    await log.ensure_stream()
    before, sent = await log.last_sequence(), 0
    for event in events:
        await client.publish(subject_of(event), event.SerializeToString(deterministic=True))
        sent += 1
        if sent % _FLUSH_EVERY == 0:
            await jetstream(client).stream_info(STREAM)  # answered only after what was sent before
    await client.flush()
    held = await log.last_sequence()  # answered only after what was sent before, too
    if held != before + sent:
        raise RuntimeError(f"the broker kept {held - before} of {sent} events")
    return held
