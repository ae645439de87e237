"""A pool of texts through all services: from a CSV file to a model that takes strings."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from labelloop.events.v1.events_pb2 import DatasetSource, FeatureKind, LabelSource, Protocol, RunSpec
from labelloop.oracle.v1.oracle_pb2 import LabelResult, LeaseNextRequest, SubmitResultsRequest
from labelloop.scorer.v1 import scorer_pb2
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.trainer.v1.trainer_pb2 import GetModelRequest, ListLabelsRequest, Phase
from labelloop_cli.clients import Clients
from labelloop_cli.local.stack import Stack
from labelloop_cli.reporting.run_report import report_on

from tests.e2e.driving import finish, start
from tests.e2e.test_cli import labelloop
from tests.patience import PATIENCE_S
from tests.sentence_graph import sentence_graph
from tests.topics import TOPICS, texts_about

pytestmark = pytest.mark.asyncio(loop_scope="module")
POOL_SIZE, EVALUATION_SIZE, BUDGET = 600, 200, 60


@pytest.fixture
def clients(shared_clients: Clients) -> Clients:
    return shared_clients


def written(path: Path, count: int, seed: int) -> Path:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["key", "text", "topic"])
        writer.writerows((f"{seed}-{i}", text, topic) for i, (text, topic) in enumerate(texts_about(count, seed)))
    return path


def spec_of(folder: Path, label_source: LabelSource.ValueType = LabelSource.LABEL_SOURCE_DATASET) -> RunSpec:
    return RunSpec(
        dataset=DatasetSource(
            name=str(written(folder / "pool.csv", POOL_SIZE, 0)),
            evaluation=str(written(folder / "evaluation.csv", EVALUATION_SIZE, 1)),
            text_column="text",
            id_column="key",
            label_column="topic",
        ),
        strategy=Strategy.STRATEGY_MARGIN,
        first_strategy=Strategy.STRATEGY_TYPICLUST,
        batch_size=15,
        label_budget=BUDGET,
        seed=1,
        protocol=Protocol.PROTOCOL_HONEST,
        label_source=label_source,
        report_every=1,
        features=FeatureKind.FEATURE_KIND_TFIDF,
    )


async def test_a_run_on_texts_ends_with_a_model_of_strings(clients: Clients, run_id: str, tmp_path: Path) -> None:
    await start(clients, run_id, spec_of(tmp_path))
    run = (await finish(clients, run_id)).run
    assert (run.pool.dtype, list(run.pool.shape), list(run.pool.classes)) == ("utf8", [1], sorted(TOPICS))
    assert run.labels_paid == BUDGET
    assert run.latest.evaluation.total == EVALUATION_SIZE
    assert run.latest.evaluation.value > 0.9

    texts, topics = zip(*texts_about(POOL_SIZE, 0), strict=True)
    model = await clients.trainer.GetModel(GetModelRequest(run_id=run_id))
    session = onnxruntime.InferenceSession(model.model, providers=["CPUExecutionProvider"])
    probabilities = session.run(None, {session.get_inputs()[0].name: np.array(texts, object)})[0]
    told = [run.pool.classes[each] for each in probabilities.argmax(axis=1)]
    assert np.mean(np.array(told) == np.array(topics)) > 0.9

    scored = await clients.scorer.Score(
        scorer_pb2.ScoreRequest(run_id=run_id, texts=texts[:50], with_probabilities=True)
    )
    assert np.allclose(np.reshape(scored.probabilities, (50, -1)), probabilities[:50], atol=1e-5)
    answer = clients.trainer.ListLabels(ListLabelsRequest(run_id=run_id))
    records = [record async for part in answer for record in part.labels]
    assert [run.pool.classes[each.label] for each in records] == [topics[each.sample_id] for each in records]


async def test_a_users_graph_of_sentences_makes_the_features(clients: Clients, run_id: str, tmp_path: Path) -> None:
    topics = [*TOPICS]
    known = [(word, topic) for text, topic in texts_about(POOL_SIZE, 1) for word in text.split()]
    counts = {word: np.zeros(len(topics)) for word, _ in known}
    for word, topic in known:
        counts[word][topics.index(topic)] += 1
    words = {word: (each / each.sum()).tolist() for word, each in counts.items()}
    (tmp_path / "sentences.onnx").write_bytes(sentence_graph(words, in_column=True))
    spec = spec_of(tmp_path)
    spec.features, spec.dataset.graph = FeatureKind.FEATURE_KIND_GRAPH, str(tmp_path / "sentences.onnx")
    await start(clients, run_id, spec)
    run = (await finish(clients, run_id)).run
    assert run.latest.evaluation.value > 0.8
    scored = await clients.scorer.Score(scorer_pb2.ScoreRequest(run_id=run_id, texts=["nothing known", "x"]))
    assert len(scored.predicted) == 2

    (tmp_path / "sentences.onnx").write_bytes(sentence_graph({"x": [1.0]}, custom=True))
    await start(clients, f"{run_id}-custom", spec)
    failed = (await finish(clients, f"{run_id}-custom")).run
    assert failed.phase == Phase.PHASE_FAILED
    assert "custom operators of onnxruntime-extensions (BertTokenizer)" in failed.message


async def test_people_are_shown_the_texts_that_models_learn_from(clients: Clients, run_id: str, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, LabelSource.LABEL_SOURCE_QUEUE)
    spec.stopping.plateau_rounds = 9
    await start(clients, run_id, spec)
    known = texts_about(POOL_SIZE, 0)
    labelled = 0
    async with asyncio.timeout(PATIENCE_S):
        while labelled < BUDGET:
            request = LeaseNextRequest(run_id=run_id, annotator="ada", count=15)
            results = []
            for asked in (await clients.oracle.LeaseNext(request)).requests:
                text, topic = known[asked.sample_id]
                assert (asked.media_type, asked.content.decode()) == ("text/plain; charset=utf-8", text)
                label = list(asked.classes).index(topic)
                results.append(LabelResult(request_id=asked.request_id, label=label, annotator="ada"))
            if results:
                labelled += (await clients.oracle.SubmitResults(SubmitResultsRequest(results=results))).recorded
            else:
                await asyncio.sleep(0.1)  # the next round is being chosen
    run = (await finish(clients, run_id)).run
    assert (run.labels_paid, run.latest.evaluation.value > 0.9) == (BUDGET, True)
    assert run.latest.expected_accuracy > 0.5

    page = tmp_path / "report.html"
    await report_on(clients, run_id, page)
    assert page.read_text().count('<p class="text" dir="auto">') == 40


async def test_the_command_writes_texts_to_fill_in_and_takes_them_back(
    clients: Clients, shared_stack: Stack, run_id: str, tmp_path: Path
) -> None:
    pool, filled = written(tmp_path / "pool.csv", POOL_SIZE, 0), tmp_path / "open.csv"
    columns = ("--text", "text", "--id", "key", "--classes", ",".join(TOPICS))
    size = ("--budget", "5", "--batch-size", "5", "--labels-from", "queue", "--no-watch")
    code, said = await labelloop("run", "start", pool, *columns, *size, "--run-id", run_id, stack=shared_stack)
    assert code == 0, said
    assert "features tfidf" in said
    async with asyncio.timeout(PATIENCE_S):
        async for status in clients.watch(run_id):
            if status.phase == Phase.PHASE_LABELLING:
                break
    assert (await labelloop("label", "open", run_id, "-o", filled, stack=shared_stack))[0] == 0
    with filled.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    known = {f"0-{i}": (text, topic) for i, (text, topic) in enumerate(texts_about(POOL_SIZE, 0))}
    assert [row["text"] for row in rows] == [known[row["name"]][0] for row in rows]
    with filled.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["name", "class"], delimiter=";")
        writer.writeheader()
        writer.writerows({"name": row["name"], "class": known[row["name"]][1]} for row in rows)
    code, said = await labelloop("label", "submit", run_id, filled, stack=shared_stack)
    assert (code, "5 labels recorded" in said) == (0, True), said
    assert (await finish(clients, run_id)).run.labels_paid == 5
