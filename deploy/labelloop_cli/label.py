"""``labelloop label``: what waits for people, and their answers."""

from __future__ import annotations

import asyncio
import csv
import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
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
from labelloop.scorer.v1.scorer_pb2 import GetSamplesRequest
from labelloop.wire.errors import InvalidInput
from PIL import Image

from labelloop_cli.class_files import read_classes
from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.console import console
from labelloop_cli.runs import RunId

app = typer.Typer(help="Label by hand: see what is asked for, send answers.", no_args_is_help=True)
_PART = 1_000


@app.command("open")
def open_(
    run_id: RunId,
    output: Annotated[Path, typer.Option("--output", "-o", help="A CSV to fill in.")] = Path("to_label.csv"),
    images: Annotated[Path | None, typer.Option(help="Also write each sample as a PNG into this folder.")] = None,
) -> None:
    """Write what waits for a label: a CSV with the columns id and class, the class empty."""
    count = asyncio.run(_open(run_id, output, images))
    console.print(
        f"{count} samples wait for a label; fill in {output}, then `labelloop label submit {run_id} {output}`"
    )


async def _open(run_id: str, output: Path, images: Path | None) -> int:
    async with connect(Endpoints()) as clients:
        waiting = list((await clients.oracle.ListOpenSamples(ListOpenSamplesRequest(run_id=run_id))).samples)
        with output.open("w", newline="") as file:
            csv.writer(file).writerows([("id", "class"), *((sample.sample_id, "") for sample in waiting)])
        if images:
            await _write_images(clients, waiting, images)
    return len(waiting)


async def _write_images(clients: Clients, waiting: list[OpenSample], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(waiting), _PART):
        part = waiting[start : start + _PART]
        ids = [sample.sample_id for sample in part]
        answer = await clients.scorer.GetSamples(GetSamplesRequest(pool_sha256=part[0].pool_sha256, sample_ids=ids))
        if answer.dtype != "uint8" or len(answer.shape) not in (2, 3):
            shape = tuple(answer.shape)
            message = f"samples of type {answer.dtype} and shape {shape} are no images: leave --images out"
            raise InvalidInput("NO_IMAGES", message, field="images")
        for sample_id, pixels in zip(
            ids, np.frombuffer(answer.samples, np.uint8).reshape(-1, *answer.shape), strict=True
        ):
            Image.fromarray(pixels).save(folder / f"{sample_id}.png")


@app.command()
def submit(
    run_id: RunId,
    answers: Annotated[
        Path, typer.Argument(help="A CSV with the columns id and class; rows without a class are left.")
    ],
    annotator: Annotated[str, typer.Option(help="Who labelled.")] = "",
) -> None:
    """Send answers. All or none: one bad row, and nothing is recorded."""
    labels = [SubmittedLabel(sample_id=id_, label=label) for id_, label in read_classes(answers)]
    request = SubmitLabelsRequest(run_id=run_id, annotator=annotator or getpass.getuser(), labels=labels)
    asyncio.run(_submit(request))


@app.command()
def skip(
    run_id: RunId,
    sample_ids: Annotated[list[int], typer.Argument(min=0, help="The samples, by id.", show_default=False)],
    rejected: Annotated[
        bool, typer.Option("--rejected", help="They are no samples: broken, empty, of another kind.")
    ] = False,
    comment: Annotated[str, typer.Option(help="Why.")] = "",
    annotator: Annotated[str, typer.Option(help="Who says so.")] = "",
) -> None:
    """Give samples no label: others are asked for in their place."""
    kind = SkipKind.SKIP_KIND_REJECTED if rejected else SkipKind.SKIP_KIND_SKIPPED
    samples = [SkippedSample(sample_id=sample_id, kind=kind, comment=comment) for sample_id in sample_ids]
    asyncio.run(_skip(SkipSamplesRequest(run_id=run_id, annotator=annotator or getpass.getuser(), samples=samples)))


async def _skip(request: SkipSamplesRequest) -> None:
    async with connect(Endpoints()) as clients:
        response = await clients.oracle.SkipSamples(request)
    console.print(f"{response.recorded} samples skipped, {response.repeated_count} answered already")


async def _submit(request: SubmitLabelsRequest) -> None:
    async with connect(Endpoints()) as clients:
        response = await clients.oracle.SubmitLabels(request)
    console.print(f"{response.recorded} labels recorded, {response.repeated_count} stood already")


@app.command()
def revise(
    run_id: RunId,
    sample_id: Annotated[int, typer.Argument(min=0, help="The sample, by id.", show_default=False)],
    label: Annotated[int, typer.Argument(min=0, help="Its class.", show_default=False)],
    annotator: Annotated[str, typer.Option(help="Who says so.")] = "",
) -> None:
    """Say another class of a sample than before. The next model is trained with it."""
    said = {sample_id: {"label": label}}
    console.print(f"{asyncio.run(_say_anew(run_id, annotator or getpass.getuser(), said))} labels revised")


@app.command()
def withdraw(
    run_id: RunId,
    sample_ids: Annotated[list[int], typer.Argument(min=0, help="The samples, by id.", show_default=False)],
    annotator: Annotated[str, typer.Option(help="Who says so.")] = "",
) -> None:
    """Take labels back. A sample of the batch that is open is asked for again; others leave the training set."""
    said = {sample_id: {"withdrawn": True, "overrules": True} for sample_id in sample_ids}
    console.print(f"{asyncio.run(_say_anew(run_id, annotator or getpass.getuser(), said))} labels withdrawn")


async def _say_anew(run_id: str, annotator: str, said: Mapping[int, Mapping[str, Any]]) -> int:
    async with connect(Endpoints()) as clients:
        standing = await _standing(clients, run_id)
        if unknown := said.keys() - standing.keys():
            message = f"nobody has said anything of sample {min(unknown)} yet: `labelloop label submit` takes labels"
            raise InvalidInput("NOTHING_SAID", message, sample_id=min(unknown))
        results = [
            LabelResult(
                request_id=f"{run_id}/{standing[sample_id][0]}/{sample_id}",
                annotator=annotator,
                revision=standing[sample_id][1] + 1,
                **answer,
            )
            for sample_id, answer in said.items()
        ]
        response = await clients.oracle.SubmitResults(SubmitResultsRequest(results=results))
    return int(response.recorded)


async def _standing(clients: Clients, run_id: str) -> dict[int, tuple[int, int]]:
    """The round of each sample that was answered, and the largest number of an answer for it."""
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


@app.command()
def cancel(
    run_id: RunId,
    sample_ids: Annotated[list[int], typer.Argument(min=0, help="The samples, by id.", show_default=False)],
    comment: Annotated[str, typer.Option(help="Why.")] = "",
    annotator: Annotated[str, typer.Option(help="Who says so.")] = "",
) -> None:
    """Take requests back: others are asked for in their place."""
    request = CancelRequestsRequest(
        run_id=run_id, sample_ids=sample_ids, comment=comment, annotator=annotator or getpass.getuser()
    )
    asyncio.run(_cancel(request))


async def _cancel(request: CancelRequestsRequest) -> None:
    async with connect(Endpoints()) as clients:
        response = await clients.oracle.CancelRequests(request)
    console.print(f"{response.cancelled} requests cancelled, {response.repeated_count} answered already")
