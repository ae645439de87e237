"""Texts and pictures with vectors beside them through all services: models see the vectors, people see the rest."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from labelloop.events.v1.events_pb2 import DatasetSource, FeatureKind, LabelSource, Protocol, RunSpec
from labelloop.oracle.v1.oracle_pb2 import LabelResult, LeaseNextRequest, SubmitResultsRequest
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.trainer.v1.trainer_pb2 import GetModelRequest, Phase, StartRunRequest
from labelloop_cli.clients import Clients
from labelloop_cli.local.stack import Stack
from labelloop_cli.reporting.run_report import report_on
from PIL import Image

from tests.e2e.driving import finish, start
from tests.e2e.test_cli import labelloop
from tests.patience import PATIENCE_S
from tests.topics import TOPICS, texts_about

pytestmark = pytest.mark.asyncio(loop_scope="module")
POOL_SIZE, EVALUATION_SIZE, BUDGET, WIDTH = 300, 100, 20, 8


@pytest.fixture
def clients(shared_clients: Clients) -> Clients:
    return shared_clients


def written(folder: Path, name: str, count: int, seed: int) -> tuple[Path, Path]:
    """Write texts to a table, and to an array vectors that tell their topics."""
    table, array = folder / f"{name}.csv", folder / f"{name}.npy"
    known = texts_about(count, seed)
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "text", "topic"])
        writer.writerows((f"{seed}-{i}", text, topic) for i, (text, topic) in enumerate(known))
    vectors = np.random.default_rng(seed).normal(0, 0.1, (count, WIDTH))
    vectors[np.arange(count), [[*TOPICS].index(topic) for _, topic in known]] += 1
    np.save(array, vectors.astype(np.float32))
    return table, array


def spec_of(folder: Path) -> RunSpec:
    (table, vectors), (evaluation, of_evaluation) = (
        written(folder, "pool", POOL_SIZE, 0),
        written(folder, "evaluation", EVALUATION_SIZE, 1),
    )
    return RunSpec(
        dataset=DatasetSource(
            name=str(table),
            embeddings=str(vectors),
            evaluation=str(evaluation),
            evaluation_embeddings=str(of_evaluation),
            text_column="text",
            id_column="key",
            label_column="topic",
        ),
        strategy=Strategy.STRATEGY_MARGIN,
        first_strategy=Strategy.STRATEGY_TYPICLUST,
        batch_size=10,
        label_budget=BUDGET,
        seed=1,
        protocol=Protocol.PROTOCOL_HONEST,
        label_source=LabelSource.LABEL_SOURCE_QUEUE,
        report_every=1,
        features=FeatureKind.FEATURE_KIND_PIXELS,
    )


async def test_people_see_texts_and_models_see_vectors(clients: Clients, run_id: str, tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    await start(clients, run_id, spec)
    known, labelled = texts_about(POOL_SIZE, 0), 0
    async with asyncio.timeout(PATIENCE_S):
        while labelled < BUDGET:
            results = []
            request = LeaseNextRequest(run_id=run_id, annotator="ada", count=BUDGET)
            for asked in (await clients.oracle.LeaseNext(request)).requests:
                text, topic = known[asked.sample_id]
                assert (asked.media_type, asked.content.decode()) == ("text/plain; charset=utf-8", text)
                assert asked.sample_name == f"0-{asked.sample_id}"
                label = list(asked.classes).index(topic)
                results.append(LabelResult(request_id=asked.request_id, label=label, annotator="ada"))
            if results:
                labelled += (await clients.oracle.SubmitResults(SubmitResultsRequest(results=results))).recorded
            else:
                await asyncio.sleep(0.1)  # the next round is being chosen
    run = (await finish(clients, run_id)).run
    assert (run.pool.dtype, run.pool.shown.dtype) == ("float32", "utf8")
    assert run.latest.evaluation.value > 0.9
    model = await clients.trainer.GetModel(GetModelRequest(run_id=run_id))
    session = onnxruntime.InferenceSession(model.model, providers=["CPUExecutionProvider"])
    vectors = np.load(tmp_path / "pool.npy")
    probabilities = session.run(None, {session.get_inputs()[0].name: vectors})[0]
    right = [run.pool.classes[each] == topic for each, (_, topic) in zip(probabilities.argmax(1), known, strict=True)]
    assert np.mean(right) > 0.9

    page = tmp_path / "report.html"
    await report_on(clients, run_id, page)
    assert page.read_text().count('<p class="text" dir="auto">') == BUDGET

    spec.label_source, spec.label_budget = LabelSource.LABEL_SOURCE_DATASET, 10
    later = f"{run_id}-later"
    await clients.trainer.StartRun(StartRunRequest(run_id=later, spec=spec, continues=run_id))
    assert (await finish(clients, later)).run.labels_paid == 10


async def test_the_command_takes_vectors_beside_pictures(
    clients: Clients, shared_stack: Stack, run_id: str, tmp_path: Path
) -> None:
    folder, images = tmp_path / "pictures", tmp_path / "images"
    folder.mkdir()
    for place in range(40):
        Image.new("RGB", (12, 10), (place, 0, 0)).save(folder / f"{place:02}.png")
    np.save(tmp_path / "e.npy", np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32))
    data = (folder, "--embeddings", tmp_path / "e.npy", "--classes", "a,b", "--labels-from", "queue")
    run = ("--budget", "5", "--batch-size", "5", "--no-watch", "--run-id", run_id)
    code, said = await labelloop("run", "start", *data, *run, stack=shared_stack)
    assert code == 0, said
    assert "vectors of 4 values, float32 of pictures, which people see" in " ".join(said.split())
    async with asyncio.timeout(PATIENCE_S):
        async for status in clients.watch(run_id):
            if status.phase == Phase.PHASE_LABELLING:
                break
    opened = tmp_path / "open.csv"
    code, said = await labelloop("label", "open", run_id, "-o", opened, "--images", images, stack=shared_stack)
    assert code == 0, said
    with opened.open(newline="") as file:
        for row in csv.DictReader(file):
            assert Image.open(images / row["file"]).getpixel((0, 0)) == (int(row["name"].removesuffix(".png")), 0, 0)
