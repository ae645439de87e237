"""The client library drives whole runs: of datasets with labels, of people, of arrays and data frames."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas
import pytest
from labelloop import AsyncClient, Client
from labelloop.errors import InvalidInput, NotFound, WrongState
from labelloop_cli.library import Request, Run
from labelloop_cli.local.stack import Stack
from numpy.typing import NDArray
from PIL import Image

from tests.blobs import CLASSES, POOL_SIZE, Blobs
from tests.e2e.driving import point_at
from tests.patience import PATIENCE_S

NAMES = ["a", "b", "c"]
EXAMPLE = Path(__file__).parents[2] / "deploy/examples/label_from_python.py"


@pytest.fixture
def client(shared_stack: Stack) -> Iterator[Client]:
    ends = shared_stack.endpoints
    with Client(trainer=ends.trainer, scorer=ends.scorer, oracle=ends.oracle) as client:
        yield client


def short_run(client: Client, blobs: Blobs, run_id: str = "") -> Run:
    run = client.start(
        blobs.samples,
        run_id=run_id,
        labels=blobs.labels,
        evaluation=blobs.evaluation,
        evaluation_labels=blobs.evaluation_labels,
        budget=30,
        first_batch=10,
        batch_size=10,
        features="pixels",
    )
    run.wait(PATIENCE_S)
    return run


def test_a_run_in_ten_lines(client: Client, blobs: Blobs, run_id: str) -> None:
    run = short_run(client, blobs, run_id)
    states = [*run.watch()]
    truth = np.load(blobs.labels)
    frame = run.labels().to_pandas()
    assert (run.id, states[-1].phase, states[-1].labels_paid) == (run_id, "finished", 30)
    assert states[-1].accuracy is not None
    assert "accuracy (evaluation set, n = 200)" in states[-1].accuracy.text
    assert len(frame) == 30
    assert frame["class"].tolist() == truth[frame["id"].to_numpy()].tolist()
    assert str(frame["time"].dtype).endswith("UTC]")
    assert run.labels().to_arrow().num_rows == 30
    assert len(run.unlabelled()) == POOL_SIZE - 30
    assert "<html" in run.report()
    assert run_id in [state.run_id for state in client.runs()]


def test_scores_are_those_of_the_exported_model(client: Client, blobs: Blobs) -> None:
    run = short_run(client, blobs)
    samples = np.load(blobs.samples)
    scores = run.score(samples, probabilities=True)
    session = run.inference_session()
    [expected] = session.run(None, {session.get_inputs()[0].name: samples})
    assert scores.probabilities is not None
    assert np.array_equal(scores.predicted, expected.argmax(axis=1))
    assert np.allclose(scores.probabilities, expected, atol=1e-6)
    assert np.array_equal(scores.confidence, scores.probabilities.max(axis=1))
    assert scores.class_names == [scores.classes[each] for each in scores.predicted]
    many = run.score(np.concatenate([samples] * 5))
    assert np.array_equal(many.predicted, np.tile(scores.predicted, 5))


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros((6, 6), np.uint8), "WRONG_SHAPE"),
        (np.zeros((2, 5, 6), np.uint8), "WRONG_SHAPE"),
        (np.zeros((0, 6, 6), np.uint8), "NO_SAMPLES"),
        (np.zeros((2, 6, 6), np.int64), "WRONG_DTYPE"),
    ],
)
def test_samples_of_another_form_are_refused_before_they_are_sent(
    client: Client, blobs: Blobs, samples: NDArray[Any], reason: str
) -> None:
    run = short_run(client, blobs)
    with pytest.raises(InvalidInput) as refused:
        run.score(samples)
    assert refused.value.reason == reason


def test_people_label_an_array_from_a_notebook(client: Client, blobs: Blobs) -> None:
    pool, truth = np.load(blobs.samples), np.load(blobs.labels)
    run = client.start(pool, classes=NAMES, labels_from="queue", budget=20, first_batch=10, batch_size=10, control=0)
    while not run.state().ended:
        held = run.lease("kim", 5)
        assert run.submit("kim", {each: NAMES[truth[each.sample_id]] for each in held}) == len(held)
    rows = run.labels()
    assert len(rows) == 20
    assert {row["annotator"] for row in rows} == {"kim"}
    assert [row["class"] for row in rows] == [truth[row["id"]] for row in rows]


def test_leases_are_given_back_and_wrong_classes_refused(client: Client, blobs: Blobs) -> None:
    run = client.start(blobs.samples, classes=NAMES, labels_from="queue", budget=10, first_batch=10)
    held = until_leased(run, "kim")
    with pytest.raises(InvalidInput, match="'d' is no class; the classes are a, b, c"):
        run.submit("kim", {held[0]: "d"})
    assert run.release("kim", held) == len(held)
    assert run.release("kim", held) == 0
    assert run.submit("lee", {until_leased(run, "lee")[0]: "skip"}) == 1
    assert run.cancel().phase == "cancelled"


def until_leased(run: Run, annotator: str) -> list[Request]:
    for state in run.watch():
        if state.labels_open and (held := run.lease(annotator, 3)):
            return held
    raise AssertionError("the run ended before it asked for a label")


def test_a_data_frame_is_a_table(client: Client) -> None:
    rng = np.random.default_rng(3)
    kinds = rng.integers(0, CLASSES, 120)
    frame = pandas.DataFrame({"width": kinds + rng.normal(0, 0.1, 120), "kind": [NAMES[each] for each in kinds]})
    run = client.start(frame, label_column="kind", budget=20, first_batch=10, batch_size=10)
    run.wait(PATIENCE_S)
    assert {row["class_name"] for row in run.labels()} <= set(NAMES)
    again = client.start(spec=run.spec(), budget=10)
    assert again.spec()["dataset"] == run.spec()["dataset"]
    assert again.wait(PATIENCE_S).labels_paid == 10


def test_a_pool_is_pushed_listed_and_removed(client: Client, blobs: Blobs) -> None:
    np.save(blobs.samples, np.load(blobs.samples)[:-1])  # what was uploaded before keeps its name
    name = client.pools.push(blobs.samples, "blobs")
    assert "blobs" in client.pools.list().values()
    run = client.start(name, classes=NAMES, labels_from="queue", budget=10)
    assert run.spec()["dataset"]["name"] == name
    run.cancel()
    client.pools.remove("blobs")
    assert "blobs" not in client.pools.list().values()


def test_all_wrong_options_are_named_at_once(client: Client) -> None:
    with pytest.raises(InvalidInput) as refused:
        client.start("pool.npy", budgets=3, classes="ab", budget="many", guarantee=1)  # type: ignore[call-arg, arg-type]
    said = refused.value.message
    assert "budgets: there is no such option" in said
    assert "classes: must be a sequence of names, not 'ab'" in said
    assert "budget: must be a whole number, not 'many'" in said
    assert "guarantee: must be True or False, not 1" in said


def test_a_file_or_run_that_is_not_there_is_named(client: Client, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="missing' is not a dataset"):
        client.start(tmp_path / "missing", classes=NAMES)
    with pytest.raises(NotFound, match="no run 'nobody'"):
        client.run("nobody")


def test_a_closed_client_says_so(client: Client, blobs: Blobs, run_id: str) -> None:
    run = short_run(client, blobs, run_id)
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        run.state()


async def test_the_same_in_asynchronous_code(stack: Stack, blobs: Blobs) -> None:
    ends = stack.endpoints
    async with AsyncClient(trainer=ends.trainer, scorer=ends.scorer, oracle=ends.oracle) as client:
        starts = (
            client.start(blobs.samples, seed=seed, labels=blobs.labels, budget=20, first_batch=10, batch_size=10)
            for seed in (1, 2)
        )
        runs = await asyncio.gather(*starts)
        ended = await asyncio.gather(*(run.wait(PATIENCE_S) for run in runs))
        assert [state.labels_paid for state in ended] == [20, 20]
        assert runs[0].id != runs[1].id
    with pytest.raises(WrongState, match="closed"):
        await client.runs()


def test_the_program_of_the_front_page_labels_a_folder_of_pictures(
    shared_stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rng = np.random.default_rng(5)
    (tmp_path / "photos").mkdir()
    for place in range(60):
        kind = "dog" if place % 2 else "cat"
        stripes = np.where(np.arange(24) % 4 < 2, 190, 0) + rng.integers(0, 60, (24, 24))
        pixels = stripes if kind == "cat" else stripes.T  # upright, or lying
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"photos/{kind}-{place}.png")
    monkeypatch.chdir(tmp_path)
    point_at(shared_stack.endpoints, monkeypatch)
    program = tmp_path / "program.py"
    program.write_text(f"input = lambda asked: asked.partition('-')[0]\n{EXAMPLE.read_text()}")
    ran = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "[30 rows" in ran.stdout
    assert "control sample" in ran.stdout
    session = onnxruntime.InferenceSession((tmp_path / "model.onnx").read_bytes())
    assert session.get_modelmeta().custom_metadata_map["classes"] == '["cat", "dog"]'
