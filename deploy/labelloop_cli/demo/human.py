"""Run ``labelloop demo --human``: a person labels 50 digits, and the accuracy is compared with random labels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

from labelloop.domain.proportion import Proportion
from labelloop.errors import WrongState
from labelloop.trainer.v1 import trainer_pb2 as pb
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from labelloop_cli.clients import Clients, connect
from labelloop_cli.demo.plan import BY_HAND, RANDOM_BESIDE, beside_by_hand, by_hand
from labelloop_cli.local.saved_page import keep_page, kept_page
from labelloop_cli.local.stack import Page, running
from labelloop_cli.output import run_summary
from labelloop_cli.output.console import console
from labelloop_cli.reporting.run_report import report_on

_RANDOM_SEEDS = range(1, 6)
_RUN = "by-hand"


async def run_human_demo(output: Path) -> None:
    """Serve the page, wait until the digits are labelled, and report; an interrupted demo is resumed."""
    store, file = output / "store", output / "store" / "page.json"
    page = kept_page(file).page
    async with running(store, page=page) as stack, connect(stack.endpoints) as clients:
        keep_page(file, Page(stack.services["oracle"].http_port, page.token))
        await stack.while_up(_work(clients, output, stack.page_url))


async def _work(clients: Clients, output: Path, page_url: str) -> None:
    await clients.trainer.StartRun(pb.StartRunRequest(run_id=_RUN, spec=by_hand()), wait_for_ready=True)
    url = page_url.replace("/?", f"/runs/{_RUN}?")
    console.print(
        f"label {BY_HAND} digits here, with the keys 0 to 9; the first ones come within a minute:\n", highlight=False
    )
    console.print(f"  {url}\n", style="bold", soft_wrap=True, highlight=False)
    yours, others = await _watched(clients)
    _tell(yours, others)
    report = output / "report.html"
    await report_on(clients, _RUN, report)
    console.print(f"pictures: {report}; label again from the start: delete {output}", soft_wrap=True)


async def _watched(clients: Clients) -> tuple[pb.GetRunResponse, list[pb.GetRunResponse]]:
    """Follow the run labelled by hand and, meanwhile, the random runs, so that nobody has to wait for those."""
    columns = (TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[at]}"))
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("your labels", total=BY_HAND, at="")

        def show(run: pb.RunStatus) -> None:
            known = f"accuracy {run_summary.short_accuracy(run)}" if run.HasField("latest") else ""
            held_up = run.message if run.phase < pb.Phase.PHASE_FINISHED else ""
            progress.update(bar, completed=run.labels_paid, at=held_up or known)

        async with asyncio.TaskGroup() as tasks:
            yours = tasks.create_task(_ended(clients, _RUN, show))
            others = tasks.create_task(_at_random(clients, progress))
        return yours.result(), others.result()


async def _at_random(clients: Clients, progress: Progress) -> list[pb.GetRunResponse]:
    bar = progress.add_task("at random, meanwhile", total=RANDOM_BESIDE * len(_RANDOM_SEEDS), at="")
    runs: list[pb.GetRunResponse] = []

    def show(run: pb.RunStatus) -> None:
        progress.update(bar, completed=RANDOM_BESIDE * len(runs) + run.labels_paid)

    for seed in _RANDOM_SEEDS:
        run_id = f"random-{seed}"
        await clients.trainer.StartRun(pb.StartRunRequest(run_id=run_id, spec=beside_by_hand(seed)))
        runs.append(await _ended(clients, run_id, show))
    return runs


async def _ended(clients: Clients, run_id: str, show: Callable[[pb.RunStatus], None]) -> pb.GetRunResponse:
    """Show a run's progress and return the run once it has finished. Raises WrongState if it ends otherwise."""
    async for status in clients.watch(run_id):
        show(status)
    whole: pb.GetRunResponse = await clients.trainer.GetRun(pb.GetRunRequest(run_id=run_id))
    if whole.run.phase != pb.Phase.PHASE_FINISHED:
        raise WrongState("RUN_NOT_FINISHED", f"run {run_id} did not finish: {whole.run.message}", run_id=run_id)
    return whole


def _tell(yours: pb.GetRunResponse, others: list[pb.GetRunResponse]) -> None:
    measured = yours.rounds[-1].evaluation
    if not measured.total:
        console.print("there is no evaluation set here: nothing to compare by")
        return
    at_random = random_curve(others)
    table = Table("labels", "yours", "at random", box=None, padding=(0, 3, 0, 0))
    for each in yours.rounds:
        drawn = at_random.get(each.labels)
        table.add_row(str(each.labels), _share(each.evaluation), f"{100 * drawn:.1f} %" if drawn else "–")
    console.print(table)
    console.print(
        f"\nyour {yours.run.labels_paid} labels: {run_summary.accuracy(yours.run)}",
        highlight=False,
    )
    needed = next((count for count, accuracy in at_random.items() if accuracy >= measured.value), None)
    console.print(
        f"digits picked at random, rightly labelled (mean of {len(others)}): "
        + (f"it takes {needed} of them to get there" if needed else f"{max(at_random)} do not get there"),
        highlight=False,
    )


def _share(measured: pb.MeasuredAccuracy) -> str:
    return Proportion(measured.correct, measured.total).short if measured.total else "–"


def random_curve(runs: list[pb.GetRunResponse]) -> dict[int, float]:
    """Average the accuracy of ``runs`` by number of labels, in ascending order."""
    by_count: dict[int, list[float]] = {}
    for run in runs:
        for each in run.rounds:
            if each.evaluation.total:
                by_count.setdefault(each.labels, []).append(each.evaluation.value)
    return {count: fmean(values) for count, values in sorted(by_count.items())}
