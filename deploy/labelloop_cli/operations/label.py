"""List the samples that wait for a label, and submit or change annotation results, for ``labelloop label``."""

from __future__ import annotations

import csv
import getpass
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from labelloop.domain.ids import RequestId
from labelloop.errors import InvalidInput
from labelloop.events.v1.events_pb2 import SkipKind
from labelloop.oracle.v1.oracle_pb2 import (
    CancelRequestsRequest,
    LabelResult,
    ListAnswersRequest,
    ListOpenSamplesRequest,
    OpenSample,
    SkippedSample,
    SkipSamplesRequest,
    SubmitLabelsRequest,
    SubmitResultsRequest,
    SubmittedLabel,
)
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest
from PIL import Image

from labelloop_cli.class_csv import read_classes
from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.operations.pictures import pictures
from labelloop_cli.output.console import console


async def open_(run_id: str, output: Path, images: Path | None) -> None:
    """Write the samples that wait for a label to a CSV to fill in, and as PNGs into the folder ``images`` if given."""
    async with connect(Endpoints()) as clients:
        waiting = list((await clients.oracle.ListOpenSamples(ListOpenSamplesRequest(run_id=run_id))).samples)
        with output.open("w", newline="") as file:
            csv.writer(file).writerows([("id", "class"), *((sample.sample_id, "") for sample in waiting)])
        if images:
            await _write_images(clients, waiting, images)
    console.print(
        f"{len(waiting)} samples wait for a label; fill in {output}, then `labelloop label submit {run_id} {output}`"
    )


async def _write_images(clients: Clients, waiting: list[OpenSample], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for run_id, samples in groupby(waiting, key=lambda sample: sample.run_id):
        pool = (await clients.trainer.GetRun(GetRunRequest(run_id=run_id))).run.pool
        ids = [sample.sample_id for sample in samples]
        for sample_id, pixels in zip(ids, await pictures(clients, pool, ids), strict=True):
            Image.fromarray(pixels).save(folder / f"{sample_id}.png")


async def submit(run_id: str, answers: Path, annotator: str) -> None:
    """Submit the labels in a CSV, all or none."""
    labels = [SubmittedLabel(sample_id=id_, label=label) for id_, label in read_classes(answers)]
    request = SubmitLabelsRequest(run_id=run_id, annotator=_named(annotator), labels=labels)
    async with connect(Endpoints()) as clients:
        response = await clients.oracle.SubmitLabels(request)
    console.print(f"{response.recorded} labels recorded, {response.repeated_count} stood already")


async def skip(run_id: str, sample_ids: Sequence[int], annotator: str, comment: str, *, rejected: bool) -> None:
    """Skip samples: they get no label."""
    kind = SkipKind.SKIP_KIND_REJECTED if rejected else SkipKind.SKIP_KIND_SKIPPED
    samples = [SkippedSample(sample_id=sample_id, kind=kind, comment=comment) for sample_id in sample_ids]
    request = SkipSamplesRequest(run_id=run_id, annotator=_named(annotator), samples=samples)
    async with connect(Endpoints()) as clients:
        response = await clients.oracle.SkipSamples(request)
    console.print(f"{response.recorded} samples skipped, {response.repeated_count} answered already")


async def revise(run_id: str, sample_id: int, label: int, annotator: str) -> None:
    """Replace the class of a sample. Raises InvalidInput if no result for it was ever recorded."""
    recorded = await _say_anew(run_id, _named(annotator), {sample_id: {"label": label}})
    console.print(f"{recorded} labels revised")


async def withdraw(run_id: str, sample_ids: Sequence[int], annotator: str) -> None:
    """Withdraw labels. Raises InvalidInput for a sample without any recorded result."""
    said = {sample_id: {"withdrawn": True, "overrules": True} for sample_id in sample_ids}
    console.print(f"{await _say_anew(run_id, _named(annotator), said)} labels withdrawn")


async def cancel(run_id: str, sample_ids: Sequence[int], annotator: str, comment: str) -> None:
    """Cancel requests for samples."""
    request = CancelRequestsRequest(run_id=run_id, sample_ids=sample_ids, comment=comment, annotator=_named(annotator))
    async with connect(Endpoints()) as clients:
        response = await clients.oracle.CancelRequests(request)
    console.print(f"{response.cancelled} requests cancelled, {response.repeated_count} answered already")


def _named(annotator: str) -> str:
    """Return ``annotator``, or the name of the user who is logged in if it is empty."""
    return annotator or getpass.getuser()


async def _say_anew(run_id: str, annotator: str, said: Mapping[int, Mapping[str, Any]]) -> int:
    """Submit results that revise earlier ones, by sample, and return how many were recorded."""
    async with connect(Endpoints()) as clients:
        standing = await _standing(clients, run_id)
        if unknown := said.keys() - standing.keys():
            message = f"nobody has said anything of sample {min(unknown)} yet: `labelloop label submit` takes labels"
            raise InvalidInput("NOTHING_SAID", message, sample_id=min(unknown))
        results = [
            LabelResult(
                request_id=str(RequestId(run_id, standing[sample_id][0], sample_id)),
                annotator=annotator,
                revision=standing[sample_id][1] + 1,
                **answer,
            )
            for sample_id, answer in said.items()
        ]
        response = await clients.oracle.SubmitResults(SubmitResultsRequest(results=results))
    return int(response.recorded)


async def _standing(clients: Clients, run_id: str) -> dict[int, tuple[int, int]]:
    """Return the round and the highest revision of the recorded results, by sample."""
    standing: dict[int, tuple[int, int]] = {}
    after = 0
    while True:
        request = ListAnswersRequest(run_id=run_id, after_sequence=after, limit=10_000)
        response = await clients.oracle.ListAnswers(request)
        for event in response.events:
            said = getattr(event, event.WhichOneof("payload") or "")
            number = said.revision if event.HasField("answer_given") else said.answer_revision
            _, before = standing.get(said.sample_id, (0, 0))
            standing[said.sample_id] = (event.round, max(before, number))
        if not response.events:
            return standing
        after = response.last_sequence
