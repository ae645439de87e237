"""``labelloop demo --human``: the first 50 digits labelled by hand, and what that bought."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

from labelloop.events.v1.events_pb2 import LabelSource, RunSpec
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.trainer.v1 import trainer_pb2 as pb
from labelloop.wire.errors import WrongState
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from labelloop_cli.clients import Clients, connect
from labelloop_cli.console import console
from labelloop_cli.demo.plan import honest_spec
from labelloop_cli.reporting.run_report import report_on
from labelloop_cli.stack import Page, running

BY_HAND = 50
_RANDOM_LABELS = 200
_RANDOM_SEEDS = range(1, 6)
_RUN = "by-hand"


async def run_human_demo(output: Path) -> None:
    """Wait until somebody has labelled; goes on where an interrupted one stopped."""
    async with running(output / "store", page=Page()) as stack, connect(stack.endpoints) as clients:
        await stack.while_up(_work(clients, output, stack.page_url))


async def _work(clients: Clients, output: Path, page_url: str) -> None:
    await clients.trainer.StartRun(pb.StartRunRequest(run_id=_RUN, spec=_spec_by_hand()), wait_for_ready=True)
    url = page_url.replace("/?", f"/runs/{_RUN}?")
    console.print(f"label {BY_HAND} digits here, with the keys 0 to 9:\n  {url}", soft_wrap=True)
    yours = await _watched(clients, _RUN, "your labels", BY_HAND)
    console.print("meanwhile, somebody who picks digits at random ...")
    others = [await _random(clients, seed) for seed in _RANDOM_SEEDS]
    _tell(yours, others)
    report = output / "report.html"
    await report_on(clients, _RUN, report)
    console.print(f"pictures: {report}; label again from the start: delete {output}")


def _spec_by_hand() -> RunSpec:
    spec = honest_spec(Strategy.STRATEGY_MARGIN, seed=0)
    spec.label_source, spec.label_budget = LabelSource.LABEL_SOURCE_QUEUE, BY_HAND
    spec.queue.SetInParent()
    return spec


async def _random(clients: Clients, seed: int) -> pb.GetRunResponse:
    run_id = f"random-{seed}"
    spec = honest_spec(Strategy.STRATEGY_RANDOM, seed)
    spec.label_budget = _RANDOM_LABELS
    await clients.trainer.StartRun(pb.StartRunRequest(run_id=run_id, spec=spec))
    return await _watched(clients, run_id, f"at random, {seed}", _RANDOM_LABELS)


async def _watched(clients: Clients, run_id: str, what: str, budget: int) -> pb.GetRunResponse:
    columns = (TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(what, total=budget)
        async for status in clients.watch(run_id):
            progress.update(bar, completed=status.labels_paid)
    whole: pb.GetRunResponse = await clients.trainer.GetRun(pb.GetRunRequest(run_id=run_id))
    if whole.run.phase != pb.Phase.PHASE_FINISHED:
        raise WrongState("RUN_NOT_FINISHED", f"run {run_id} did not finish: {whole.run.message}", run_id=run_id)
    return whole


def _tell(yours: pb.GetRunResponse, others: list[pb.GetRunResponse]) -> None:
    measured = yours.rounds[-1].evaluation
    if not measured.total:
        console.print("there is no evaluation set here: nothing to compare by")
        return
    curve = random_curve(others)
    console.print(
        f"your {yours.run.labels_paid} labels: {measured.value:.1%} of {measured.total:,} test digits "
        f"({measured.low:.1%} to {measured.high:.1%})"
    )
    labels = yours.run.labels_paid
    if labels in curve:
        console.print(f"as many at random, rightly labelled: {curve[labels]:.1%} (mean of {len(others)})")
    needed = next((count for count, accuracy in curve.items() if accuracy >= measured.value), None)
    console.print(
        f"at random it takes {needed} labels to get there"
        if needed
        else f"at random {max(curve)} labels do not get there"
    )


def random_curve(runs: list[pb.GetRunResponse]) -> dict[int, float]:
    """Mean accuracy by the number of labels."""
    by_count: dict[int, list[float]] = {}
    for run in runs:
        for each in run.rounds:
            if each.evaluation.total:
                by_count.setdefault(each.labels, []).append(each.evaluation.value)
    return {count: fmean(values) for count, values in sorted(by_count.items())}
