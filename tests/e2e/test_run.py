"""Runs from end to end: labels, models and refusals."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import pytest
from labelloop.artifacts.store import digest_of
from labelloop.errors import InvalidInput, NotFound, WrongState, from_rpc
from labelloop.oracle.v1.oracle_pb2 import LabelResult, LeaseNextRequest, SubmitResultsRequest
from labelloop.scorer.v1.scorer_pb2 import RankPoolRequest, Strategy
from labelloop.trainer.v1.trainer_pb2 import (
    CancelRunRequest,
    GetModelRequest,
    GetRunRequest,
    KnownLabel,
    ListRunsRequest,
    Phase,
    StartRunRequest,
)
from labelloop_cli.clients import Clients

from tests.blobs import POOL_SIZE, Blobs, spec
from tests.e2e.driving import finish, start
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def clients(shared_clients: Clients) -> Clients:
    return shared_clients


async def test_a_run_spends_its_label_and_auto_label_budgets_and_learns(
    clients: Clients, run_id: str, blobs: Blobs
) -> None:
    await start(clients, run_id, spec(blobs))
    whole = await finish(clients, run_id)
    labels = await clients.labels(run_id)
    truth = np.load(blobs.labels)
    paid = [label for label in labels if not label.auto_labelled]
    assert whole.run.phase == Phase.PHASE_FINISHED
    assert (whole.run.labels_paid, whole.run.auto_labels) == (30, 30)
    assert len({label.sample_id for label in labels}) == 60
    assert [label.label for label in paid] == [truth[label.sample_id] for label in paid]
    assert [result.round for result in whole.rounds] == list(range(1, 13))
    assert whole.run.latest.evaluation.value > 0.9


async def test_the_exported_model_ranks_the_pool_as_the_scorer_does(
    clients: Clients, run_id: str, blobs: Blobs
) -> None:
    await start(clients, run_id, spec(blobs))
    whole = await finish(clients, run_id)
    model = await clients.trainer.GetModel(GetModelRequest(run_id=run_id))
    session = onnxruntime.InferenceSession(model.model)
    samples = np.load(blobs.samples).reshape(-1, 36)
    confidence = session.run(None, {"samples": samples})[0].max(axis=1)
    request = RankPoolRequest(
        pool_sha256=whole.run.pool.pool_sha256,
        model_sha256=model.model_sha256,
        strategy=Strategy.STRATEGY_LEAST_CONFIDENCE,
    )
    ranked = await clients.scorer.RankPool(request)
    assert digest_of(model.model) == model.model_sha256
    assert list(ranked.sample_ids) == list(np.lexsort((np.arange(len(samples)), confidence)))


async def test_the_same_spec_gives_the_same_final_model(clients: Clients, run_id: str, blobs: Blobs) -> None:
    both = (f"{run_id}-one", f"{run_id}-two")
    for each in both:
        await start(clients, each, spec(blobs))
    one, two = [(await finish(clients, each)).run.latest.model_sha256 for each in both]
    assert one == two


async def test_a_run_continues_another_without_paying_for_labels_again(
    clients: Clients, run_id: str, blobs: Blobs
) -> None:
    parent_id, child_id, whole_id = (f"{run_id}-{name}" for name in ("parent", "child", "whole"))
    await start(clients, parent_id, spec(blobs, auto_label_budget=0))
    await finish(clients, parent_id)
    await start(clients, child_id, spec(blobs, label_budget=0), continues=parent_id)
    child = (await finish(clients, child_id)).run
    await start(clients, whole_id, spec(blobs))
    in_one = (await finish(clients, whole_id)).run
    assert (child.labels_paid, child.auto_labels) == (0, 30)
    assert child.latest.labels == 30
    assert child.latest.model_sha256 == in_one.latest.model_sha256


async def test_labels_that_exist_train_the_first_model_and_cost_nothing(
    clients: Clients, run_id: str, blobs: Blobs
) -> None:
    truth = np.load(blobs.labels)
    known = [KnownLabel(sample_id=sample_id, label=truth[sample_id]) for sample_id in range(40, 60)]
    wanted = spec(blobs, protocol=2, stopping_sample_count=0, auto_label_budget=0, label_budget=10)
    await clients.trainer.StartRun(StartRunRequest(run_id=run_id, spec=wanted, known=known))
    done = await finish(clients, run_id)
    assert (done.rounds[0].labels, done.run.labels_paid) == (20, 10)
    records = await clients.labels(run_id)
    assert {record.sample_id for record in records if record.source == "given"} == set(range(40, 60))
    assert len({record.sample_id for record in records}) == len(records) == 30
    assert all(record.label == truth[record.sample_id] for record in records)


async def test_known_labels_that_contradict_each_other_or_the_pool_are_refused(clients: Clients, blobs: Blobs) -> None:
    for known in (
        [KnownLabel(sample_id=1), KnownLabel(sample_id=1, label=1)],
        [KnownLabel(sample_id=POOL_SIZE)],
        [KnownLabel(label=3)],
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await clients.trainer.StartRun(StartRunRequest(spec=spec(blobs), known=known))
        refused = from_rpc(caught.value)
        assert isinstance(refused, InvalidInput)
        assert refused.field == "known", refused


async def ids_of_runs(clients: Clients) -> list[str]:
    return [run.run_id for run in (await clients.trainer.ListRuns(ListRunsRequest())).runs]


async def test_starting_a_run_twice_is_one_run_and_another_spec_is_refused(
    clients: Clients, run_id: str, blobs: Blobs
) -> None:
    await start(clients, run_id, spec(blobs))
    await start(clients, run_id, spec(blobs))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await start(clients, run_id, spec(blobs, seed=4))
    assert isinstance(from_rpc(caught.value), WrongState)
    await finish(clients, run_id)
    assert (await ids_of_runs(clients)).count(run_id) == 1


async def test_a_run_can_be_cancelled_only_once(clients: Clients, run_id: str, blobs: Blobs) -> None:
    await start(clients, run_id, spec(blobs, label_source=2))  # nobody answers: it cannot end by itself
    cancelled = (await clients.trainer.CancelRun(CancelRunRequest(run_id=run_id, reason="enough"))).run
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await clients.trainer.CancelRun(CancelRunRequest(run_id=run_id))
    assert (cancelled.phase, cancelled.message) == (Phase.PHASE_CANCELLED, "enough")
    assert isinstance(from_rpc(caught.value), WrongState)


async def test_an_honest_run_needs_no_evaluation_set(clients: Clients, run_id: str, blobs: Blobs) -> None:
    changed = spec(blobs, protocol=2, stopping_sample_count=0)
    changed.dataset.evaluation = changed.dataset.evaluation_labels = ""
    await start(clients, run_id, changed)
    whole = await finish(clients, run_id)
    assert whole.run.phase == Phase.PHASE_FINISHED
    assert not whole.run.latest.HasField("evaluation")
    assert whole.run.latest.stopping.total == 30  # the paid labels, each held out once


async def test_an_unknown_run_is_not_found(clients: Clients) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await clients.trainer.GetRun(GetRunRequest(run_id="nobody"))
    error = from_rpc(caught.value)
    assert isinstance(error, NotFound)
    assert error.values["run_id"] == "nobody"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"batch_size": 0}, "spec.batch_size"),
        ({"label_budget": 301}, "spec.label_budget"),
        ({"auto_label_budget": 271}, "spec.label_budget"),
        ({"strategy": 0}, "spec.strategy"),
        ({"stopping_sample_count": 201}, "spec.stopping_sample_count"),
    ],
)
async def test_an_infeasible_spec_is_refused_and_leaves_no_run(
    clients: Clients, blobs: Blobs, changes: dict[str, object], field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await start(clients, "bad", spec(blobs, **changes))
    error = from_rpc(caught.value)
    assert isinstance(error, InvalidInput)
    assert error.field == field
    assert "bad" not in await ids_of_runs(clients)


async def test_people_are_asked_only_for_labels_that_the_dataset_lacks(
    clients: Clients, run_id: str, blobs: Blobs, tmp_path: Path
) -> None:
    truth = np.load(blobs.labels)
    np.save(tmp_path / "labels.npy", np.where(np.arange(POOL_SIZE) < 250, truth, -1))
    wanted = spec(blobs, protocol=2, stopping_sample_count=0, auto_label_budget=0, label_budget=10, label_source=2)
    wanted.dataset.labels = str(tmp_path / "labels.npy")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await start(clients, run_id, spec(blobs, dataset=wanted.dataset))
    assert "50 of 300 samples have no label" in (caught.value.details() or "")
    await start(clients, run_id, wanted)
    labelled = 0
    async with asyncio.timeout(PATIENCE_S):
        while labelled < 10:
            leased = await clients.oracle.LeaseNext(LeaseNextRequest(run_id=run_id, annotator="ada", count=10))
            results = [
                LabelResult(request_id=each.request_id, label=truth[each.sample_id], annotator="ada")
                for each in leased.requests
            ]
            assert all(each.sample_id >= 250 for each in leased.requests)
            if results:
                labelled += (await clients.oracle.SubmitResults(SubmitResultsRequest(results=results))).recorded
            else:
                await asyncio.sleep(0.1)  # the next round is being chosen
    done = await finish(clients, run_id)
    assert (done.rounds[0].labels, done.run.labels_paid) == (250, 10)
    records = await clients.labels(run_id)
    assert {record.sample_id for record in records if record.source == "given"} == set(range(250))
    assert all(record.label == truth[record.sample_id] for record in records)

    later = f"{run_id}-later"
    wanted.label_budget = 1
    np.save(tmp_path / "labels.npy", np.where(np.arange(POOL_SIZE) < 260, truth, -1))
    await start(clients, later, wanted, continues=run_id)
    sources = [record.source for record in await clients.labels(later)]
    new = 10 - len({record.sample_id for record in records} & {*range(250, 260)})
    assert (sources.count(f"inherited:{run_id}"), sources.count("given")) == (260, new)
    await clients.trainer.CancelRun(CancelRunRequest(run_id=later))
