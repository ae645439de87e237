"""``labelloop report``: one run as a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from labelloop.events.v1.events_pb2 import FeatureKind, Protocol, Purpose
from labelloop.scorer.v1.scorer_pb2 import GetSamplesRequest, Strategy
from labelloop.trainer.v1.trainer_pb2 import (
    GetRunRequest,
    GetRunResponse,
    LabelRecord,
    MeasuredAccuracy,
    Phase,
    RoundResult,
)
from labelloop.wire.errors import WrongState

from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.figures import judged
from labelloop_cli.reporting import charts
from labelloop_cli.reporting.evidence import Saved, labels_saved
from labelloop_cli.reporting.page import Tile, picture, render
from labelloop_cli.specs import word

_SHOWN = 40


async def write_report(run_id: str, output: Path, price: float) -> None:
    """``price`` is that of a label, 0 where it is not known. WrongState where the run has no model to report on yet."""
    async with connect(Endpoints()) as clients:
        await report_on(clients, run_id, output, price)


async def report_on(clients: Clients, run_id: str, output: Path, price: float = 0.0) -> None:
    """The same, by these clients."""
    whole = await clients.trainer.GetRun(GetRunRequest(run_id=run_id))
    if not whole.rounds:
        raise WrongState("NO_MODEL_YET", f"run {run_id!r} has no model yet: there is nothing to report", run_id=run_id)
    labels = await clients.labels(run_id)
    tiles = await _tiles(clients, whole, labels)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(_page(whole, labels, tiles, price))


def _page(whole: GetRunResponse, labels: list[LabelRecord], tiles: list[Tile], price: float) -> str:
    run, classes = whole.run, list(whole.run.pool.classes)
    measured = [(result, accuracy) for result in whole.rounds if (accuracy := _accuracy(result))]
    saved = labels_saved(whole.rounds, run.pool.sample_count)
    return render(
        "run.html.j2",
        run=run,
        phase=word(Phase.Name(run.phase)),
        strategy=word(Strategy.Name(run.spec.strategy)),
        protocol=word(Protocol.Name(run.spec.protocol)),
        last=measured[-1] if measured else None,
        learning=charts.interval_curve(
            [result.labels + result.auto_labels for result, _ in measured],
            [accuracy.value for _, accuracy in measured],
            [accuracy.low for _, accuracy in measured],
            [accuracy.high for _, accuracy in measured],
        )
        if measured
        else "",
        balance=charts.class_counts(
            classes,
            _counts(labels, len(classes), auto_labelled=False),
            _counts(labels, len(classes), auto_labelled=True),
        ),
        rounds=whole.rounds,
        asked=tiles,
        features=word(FeatureKind.Name(run.spec.features)) if run.spec.features else "pixels",
        newest=whole.rounds[-1],
        purposes=_purposes(labels),
        saved=saved,
        saved_curve=_saved_curve(whole.rounds, saved) if saved else "",
        price=price,
        left=run.pool.sample_count - len(labels),
    )


def _purposes(labels: list[LabelRecord]) -> dict[str, int]:
    """How many labels were asked for, by why."""
    counts = Counter(word(Purpose.Name(label.purpose)) for label in labels if label.purpose)
    return dict(sorted(counts.items()))


def _saved_curve(rounds: Sequence[RoundResult], saved: Saved) -> str:
    own = [(result.labels, accuracy.value) for result in rounds if (accuracy := judged(result))]
    reach = np.geomspace(saved.points[0][0], max(saved.flat.labels(1 - saved.accuracy), own[-1][0]), 60)
    return charts.saved_curve(own, saved.points, reach, 1 - saved.steep.errors(reach), 1 - saved.flat.errors(reach))


def _accuracy(result: RoundResult) -> MeasuredAccuracy | None:
    """On the evaluation set where there is one, else on control samples, else on what decided when to stop."""
    return judged(result) or (result.stopping if result.HasField("stopping") else None)


def _counts(labels: list[LabelRecord], class_count: int, *, auto_labelled: bool) -> list[int]:
    chosen = [label.label for label in labels if label.auto_labelled == auto_labelled]
    return [int(count) for count in np.bincount(chosen, minlength=class_count)] if chosen else [0] * class_count


async def _tiles(clients: Clients, whole: GetRunResponse, labels: list[LabelRecord]) -> list[Tile]:
    """The first samples asked for, where they are images."""
    pool = whole.run.pool
    shown = [label for label in labels if not label.auto_labelled][:_SHOWN]
    if pool.dtype != "uint8" or len(pool.shape) not in (2, 3) or not shown:
        return []
    request = GetSamplesRequest(pool_sha256=pool.pool_sha256, sample_ids=[label.sample_id for label in shown])
    answer = await clients.scorer.GetSamples(request)
    images = np.frombuffer(answer.samples, np.uint8).reshape(-1, *answer.shape)
    return [
        Tile(picture(image), pool.classes[label.label], _note(label, list(pool.classes)))
        for image, label in zip(images, shown, strict=True)
    ]


def _note(label: LabelRecord, classes: list[str]) -> str:
    if not label.HasField("confidence"):
        return f"round {label.round}, no model yet"
    why = "" if label.purpose == Purpose.PURPOSE_CHOSEN else f", {word(Purpose.Name(label.purpose))}"
    return f"round {label.round}{why}, {classes[label.predicted]}? {label.confidence:.2f}"
