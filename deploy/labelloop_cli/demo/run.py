"""Run ``labelloop demo``: start the services, run every experiment through them, and write a table and a report."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import platform
import shutil
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from labelloop.errors import WrongState
from labelloop.scorer.v1.scorer_pb2 import ClusterPoolRequest
from labelloop.trainer.v1 import trainer_pb2 as pb
from rich.table import Table

from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.demo import plan
from labelloop_cli.demo.heartbeat import heartbeat
from labelloop_cli.demo.live import LiveView
from labelloop_cli.demo.outcomes import (
    Outcome,
    article_row,
    audit_line,
    audited_row,
    clustering_row,
    honest_row,
    perturbation_summary,
)
from labelloop_cli.demo.plan import Experiment, Extent
from labelloop_cli.demo.story import Clustering, Story, tell
from labelloop_cli.local.stack import running
from labelloop_cli.output.console import console
from labelloop_cli.reporting.page import percent

_TOGETHER = 3  # concurrent runs, once order no longer matters: one trains while others rank and get labels
_STUCK_S = 60.0
_LIBRARIES = ("torch", "onnxruntime", "onnx", "numpy", "grpcio", "protobuf", "nats-py", "scikit-learn")


async def run_demo(output: Path, use_running: bool, extent: Extent) -> None:
    """Run all experiments, resuming an interrupted demo, or starting over if the last one finished."""
    begin = time.monotonic()
    store, results = output / "store", output / "results.json"
    if results.exists():
        results.unlink()
        shutil.rmtree(store, ignore_errors=True)
    async with AsyncExitStack() as stack:
        if use_running:
            endpoints = Endpoints()
        else:
            console.print(
                "starting a broker and three services" + (", going on from last time" if store.exists() else "")
            )
            async with heartbeat(console, lambda: "waiting for the services to answer"):
                up = await stack.enter_async_context(running(store))
            endpoints = up.endpoints
        clients = await stack.enter_async_context(connect(endpoints))
        work = _work(clients, output, begin, extent)
        await (work if use_running else up.while_up(work))


async def _work(clients: Clients, output: Path, begin: float, extent: Extent) -> None:
    story = await _experiments(clients, extent)
    total_seconds = time.monotonic() - begin
    output.mkdir(parents=True, exist_ok=True)
    console.print("drawing the report")
    (output / "report.html").write_text(await tell(clients, story, total_seconds))
    (output / "results.json").write_text(json.dumps(_results(story, total_seconds), indent=2) + "\n")
    _show(story, output, total_seconds)


async def _experiments(clients: Clients, extent: Extent) -> Story:
    article, honest = plan.article(), plan.honest(extent.honest)
    better, perturbed = plan.better(extent.better), plan.perturbed(extent.perturbed)
    everything = [*article, *better, *honest, *perturbed]
    outcomes: dict[str, Outcome] = {}
    auth = asyncio.Semaphore(_TOGETHER)
    async with AsyncExitStack() as stack:
        view = stack.enter_context(LiveView(console, [*article, *honest, *better, *perturbed]))
        if not console.is_terminal:
            await stack.enter_async_context(heartbeat(console, view.summary))

        async def carry_out(experiment: Experiment) -> None:
            async with auth:
                outcomes[experiment.run_id] = await _carry_out(clients, experiment, view)

        for experiment in everything:
            if experiment.alone:
                await carry_out(experiment)
        async with asyncio.TaskGroup() as tasks:
            clustering = tasks.create_task(_cluster(clients, outcomes["ground_truth"]))
            for experiment in everything:  # the longest first, so that no core is idle at the end
                if not experiment.alone:
                    tasks.create_task(carry_out(experiment))
    return _story(outcomes, clustering.result(), [*honest, *better, *perturbed])


async def _carry_out(clients: Clients, experiment: Experiment, view: LiveView) -> Outcome:
    request = pb.StartRunRequest(run_id=experiment.run_id, spec=experiment.spec, continues=experiment.continues)
    await clients.trainer.StartRun(request, wait_for_ready=True)
    held_up_since = 0.0
    async for status in clients.watch(experiment.run_id):
        view.update(status)
        held_up = bool(status.message) and status.phase < pb.Phase.PHASE_FINISHED
        held_up_since = (held_up_since or time.monotonic()) if held_up else 0.0
        if status.phase in (pb.Phase.PHASE_FAILED, pb.Phase.PHASE_CANCELLED) or (
            held_up and time.monotonic() - held_up_since > _STUCK_S
        ):
            message = f"experiment {experiment.run_id} did not finish: {status.message}"
            raise WrongState("EXPERIMENT_FAILED", message, run_id=experiment.run_id)
    whole = await clients.trainer.GetRun(pb.GetRunRequest(run_id=experiment.run_id))
    return Outcome(experiment, whole.run, list(whole.rounds), await clients.labels(experiment.run_id))


async def _cluster(clients: Clients, ground_truth: Outcome) -> Clustering:
    begin = time.monotonic()
    pool = ground_truth.run.pool.pool_sha256
    request = ClusterPoolRequest(pool_sha256=pool, cluster_count=plan.CLUSTERS, seed=0)
    response = await clients.scorer.ClusterPool(request, wait_for_ready=True)
    return Clustering(list(response.cluster), response.centroids, time.monotonic() - begin)


def _story(outcomes: dict[str, Outcome], clustering: Clustering, repeated: list[Experiment]) -> Story:
    """Collect rows and outcomes; ``repeated`` are the experiments of several seeds each, in order."""
    truth = {label.sample_id: label.label for label in outcomes["ground_truth"].labels}
    stand_in = outcomes["ground_truth"].run.pool.stand_in
    rows = {
        experiment.name: article_row(outcomes[experiment.run_id], truth, stand_in=stand_in)
        for experiment in plan.article()
    }
    rows["clustering"] = clustering_row(clustering.clusters, truth, clustering.seconds)
    by_name: dict[str, list[Outcome]] = {}
    for experiment in repeated:
        by_name.setdefault(experiment.name, []).append(outcomes[experiment.run_id])
    perturbed = by_name.pop("active_400_perturbed")
    rows |= {name: honest_row(group) for name, group in by_name.items()}
    rows["better_auto"] = audited_row(by_name["better_400"][-1], truth)
    rows["active_400"]["perturbed"] = perturbation_summary(perturbed)
    order = ["ground_truth", "clustering", "random_400", "first_10", "active_400", "auto_all", "auto_confident"]
    return Story(
        [rows[name] for name in (*order, *by_name, "better_auto")], outcomes, by_name, perturbed, clustering, truth
    )


def _results(story: Story, total_seconds: float) -> dict[str, Any]:
    pool = story.pool
    return {
        "dataset": {
            "name": "mnist",
            "description": pool.description,
            "stand_in": pool.stand_in,
            "pool_sha256": pool.pool_sha256,
            "evaluation_sha256": pool.evaluation_sha256,
            "pool_samples": pool.sample_count,
        },
        "rows": story.rows,
        "total_seconds": round(total_seconds, 1),
        "versions": {
            "labelloop": importlib.metadata.version("labelloop"),
            "python": platform.python_version(),
            **_versions(),
        },
    }


def _versions() -> dict[str, str]:
    """Return the versions of libraries that affect the figures, if installed here: services may run elsewhere."""
    found = {}
    for name in _LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _interval(ends: list[float] | None) -> str:
    return f" ({percent(ends[0], 1)}–{percent(ends[1], 1)})" if ends else ""


def _show(story: Story, output: Path, seconds: float) -> None:
    if story.pool.stand_in:
        console.print(story.pool.description, style="bold red")
    table = Table(
        "experiment",
        "labels",
        "auto",
        "wrong",
        "test %",
        "article %",
        "all test % (95 %)",
        box=None,
        padding=(0, 2, 0, 0),
    )
    for row in story.rows:
        table.add_row(
            row["experiment"],
            *(str(row[name]) for name in ("labels", "auto_labels", "wrong_auto_labels")),
            percent(row["test_accuracy"]),
            percent(row["published_accuracy"]),
            percent(row["test_accuracy_10k"]) + _interval(row["interval_10k"]),
        )
    console.print(table)
    spread = perturbation_summary(story.perturbed)
    console.print(
        f"active_400 from {spread['runs']} starts that differ by 1e-7: {spread['min']:.4f} to {spread['max']:.4f}, "
        f"mean {spread['mean']:.4f}, s.d. {spread['sd']:.4f}"
    )
    console.print(audit_line(story.rows[-1]))
    console.print(f"{seconds:.0f} s in all. Pictures: {output / 'report.html'}; figures: {output / 'results.json'}")
