"""A pool with one sample in a hundred of the second class: what is said of its models, and what balancing finds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from labelloop.events.v1.events_pb2 import DatasetSource, LabelSource, Protocol, RunSpec
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.trainer.v1.trainer_pb2 import MeasuredAccuracy
from labelloop_cli.clients import Clients
from labelloop_cli.local.stack import Stack

from tests.e2e.driving import finish, start
from tests.e2e.test_cli import labelloop

pytestmark = pytest.mark.asyncio(loop_scope="module")
SIZE, RARE = 2_000, 20
BESIDE = "(99.0 % by guessing the most frequent class)"


@dataclasses.dataclass(frozen=True)
class Parts:
    """Paths of .npy files."""

    pool: Path
    labels: Path
    evaluation: Path
    evaluation_labels: Path


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Write vectors of two overlapping classes, in the pool and in the evaluation set alike."""
    folder, rng = tmp_path_factory.mktemp("rare"), np.random.default_rng(0)
    found = Parts(*(folder / f"{field.name}.npy" for field in dataclasses.fields(Parts)))
    for samples, labels in ((found.pool, found.labels), (found.evaluation, found.evaluation_labels)):
        classes = rng.permutation(np.arange(SIZE) < RARE)
        np.save(samples, (rng.normal(0, 1, (SIZE, 6)) + classes[:, None]).astype(np.float32))
        np.save(labels, classes.astype(np.int32))
    return found


def spec(parts: Parts, *, balance: bool = False) -> RunSpec:
    source = DatasetSource(
        name=str(parts.pool),
        labels=str(parts.labels),
        evaluation=str(parts.evaluation),
        evaluation_labels=str(parts.evaluation_labels),
        classes=["ok", "broken"],
    )
    return RunSpec(
        dataset=source,
        strategy=Strategy.STRATEGY_RANDOM,
        first_strategy=Strategy.STRATEGY_RANDOM,
        batch_size=200,
        label_budget=600,
        control_percent=10,
        protocol=Protocol.PROTOCOL_HONEST,
        label_source=LabelSource.LABEL_SOURCE_DATASET,
        report_every=1,
        balance_classes=balance,
    )


def recall_of_the_rare(measured: MeasuredAccuracy) -> float:
    assert list(measured.class_total) == [SIZE - RARE, RARE]
    return measured.class_correct[1] / RARE


async def test_an_accuracy_on_a_rare_class_never_stands_alone(
    shared_stack: Stack, shared_clients: Clients, parts: Parts, run_id: str, tmp_path: Path
) -> None:
    await start(shared_clients, run_id, spec(parts))
    whole = await finish(shared_clients, run_id)
    newest = whole.rounds[-1]
    assert (newest.evaluation.baseline, newest.evaluation.total) == (0.99, SIZE)
    assert newest.evaluation.balanced == pytest.approx(
        (newest.evaluation.class_correct[0] / (SIZE - RARE) + recall_of_the_rare(newest.evaluation)) / 2
    )
    assert sum(newest.control.class_total) == newest.control.total == newest.control_labels
    assert not any(result.evaluation.class_total for result in whole.rounds[:-1])
    code, watched = await labelloop("run", "watch", run_id, stack=shared_stack)
    assert (code, BESIDE in " ".join(watched.split())) == (0, True), watched
    report = tmp_path / "report.html"
    code, text = await labelloop("report", run_id, "-o", report, stack=shared_stack)
    assert code == 0, text
    page = " ".join(report.read_text(encoding="utf-8").split())
    assert BESIDE in page
    assert "guessing the most frequent class, ok, would give 99.0 %" in page
    assert page.index("<td>broken</td>", page.index("Recall by class")) < page.index("Labels by class")


async def test_balanced_classes_find_more_of_a_rare_class(shared_clients: Clients, parts: Parts, run_id: str) -> None:
    names = {balance: f"{run_id}-{balance}".lower() for balance in (False, True)}
    for balance, name in names.items():
        await start(shared_clients, name, spec(parts, balance=balance))
    plain, balanced = [(await finish(shared_clients, name)).rounds[-1].evaluation for name in names.values()]
    assert recall_of_the_rare(balanced) > recall_of_the_rare(plain) + 0.3
    assert balanced.balanced > plain.balanced + 0.1
