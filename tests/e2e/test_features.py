"""Runs through all services on learned features or a user's graph, with audits and stopping rules."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import pytest
from labelloop.errors import from_rpc
from labelloop.events.v1.events_pb2 import FeatureKind, GuaranteeSpec, Purpose, StoppingSpec
from labelloop.scorer.v1 import scorer_pb2
from labelloop.trainer.v1.trainer_pb2 import ExportRunRequest, GetModelRequest, LabelRecord, ListLabelsRequest, Phase
from labelloop_cli.clients import Clients
from labelloop_cli.reporting.run_report import report_on
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.blobs import IMAGE_BYTES, POOL_SIZE, Blobs, certified_spec
from tests.e2e.driving import finish, start

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def clients(shared_clients: Clients) -> Clients:
    return shared_clients


async def labels_of(clients: Clients, run_id: str) -> list[LabelRecord]:
    answer = clients.trainer.ListLabels(ListLabelsRequest(run_id=run_id))
    return [record async for part in answer for record in part.labels]


def truth_of(blobs: Blobs) -> NDArray[np.int32]:
    truth: NDArray[np.int32] = np.load(blobs.labels)
    return truth


async def test_a_run_on_learned_features_ends_with_the_auto_labels_that_it_certified(
    clients: Clients, run_id: str, blobs: Blobs
) -> None:
    await start(clients, run_id, certified_spec(blobs))
    run = (await finish(clients, run_id)).run
    records, truth = await labels_of(clients, run_id), truth_of(blobs)
    by_purpose = {
        purpose: [record for record in records if record.purpose == purpose and not record.auto_labelled]
        for purpose in Purpose.values()
    }
    assert [len(by_purpose[each]) for each in (Purpose.PURPOSE_CHOSEN, Purpose.PURPOSE_CONTROL)] == [36, 4]
    assert len(by_purpose[Purpose.PURPOSE_AUDIT]) == run.audit_labels == 60
    auto = [record for record in records if record.auto_labelled]
    certificate = run.certificate
    assert len(auto) == run.auto_labels == certificate.count > 0
    assert min(record.confidence for record in auto) >= certificate.threshold
    assert certificate.lower_bound >= 0.9
    assert np.mean([record.label == truth[record.sample_id] for record in auto]) >= 0.9
    assert len({record.sample_id for record in records}) == len(records)
    assert str(POOL_SIZE - len(records)) in run.message
    above = [record for record in by_purpose[Purpose.PURPOSE_AUDIT] if record.confidence >= certificate.threshold]
    right = [record for record in above if record.predicted == record.label]
    assert (len(above), len(right)) == (certificate.audited_above, certificate.correct_above)
    latest = run.latest
    assert latest.control.total == latest.control_labels >= 4  # and chosen samples that the random order reached later
    assert latest.control_evaluation.total == latest.evaluation.total > 0
    assert latest.l2 > 0 < latest.temperature


async def test_the_report_judges_auto_labels_and_shows_each_samples_purpose(
    clients: Clients, run_id: str, blobs: Blobs, tmp_path: Path
) -> None:
    stopping = StoppingSpec(stable_rounds=9, label_price=0.5, point_worth=1e6)
    await start(clients, run_id, certified_spec(blobs, stopping=stopping))
    run = (await finish(clients, run_id)).run
    records, truth, page = await labels_of(clients, run_id), truth_of(blobs), tmp_path / "report.html"
    await report_on(clients, run_id, page)
    auto = [record for record in records if record.auto_labelled]
    right = sum(record.label == truth[record.sample_id] for record in auto)
    text = " ".join(page.read_text().split())
    assert f"The truth is known here: <b>{right} of {len(auto)}</b> are right, " in text
    assert f"The audit cost {run.audit_labels} labels (30.00)" in text  # at the spec's price
    assert "No rule held before the budget was spent" in text
    assert text.count("<td>audit</td>") == run.audit_labels
    assert text.count("<td>control</td>") == 4
    assert text.count("<td>first</td>") + text.count("<td>chosen</td>") == 36
    assert text.count("<figure>") > 0
    await report_on(clients, run_id, page, price=2.0)
    assert "labels (120.00)" in page.read_text()


async def test_the_model_takes_pixels_and_ranks_through_features(clients: Clients, run_id: str, blobs: Blobs) -> None:
    """The downloaded graph, Score and the ranking of the pool give the same probabilities from pixels."""
    await start(clients, run_id, certified_spec(blobs, label_budget=20))
    run = (await finish(clients, run_id)).run
    model = await clients.trainer.GetModel(GetModelRequest(run_id=run_id))
    images = np.load(blobs.samples).reshape(-1, IMAGE_BYTES)
    session = onnxruntime.InferenceSession(model.model, providers=["CPUExecutionProvider"])
    expected = session.run(None, {session.get_inputs()[0].name: images})[0]
    request = scorer_pb2.ScoreRequest(run_id=run_id, dtype="uint8", images=images.tobytes(), with_probabilities=True)
    scored = await clients.scorer.Score(request)
    assert np.allclose(np.reshape(scored.probabilities, expected.shape), expected, atol=1e-5)
    audited = [each for each in await labels_of(clients, run_id) if each.purpose == Purpose.PURPOSE_AUDIT]
    told = [expected[each.sample_id].max() for each in audited]
    assert np.allclose([each.confidence for each in audited], told, atol=1e-4)
    accuracy = np.mean(expected.argmax(axis=1) == truth_of(blobs))
    assert abs(accuracy - run.latest.evaluation.value) < 0.1


async def test_the_same_spec_gives_the_same_model(clients: Clients, run_id: str, blobs: Blobs) -> None:
    spec = certified_spec(blobs, label_budget=20)
    models = []
    for each in (f"{run_id}-one", f"{run_id}-two"):
        await start(clients, each, spec)
        models.append((await finish(clients, each)).run.latest.model_sha256)
    assert models[0] == models[1]


@pytest.mark.parametrize(
    ("parent", "child", "fitted_anew"),
    [
        (FeatureKind.FEATURE_KIND_PATCHES, FeatureKind.FEATURE_KIND_PATCHES, 0),
        (FeatureKind.FEATURE_KIND_SCATTERING, FeatureKind.FEATURE_KIND_SCATTERING, 0),
        (FeatureKind.FEATURE_KIND_PIXELS, FeatureKind.FEATURE_KIND_PATCHES, 1),
        (FeatureKind.FEATURE_KIND_PATCHES, FeatureKind.FEATURE_KIND_PIXELS, 1),
    ],
    ids=["patches on patches", "scattering on scattering", "patches on pixels", "pixels on patches"],
)
async def test_a_run_continues_one_with_the_same_or_other_features(
    clients: Clients,
    run_id: str,
    blobs: Blobs,
    parent: FeatureKind.ValueType,
    child: FeatureKind.ValueType,
    fitted_anew: int,
) -> None:
    changes = {"label_budget": 20, "control_percent": 50, "guarantee": None}
    parent_id, child_id = f"{run_id}-parent", f"{run_id}-child"
    await start(clients, parent_id, certified_spec(blobs, **changes, features=parent))
    before = (await finish(clients, parent_id)).run
    await start(clients, child_id, certified_spec(blobs, **changes, features=child), continues=parent_id)
    ended = await finish(clients, child_id)
    assert ended.run.phase == Phase.PHASE_FINISHED
    assert [each.labels for each in ended.rounds] == [20] * fitted_anew + [30, 40]
    assert ended.run.planned_rounds == ended.run.round
    assert before.latest.control_labels >= 10, "and chosen samples that the random order came to"
    assert ended.run.latest.control_labels >= 20
    assert ended.run.latest.evaluation.value > 0.8
    parts = [part async for part in clients.trainer.ExportRun(ExportRunRequest(run_id=child_id))]
    digests = {part.artifact.sha256 for part in parts}
    assert {before.head_sha256, before.latest.model_sha256} <= digests
    assert not before.features.features_sha256 or before.features.features_sha256 in digests


async def test_features_are_learned_from_large_colour_images(clients: Clients, run_id: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    made = Blobs(*(tmp_path / f"{name}.npy" for name in ("pool", "pool_labels", "evaluation", "evaluation_labels")))
    kinds = rng.integers(0, 256, (2, 8, 8, 3)).repeat(9, axis=1).repeat(9, axis=2)
    for count, samples, labels in ((90, made.samples, made.labels), (40, made.evaluation, made.evaluation_labels)):
        truth = rng.integers(0, 2, count)
        np.save(samples, np.clip(kinds[truth] + rng.normal(0, 60, (count, 72, 72, 3)), 0, 255).astype(np.uint8))
        np.save(labels, truth.astype(np.int32))
    spec = certified_spec(made, label_budget=20)
    spec.ClearField("guarantee")
    await start(clients, run_id, spec)
    run = (await finish(clients, run_id)).run
    assert run.features.feature_count == 1_800
    assert run.latest.evaluation.value > 0.9


def own_graph(path: Path, values: int, *, logs: bool = False) -> str:
    """Write a graph of the sums of each row of an image, or their logarithms; return its path."""
    kernel = np.repeat(np.eye(6, dtype=np.float32), values // 6, axis=0)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["values", "kernel"], ["sums"]),
        helper.make_node("Log" if logs else "Identity", ["sums"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "rows",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", values])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 6])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    path.write_bytes(model.SerializeToString())
    return str(path)


async def test_a_users_graph_computes_the_features(clients: Clients, run_id: str, blobs: Blobs, tmp_path: Path) -> None:
    spec = certified_spec(blobs, features=FeatureKind.FEATURE_KIND_GRAPH, label_budget=20)
    spec.dataset.graph = own_graph(tmp_path / "rows.onnx", IMAGE_BYTES)
    await start(clients, run_id, spec)
    run = (await finish(clients, run_id)).run
    assert run.features.feature_count == 6
    assert run.features.features_sha256 == run.pool.graph_sha256
    assert run.latest.evaluation.value > 0.6  # six sums hold less information than 36 pixels


async def test_a_graph_that_does_not_fit_the_pool_ends_the_run(
    clients: Clients, run_id: str, blobs: Blobs, tmp_path: Path
) -> None:
    spec = certified_spec(blobs, features=FeatureKind.FEATURE_KIND_GRAPH)
    spec.dataset.graph = own_graph(tmp_path / "rows.onnx", 12)
    await start(clients, run_id, spec)
    run = (await finish(clients, run_id)).run
    assert run.phase == Phase.PHASE_FAILED
    assert "takes 12 values of uint8" in run.message


async def test_the_labels_of_a_failed_run_are_inherited_by_its_successor(
    clients: Clients, run_id: str, blobs: Blobs, tmp_path: Path
) -> None:
    """The run fails at the evaluation of its first model: a black image has no finite features."""
    np.save(blobs.evaluation, np.concatenate([np.zeros((1, 6, 6), np.uint8), np.load(blobs.evaluation)[1:]]))
    spec = certified_spec(blobs, features=FeatureKind.FEATURE_KIND_GRAPH)
    spec.dataset.graph = own_graph(tmp_path / "logs.onnx", IMAGE_BYTES, logs=True)
    await start(clients, run_id, spec)
    run = (await finish(clients, run_id)).run
    assert (run.phase, run.round, run.labels_paid) == (Phase.PHASE_FAILED, 0, 10)
    assert "no finite numbers" in run.message
    child_id = f"{run_id}-child"
    await start(clients, child_id, spec, continues=run_id)
    paid, inherited = [await labels_of(clients, each) for each in (run_id, child_id)]
    assert {each.sample_id for each in inherited} >= {each.sample_id for each in paid}


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"features": FeatureKind.FEATURE_KIND_GRAPH}, "spec.features", "give both or none"),
        ({"control_percent": 51}, "spec.control_percent", "at most 50"),
        (
            {"guarantee": GuaranteeSpec(target_accuracy=0.99, confidence=0.95, audit_size=200)},
            "spec.guarantee",
            "takes 299 samples at least",
        ),
        ({"stopping": StoppingSpec(label_price=1)}, "spec.stopping.label_price", "needs the worth"),
        ({"protocol": 1, "stopping_sample_count": 9}, "spec.features", "the published protocol sees pixels"),
        (
            {"protocol": 1, "stopping_sample_count": 9, "features": FeatureKind.FEATURE_KIND_PIXELS},
            "spec.control_percent",
            "leave control out",
        ),
    ],
)
async def test_an_impossible_spec_is_refused_at_the_start(
    clients: Clients, run_id: str, blobs: Blobs, changes: dict[str, object], field: str, said: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await start(clients, run_id, certified_spec(blobs, **changes))
    ours = from_rpc(caught.value)
    assert ours is not None
    assert ours.field == field
    assert said in ours.message


@pytest.mark.parametrize(
    ("stopping", "said"),
    [
        (StoppingSpec(target_accuracy=0.3), "meets the target"),
        (StoppingSpec(stable_rounds=1), "agree with the ones before them"),
        (StoppingSpec(plateau_rounds=2), "has not risen"),
        (StoppingSpec(label_price=1_000, point_worth=0.001), "less than its price"),
    ],
)
async def test_a_stopping_rule_ends_a_run_before_its_budget_is_spent(
    clients: Clients, run_id: str, blobs: Blobs, stopping: StoppingSpec, said: str
) -> None:
    changes = {"features": None, "guarantee": None, "control_percent": 50, "label_budget": 200}
    spec = certified_spec(blobs, **(changes | {"stopping": stopping}))
    spec.ClearField("guarantee")
    await start(clients, run_id, spec)
    run = (await finish(clients, run_id)).run
    assert said in run.message
    assert run.labels_paid < 200
