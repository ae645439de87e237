"""A run from end to end, and what can be had of it."""

from __future__ import annotations

import grpc
import numpy as np
import onnxruntime
import pytest
from labelloop.scorer.v1.scorer_pb2 import RankPoolRequest, Strategy
from labelloop.trainer.v1.trainer_pb2 import CancelRunRequest, GetModelRequest, GetRunRequest, ListRunsRequest, Phase
from labelloop.wire.artifacts import digest_of
from labelloop.wire.errors import InvalidInput, NotFound, WrongState, from_rpc
from labelloop_cli.clients import Clients

from tests.blobs import Blobs, spec
from tests.e2e.driving import finish, start


async def test_a_run_pays_for_its_budget_auto_labels_the_rest_and_learns(clients: Clients, blobs: Blobs) -> None:
    await start(clients, "whole", spec(blobs))
    whole = await finish(clients, "whole")
    labels = await clients.labels("whole")
    truth = np.load(blobs.labels)
    paid = [label for label in labels if not label.auto_labelled]
    assert whole.run.phase == Phase.PHASE_FINISHED
    assert (whole.run.labels_paid, whole.run.auto_labels) == (30, 30)
    assert len({label.sample_id for label in labels}) == 60
    assert [label.label for label in paid] == [truth[label.sample_id] for label in paid]
    assert [result.round for result in whole.rounds] == list(range(1, 13))
    assert whole.run.latest.evaluation.value > 0.9


async def test_the_model_that_is_handed_out_ranks_as_the_scorer_does(clients: Clients, blobs: Blobs) -> None:
    await start(clients, "model", spec(blobs))
    whole = await finish(clients, "model")
    model = await clients.trainer.GetModel(GetModelRequest(run_id="model"))
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


async def test_same_spec_same_final_model(clients: Clients, blobs: Blobs) -> None:
    for run_id in ("one", "two"):
        await start(clients, run_id, spec(blobs))
    one, two = [(await finish(clients, run_id)).run.latest.model_sha256 for run_id in ("one", "two")]
    assert one == two


async def test_a_run_continues_from_the_end_of_another_without_paying_again(clients: Clients, blobs: Blobs) -> None:
    await start(clients, "parent", spec(blobs, auto_label_budget=0))
    await finish(clients, "parent")
    await start(clients, "child", spec(blobs, label_budget=0), continues="parent")
    child = (await finish(clients, "child")).run
    await start(clients, "in_one", spec(blobs))
    in_one = (await finish(clients, "in_one")).run
    assert (child.labels_paid, child.auto_labels) == (0, 30)
    assert child.latest.labels == 30
    assert child.latest.model_sha256 == in_one.latest.model_sha256


async def test_starting_a_run_again_is_one_run_and_another_spec_is_refused(clients: Clients, blobs: Blobs) -> None:
    await start(clients, "twice", spec(blobs))
    await start(clients, "twice", spec(blobs))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await start(clients, "twice", spec(blobs, seed=4))
    assert isinstance(from_rpc(caught.value), WrongState)
    await finish(clients, "twice")
    assert len((await clients.trainer.ListRuns(ListRunsRequest())).runs) == 1


async def test_a_cancelled_run_keeps_its_labels_and_stays_cancelled(clients: Clients, blobs: Blobs) -> None:
    await start(clients, "stop", spec(blobs, label_source=2))  # nobody answers: it cannot end by itself
    cancelled = (await clients.trainer.CancelRun(CancelRunRequest(run_id="stop", reason="enough"))).run
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await clients.trainer.CancelRun(CancelRunRequest(run_id="stop"))
    assert (cancelled.phase, cancelled.message) == (Phase.PHASE_CANCELLED, "enough")
    assert isinstance(from_rpc(caught.value), WrongState)


async def test_an_honest_run_needs_no_evaluation_set(clients: Clients, blobs: Blobs) -> None:
    changed = spec(blobs, protocol=2, stopping_sample_count=0)
    changed.dataset.evaluation = changed.dataset.evaluation_labels = ""
    await start(clients, "blind", changed)
    whole = await finish(clients, "blind")
    assert whole.run.phase == Phase.PHASE_FINISHED
    assert not whole.run.latest.HasField("evaluation")
    assert whole.run.latest.stopping.total == 30  # what was paid for, each held out once


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
async def test_a_spec_that_cannot_be_carried_out_is_refused_and_leaves_nothing(
    clients: Clients, blobs: Blobs, changes: dict[str, object], field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await start(clients, "bad", spec(blobs, **changes))
    error = from_rpc(caught.value)
    assert isinstance(error, InvalidInput)
    assert error.field == field
    assert not (await clients.trainer.ListRuns(ListRunsRequest())).runs
