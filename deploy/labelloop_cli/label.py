"""``labelloop label``: what waits for people, and their answers."""

from __future__ import annotations

import asyncio
import csv
import getpass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from labelloop.events.v1.events_pb2 import SkipKind
from labelloop.oracle.v1.oracle_pb2 import (
    ListOpenSamplesRequest,
    OpenSample,
    SkippedSample,
    SkipSamplesRequest,
    SubmitLabelsRequest,
    SubmittedLabel,
)
from labelloop.scorer.v1.scorer_pb2 import GetSamplesRequest
from labelloop.wire.errors import InvalidInput, NotFound
from PIL import Image
from rich.console import Console

from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.runs import RunId

app = typer.Typer(help="Label by hand: see what is asked for, send answers.", no_args_is_help=True)
console = Console()
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
    labels = _read(answers)
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


def _read(path: Path) -> list[SubmittedLabel]:
    if not path.exists():
        raise NotFound("NO_FILE", f"there is no file {path}", path=path)
    labels = []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if not {"id", "class"} <= set(reader.fieldnames or []):
            raise InvalidInput("BAD_CSV", f"{path} lacks the columns id and class", path=path)
        for row in reader:
            if not row["class"]:
                continue
            if not (row["id"].isdecimal() and row["class"].isdecimal()):
                message = f"{path}, line {reader.line_num}: id and class must be whole numbers, not {row}"
                raise InvalidInput("BAD_CSV", message, path=path, line=reader.line_num)
            labels.append(SubmittedLabel(sample_id=int(row["id"]), label=int(row["class"])))
    return labels


async def _submit(request: SubmitLabelsRequest) -> None:
    async with connect(Endpoints()) as clients:
        response = await clients.oracle.SubmitLabels(request)
    console.print(f"{response.recorded} labels recorded, {response.repeated_count} stood already")
