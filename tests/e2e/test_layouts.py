"""Runs through all services on tables, and on pictures that are neither bytes nor channels last."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from labelloop.events.v1.events_pb2 import DatasetSource, FeatureKind, LabelSource, QueueSpec, RunSpec, SampleKind
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetRequest, LeaseNextRequest
from labelloop.scorer.v1.scorer_pb2 import ScoreRequest
from labelloop.trainer.v1.trainer_pb2 import GetModelRequest
from labelloop_cli.clients import Clients
from labelloop_cli.run_options import auto_features
from numpy.typing import NDArray
from sklearn.datasets import load_digits, load_wine

from tests.blobs import Blobs, certified_spec
from tests.e2e.driving import finish, start
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def clients(shared_clients: Clients) -> Clients:
    return shared_clients


def write_table(path: Path) -> None:
    """Write wines with a column of time stamps, a column of categories, and some values missing."""
    wine, rng = load_wine(), np.random.default_rng(0)
    cells = np.where(rng.random(wine.data.shape) < 0.02, "", wine.data.astype(str))
    stamps = 1_700_000_000 + rng.integers(0, 10**7, len(cells))
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter=";")
        table.writerow(["bottle", "at", "colour", *wine.feature_names, "grower"])
        for row, (values, stamp, kind) in enumerate(zip(cells, stamps, wine.target, strict=True)):
            colour = ["red", "rosé"][int(rng.random() < (0.2, 0.5, 0.8)[kind])]
            table.writerow([f"b{row}", stamp, colour, *values, wine.target_names[kind]])


async def described_spec(clients: Clients, blobs: Blobs, source: DatasetSource, **changes: Any) -> RunSpec:
    """Return a spec of a run on ``source`` with the features that suit it."""
    described = await clients.oracle.DescribeDataset(DescribeDatasetRequest(dataset=source), wait_for_ready=True)
    spec = certified_spec(blobs, features=auto_features(described), **changes)
    spec.ClearField("guarantee")
    spec.dataset.CopyFrom(source)
    return spec


async def probabilities(clients: Clients, run_id: str, samples: NDArray[Any]) -> NDArray[np.float32]:
    """Return what the exported model says of samples, in ONNX Runtime alone."""
    model = (await clients.trainer.GetModel(GetModelRequest(run_id=run_id))).model
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    answer: NDArray[np.float32] = session.run(None, {given.name: samples.reshape(len(samples), -1)})[0]
    return answer


async def test_a_table_is_learned_exported_and_scored(
    clients: Clients, run_id: str, blobs: Blobs, tmp_path: Path
) -> None:
    write_table(tmp_path / "wines.csv")
    source = DatasetSource(name=str(tmp_path / "wines.csv"), id_column="bottle", label_column="grower")
    spec = await described_spec(clients, blobs, source, label_budget=80)
    assert spec.features == FeatureKind.FEATURE_KIND_STANDARDIZED
    await start(clients, run_id, spec)
    run = (await finish(clients, run_id)).run
    layout = run.pool.layout
    assert layout.kind == SampleKind.SAMPLE_KIND_ROW
    assert list(layout.columns[1].categories) == ["red", "rosé"]
    wine, count = load_wine(), 178
    rows = np.full((count, 15), np.nan, np.float32)
    rows[:, 0], rows[:, 2:] = 1_700_000_000, wine.data
    answers = await probabilities(clients, run_id, rows)
    assert (answers.argmax(axis=1) == wine.target).mean() > 0.93
    request = ScoreRequest(run_id=run_id, dtype="float32", images=rows.tobytes(), with_probabilities=True)
    scored = await clients.scorer.Score(request)
    np.testing.assert_allclose(np.reshape(scored.probabilities, (count, 3)), answers, atol=1e-5)


async def test_people_see_the_row_of_a_table_by_column(
    clients: Clients, run_id: str, blobs: Blobs, tmp_path: Path
) -> None:
    write_table(tmp_path / "wines.csv")
    source = DatasetSource(name=str(tmp_path / "wines.csv"), id_column="bottle", label_column="grower")
    asked = {"label_source": LabelSource.LABEL_SOURCE_QUEUE, "queue": QueueSpec(), "label_budget": 20}
    await start(clients, run_id, await described_spec(clients, blobs, source, **asked))
    asks = LeaseNextRequest(run_id=run_id, annotator="kim")
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if leased := (await clients.oracle.LeaseNext(asks)).requests:
                break
            await asyncio.sleep(0.01)
    [request] = leased
    assert (request.media_type, request.sample_name) == ("application/json", f"b{request.sample_id}")
    shown = json.loads(request.content)
    assert list(shown)[:3] == ["at", "colour", "alcohol"]
    assert shown["colour"] in ("red", "rosé")


@pytest.mark.parametrize("given", ["flat", "channels first"])
async def test_pictures_of_any_layout_are_learned_by_patches(
    clients: Clients, run_id: str, blobs: Blobs, tmp_path: Path, given: str
) -> None:
    digits = load_digits()
    samples = digits.data if given == "flat" else digits.images[:, None] / 16
    samples, labels = samples[:600].astype(np.float32), digits.target[:600].astype(np.int32)
    np.save(tmp_path / "digits.npy", samples)
    np.save(tmp_path / "labels.npy", labels)
    source = DatasetSource(name=str(tmp_path / "digits.npy"), labels=str(tmp_path / "labels.npy"))
    spec = await described_spec(clients, blobs, source, label_budget=100)
    assert spec.features == FeatureKind.FEATURE_KIND_SCATTERING
    await start(clients, run_id, spec)
    await finish(clients, run_id)
    answers = await probabilities(clients, run_id, samples)
    assert (answers.argmax(axis=1) == labels).mean() > 0.93
