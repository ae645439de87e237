"""Auto-labels that an audit allows, against true labels, for 100 seeds on MNIST."""

from __future__ import annotations

import asyncio
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Any

from labelloop.events.v1.events_pb2 import FeatureKind, GuaranteeSpec, RunSpec
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest, StartRunRequest
from labelloop_cli.clients import Clients, connect
from labelloop_cli.demo.plan import honest_spec
from labelloop_cli.local.stack import running

from tests.bench.article import mnist

_SEEDS = 100
_TOGETHER = 3
_TARGET, _CONFIDENCE, _AUDIT = 0.99, 0.95, 600
_BATCH = 25  # as by default


async def guarantee_holds() -> dict[str, Any]:
    """Measure in how many of 100 runs at least 99 per cent of the auto-labels are right: 400 labels on learned
    features, each run with its own samples and audit; a run without auto-labels cannot be wrong."""
    truth = mnist().labels
    assert truth is not None
    with TemporaryDirectory() as name:
        async with running(Path(name) / "store") as stack, connect(stack.endpoints) as clients:
            slots = asyncio.Semaphore(_TOGETHER)

            async def one(seed: int) -> dict[str, Any]:
                async with slots:
                    return await _run(clients, seed, truth.tolist())

            runs = await asyncio.gather(*(one(seed) for seed in range(1, _SEEDS + 1)))
    held = sum(run["accuracy"] is None or run["accuracy"] >= _TARGET for run in runs)
    shares = [run["share"] for run in runs]
    return {
        "value": held / len(runs),
        "unit": "of the runs keep what their audit says",
        "target": f"{_CONFIDENCE} or more",
        "met": held / len(runs) >= _CONFIDENCE,
        "detail": {
            "mean_share_auto_labelled": fmean(shares),
            "median_share_auto_labelled": median(shares),
            "without_auto_labels": sum(share == 0 for share in shares),
            "audit": _AUDIT,
            "runs": runs,
        },
    }


def _spec(seed: int) -> RunSpec:
    spec = honest_spec(
        Strategy.STRATEGY_CLUSTERED_MARGIN,
        seed,
        first_strategy=Strategy.STRATEGY_K_MEANS,
        features=FeatureKind.FEATURE_KIND_PATCHES,
        batch_size=_BATCH,
        report_every=_SEEDS,
    )
    spec.guarantee.CopyFrom(GuaranteeSpec(target_accuracy=_TARGET, confidence=_CONFIDENCE, audit_size=_AUDIT))
    return spec


async def _run(clients: Clients, seed: int, truth: list[int]) -> dict[str, Any]:
    """The share of unlabelled samples that a run auto-labels, and its accuracy, None without auto-labels."""
    run_id = f"g{seed}"
    await clients.trainer.StartRun(StartRunRequest(run_id=run_id, spec=_spec(seed)), wait_for_ready=True)
    async for _ in clients.watch(run_id):
        pass
    run = (await clients.trainer.GetRun(GetRunRequest(run_id=run_id))).run
    auto = [label for label in await clients.labels(run_id) if label.auto_labelled]
    right = sum(label.label == truth[label.sample_id] for label in auto)
    return {
        "seed": seed,
        "share": len(auto) / (run.pool.sample_count - run.labels_paid),
        "accuracy": right / len(auto) if auto else None,
        "lower_bound": run.certificate.lower_bound,
        "model_accuracy": run.latest.evaluation.value,
    }
