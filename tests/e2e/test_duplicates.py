"""Pools with equal samples: each is paid for once, and its label is that of all samples that equal it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow.parquet
import pytest
from labelloop.errors import InvalidInput, from_rpc
from labelloop.events.v1.events_pb2 import (
    DatasetSource,
    GoldSample,
    GuaranteeSpec,
    LabelSource,
    Protocol,
    QueueSpec,
    RunSpec,
    SkipKind,
)
from labelloop.oracle.v1.oracle_pb2 import (
    DescribeDatasetRequest,
    FindSamplesRequest,
    LabelResult,
    LeaseNextRequest,
    SubmitResultsRequest,
)
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.trainer.v1.trainer_pb2 import ExportRunRequest, GetRunRequest, KnownLabel, Phase, StartRunRequest
from labelloop_cli.clients import Clients
from labelloop_cli.local.stack import Stack
from numpy.typing import NDArray

from tests.e2e.driving import finish, start
from tests.e2e.test_cli import labelloop

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROWS, DISTINCT, CLASSES = 1_000, 20, 2


@pytest.fixture
def clients(shared_clients: Clients) -> Clients:
    return shared_clients


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    return shared_stack


@pytest.fixture
def kinds(tmp_path: Path) -> NDArray[np.int64]:
    """Write a pool of equal rows, in random order; return which of the distinct rows each is."""
    rng = np.random.default_rng(3)
    kinds = rng.permutation(np.arange(ROWS) % DISTINCT)
    np.save(tmp_path / "x.npy", rng.normal(size=(DISTINCT, 5)).astype(np.float32)[kinds])
    np.save(tmp_path / "y.npy", kinds % CLASSES)
    return kinds


def spec(folder: Path, label_budget: int = DISTINCT, **changes: Any) -> RunSpec:
    return RunSpec(
        dataset=DatasetSource(name=str(folder / "x.npy"), labels=str(folder / "y.npy")),
        strategy=Strategy.STRATEGY_MARGIN,
        first_strategy=Strategy.STRATEGY_RANDOM,
        batch_size=3,
        label_budget=label_budget,
        control_percent=20,
        protocol=Protocol.PROTOCOL_HONEST,
        label_source=LabelSource.LABEL_SOURCE_DATASET,
        report_every=1,
        **changes,
    )


async def refused(clients: Clients, request: StartRunRequest) -> InvalidInput:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await clients.trainer.StartRun(request)
    error = from_rpc(caught.value)
    assert isinstance(error, InvalidInput)
    return error


async def paid_kinds(clients: Clients, run_id: str, kinds: NDArray[np.int64]) -> list[int]:
    return [int(kinds[record.sample_id]) for record in await clients.labels(run_id)]


async def test_each_distinct_sample_is_paid_for_once(
    clients: Clients, run_id: str, kinds: NDArray[np.int64], tmp_path: Path
) -> None:
    error = await refused(clients, StartRunRequest(spec=spec(tmp_path, label_budget=DISTINCT + 1)))
    assert (error.reason, "20 left to label" in error.message) == ("BUDGET_OVER_POOL", True)
    await start(clients, run_id, spec(tmp_path))
    run = (await finish(clients, run_id)).run
    assert (run.phase, run.labels_paid, run.pool.duplicate_count) == (Phase.PHASE_FINISHED, DISTINCT, ROWS - DISTINCT)
    assert sorted(await paid_kinds(clients, run_id, kinds)) == list(range(DISTINCT))
    parts = [part async for part in clients.trainer.ExportRun(ExportRunRequest(run_id=run_id))]
    assert run.pool.duplicates_sha256 in {part.artifact.sha256 for part in parts}


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (Strategy.STRATEGY_K_MEANS, Strategy.STRATEGY_CLUSTERED_MARGIN),
        (Strategy.STRATEGY_TYPICLUST, Strategy.STRATEGY_BADGE),
        (Strategy.STRATEGY_K_CENTER, Strategy.STRATEGY_RANDOM),
    ],
)
async def test_strategies_that_choose_a_batch_together_take_each_distinct_sample_once(
    clients: Clients,
    run_id: str,
    kinds: NDArray[np.int64],
    tmp_path: Path,
    first: Strategy.ValueType,
    later: Strategy.ValueType,
) -> None:
    wanted = spec(tmp_path)
    wanted.first_strategy, wanted.strategy = first, later
    await start(clients, run_id, wanted)
    assert (await finish(clients, run_id)).run.labels_paid == DISTINCT
    assert sorted(await paid_kinds(clients, run_id, kinds)) == list(range(DISTINCT))


async def test_auto_labels_and_audits_take_each_distinct_sample_once(
    clients: Clients, run_id: str, kinds: NDArray[np.int64], tmp_path: Path
) -> None:
    auto = spec(tmp_path, label_budget=8, auto_label_budget=12, auto_label_batch_size=5)
    await start(clients, run_id, auto)
    run = (await finish(clients, run_id)).run
    assert (run.labels_paid, run.auto_labels) == (8, 12)
    assert sorted(await paid_kinds(clients, run_id, kinds)) == list(range(DISTINCT))
    guarantee = GuaranteeSpec(target_accuracy=0.3, confidence=0.7, audit_size=6)
    await start(clients, f"{run_id}-audited", spec(tmp_path, label_budget=8, guarantee=guarantee))
    audited = (await finish(clients, f"{run_id}-audited")).run
    assert (audited.phase, audited.audit_labels) == (Phase.PHASE_FINISHED, 6)
    found = await paid_kinds(clients, f"{run_id}-audited", kinds)
    assert len(found) == len({*found}) >= 14


async def test_the_dataset_says_what_is_equal(clients: Clients, kinds: NDArray[np.int64], tmp_path: Path) -> None:
    source = spec(tmp_path).dataset
    described = await clients.oracle.DescribeDataset(DescribeDatasetRequest(dataset=source, known_ids=range(ROWS)))
    assert (described.duplicate_count, described.repeated_count) == (ROWS - DISTINCT, ROWS - DISTINCT)
    assert f"{ROWS - DISTINCT} of 1,000 samples equal an earlier one" in described.notes[-1]
    parts = clients.oracle.FindSamples(FindSamplesRequest(dataset=source))
    found = [sample async for part in parts for sample in part.samples]
    equal = [sample.equal_to if sample.HasField("equal_to") else sample.sample_id for sample in found]
    assert equal == [kinds.tolist().index(kind) for kind in kinds]


async def test_what_equals_a_known_sample_is_not_asked_for(
    clients: Clients, run_id: str, kinds: NDArray[np.int64], tmp_path: Path
) -> None:
    """Also where the known sample is not the first of its kind, and where two known ones are equal."""
    ids = [int(np.flatnonzero(kinds == kind)[place]) for kind, place in ((0, 0), (1, 7), (2, 3), (2, 9))]
    known = [KnownLabel(sample_id=each, label=int(kinds[each]) % CLASSES) for each in ids]
    error = await refused(clients, StartRunRequest(spec=spec(tmp_path, label_budget=18), known=known))
    assert "17 left to label" in error.message
    await clients.trainer.StartRun(StartRunRequest(run_id=run_id, spec=spec(tmp_path, label_budget=17), known=known))
    run = (await finish(clients, run_id)).run
    assert (run.phase, run.labels_paid) == (Phase.PHASE_FINISHED, 17)
    assert sorted(await paid_kinds(clients, run_id, kinds)) == sorted([2, *range(DISTINCT)])


async def test_a_continued_run_finds_what_its_parent_labelled_among_equal_samples(
    clients: Clients, run_id: str, kinds: NDArray[np.int64], tmp_path: Path
) -> None:
    await start(clients, f"{run_id}-parent", spec(tmp_path, label_budget=6))
    await finish(clients, f"{run_id}-parent")
    samples, labels = np.load(tmp_path / "x.npy"), np.load(tmp_path / "y.npy")
    np.save(tmp_path / "x.npy", samples[::-1])  # other samples are the first of their kinds
    np.save(tmp_path / "y.npy", labels[::-1])
    child = spec(tmp_path, label_budget=14)
    await start(clients, run_id, child, continues=f"{run_id}-parent")
    run = (await finish(clients, run_id)).run
    assert (run.phase, run.labels_paid) == (Phase.PHASE_FINISHED, 14)
    assert sorted(await paid_kinds(clients, run_id, kinds[::-1])) == list(range(DISTINCT))


async def test_what_equals_a_gold_sample_is_not_asked_for_and_skipped_samples_end_the_run(
    clients: Clients, run_id: str, kinds: NDArray[np.int64], tmp_path: Path
) -> None:
    gold = [int(np.flatnonzero(kinds == kind)[place]) for kind, place in ((4, 0), (5, 8))]
    queue = QueueSpec(gold=[GoldSample(sample_id=each, label=int(kinds[each]) % CLASSES) for each in gold])
    wanted = spec(tmp_path, label_budget=18, queue=queue)
    wanted.label_source = LabelSource.LABEL_SOURCE_QUEUE
    await start(clients, run_id, wanted)
    asked, skipped = list[int](), {7, 8}
    async for status in clients.watch(run_id):
        if not status.labels_open:
            continue
        leased = await clients.oracle.LeaseNext(LeaseNextRequest(run_id=run_id, annotator="kim", count=100))
        results = []
        for each in leased.requests:
            kind = int(kinds[each.sample_id])
            asked += [kind] * (each.sample_id not in gold)
            result = LabelResult(request_id=each.request_id, annotator="kim", label=kind % CLASSES)
            if kind in skipped:
                result.skip = SkipKind.SKIP_KIND_SKIPPED
            results.append(result)
        await clients.oracle.SubmitResults(SubmitResultsRequest(results=results))
    run = (await clients.trainer.GetRun(GetRunRequest(run_id=run_id))).run
    assert (run.phase, run.message) == (Phase.PHASE_FINISHED, "no sample of the pool is left to ask for")
    assert (run.labels_paid, run.samples_skipped) == (16, 2)
    assert sorted(asked) == sorted({*range(DISTINCT)} - {4, 5})


async def test_every_sample_of_a_labelled_kind_is_exported_with_its_label(
    stack: Stack, clients: Clients, run_id: str, kinds: NDArray[np.int64], tmp_path: Path
) -> None:
    await start(clients, run_id, spec(tmp_path))
    await finish(clients, run_id)
    output = tmp_path / "labels.parquet"
    code, text = await labelloop("export", "labels", run_id, "-o", output, stack=stack)
    assert (code, f"{ROWS - DISTINCT} of them of samples that equal a labelled one" in " ".join(text.split())) == (
        0,
        True,
    )
    table = pyarrow.parquet.read_table(output).to_pydict()
    assert sorted(table["id"]) == list(range(ROWS))
    assert all(class_ == kinds[each] % CLASSES for each, class_ in zip(table["id"], table["class"], strict=True))
    shared = [place for place, source in enumerate(table["source"]) if source == "duplicate"]
    assert len(shared) == ROWS - DISTINCT
    for place, equal_to in enumerate(table["equal_to"]):
        assert kinds[table["id"][place]] == kinds[equal_to] if place in shared else equal_to is None
    rest = tmp_path / "rest.csv"
    assert (await labelloop("export", "unlabelled", run_id, "-o", rest, stack=stack))[0] == 0
    assert rest.read_text().count("\n") == 1
    code, _ = await labelloop("report", run_id, "-o", tmp_path / "report.html", stack=stack)
    assert code == 0
    assert "980 of the samples equal an earlier one and were not asked for; 980 share" in (
        tmp_path / "report.html"
    ).read_text(encoding="utf-8")


async def test_what_equals_no_labelled_sample_is_exported_as_unlabelled(
    stack: Stack, clients: Clients, run_id: str, kinds: NDArray[np.int64], tmp_path: Path
) -> None:
    await start(clients, run_id, spec(tmp_path, label_budget=6))
    await finish(clients, run_id)
    output = tmp_path / "rest.parquet"
    code, text = await labelloop("export", "unlabelled", run_id, "-o", output, stack=stack)
    assert code == 0, text
    labelled = {*await paid_kinds(clients, run_id, kinds)}
    left = pyarrow.parquet.read_table(output)["id"].to_pylist()
    assert sorted(left) == [each for each in range(ROWS) if kinds[each] not in labelled]
