"""Show one run, and compare several, for ``labelloop run show`` and ``labelloop run compare``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from labelloop.errors import InvalidInput
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.trainer.v1 import trainer_pb2 as pb
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest, GetRunResponse
from rich.table import Column, Table

from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.operations.run import standing
from labelloop_cli.output import comparison, run_summary
from labelloop_cli.output.console import console
from labelloop_cli.output.documents import plain, print_json
from labelloop_cli.output.local_time import local_time
from labelloop_cli.run_options import word

_MOST = 10


async def show(run_id: str, *, as_json: bool) -> None:
    """Print where a run stands, and each of its models."""
    async with connect(Endpoints()) as clients:
        whole = await clients.trainer.GetRun(GetRunRequest(run_id=run_id))
    if as_json:
        rounds = [plain(each) for each in whole.rounds]
        print_json(run_summary.document(whole.run) | {"rounds": rounds})
        return
    table = Table.grid(padding=(0, 2))
    for title, text in facts(whole.run):
        table.add_row(title, text)
    console.print(table, highlight=False)
    if whole.rounds:
        console.print(models(whole))


def facts(run: pb.RunStatus) -> Iterator[tuple[str, str]]:
    """Yield what is known of a run, as pairs of a title and a text."""
    yield "run", run.run_id + (f", continues {run.continues}" if run.continues else "")
    yield "state", run_summary.state(run) + (", archived" if run.archived else "")
    for line in standing(run):
        yield "", line
    yield "pool", run.pool.description or run.spec.dataset.name
    yield "strategy", word(Strategy.Name(run.spec.strategy))
    yield "rounds", f"{run.round} of {run.planned_rounds}"
    yield "labels", _labels(run)
    if run.spec.HasField("guarantee"):
        yield "audit", run_summary.audit(run)
    yield "auto-labels", run_summary.auto_labels(run)
    yield "accuracy", run_summary.accuracy(run)
    if price := run.spec.stopping.label_price:
        yield "cost", f"{run.labels_paid * price:,.2f}"
    yield "started", local_time(run.started_at)
    yield "changed", local_time(run.changed_at)


def _labels(run: pb.RunStatus) -> str:
    waits = f", waits for {run.labels_open}" if run.labels_open else ""
    skipped = f", {run.samples_skipped} samples without a label" if run.samples_skipped else ""
    return run_summary.labels(run) + waits + skipped


def models(whole: GetRunResponse) -> Table:
    """Build a table of a run's models, oldest first."""
    table = Table(
        "round", "labels", "auto", Column("accuracy", no_wrap=True), "fit", "recorded", box=None, pad_edge=False
    )
    for each in whole.rounds:
        estimate = run_summary.estimate_of(each, whole.run.spec.protocol, whole.run.pool.classes)
        share = estimate.share.short if estimate else run_summary.NONE
        at = local_time(each.recorded_at)
        table.add_row(str(each.round), str(each.labels), str(each.auto_labels), share, f"{each.fit_s:.2f} s", at)
    return table


async def compare(run_ids: Sequence[str], *, as_json: bool) -> None:
    """Print what several runs came to, side by side, and what their specs differ in.

    Raises InvalidInput unless two to ten different runs are named.
    """
    if not 2 <= len(set(run_ids)) == len(run_ids) <= _MOST:
        raise InvalidInput("WHICH_RUNS", f"name 2 to {_MOST} different runs", field="run_ids")
    async with connect(Endpoints()) as clients:
        runs = [await _run(clients, run_id) for run_id in run_ids]
    outcomes, differences = comparison.outcomes(runs), comparison.differences(runs)
    if as_json:
        print_json(_document(runs, differences))
        return
    table = Table(
        Column("", no_wrap=True), *(Column(each, overflow="fold") for each in run_ids), box=None, pad_edge=False
    )
    for facts_ in (outcomes, differences):
        for name, values in facts_.items():
            table.add_row(name, *values)
        table.add_section()
    console.print(table, highlight=False)
    if comparison.target_accuracy(runs) is None:
        console.print(
            "accuracies cannot be compared: not all are known, or they are measured on samples of other kinds"
        )


async def _run(clients: Clients, run_id: str) -> GetRunResponse:
    return await clients.trainer.GetRun(GetRunRequest(run_id=run_id))


def _document(runs: Sequence[GetRunResponse], differences: comparison.Facts) -> dict[str, Any]:
    return {
        "runs": [run_summary.document(run.run) for run in runs],
        "target_accuracy": comparison.target_accuracy(runs),
        "labels_to_reach_it": [
            int(each) if each.isdigit() else None
            for name, values in comparison.outcomes(runs).items()
            if name.startswith("labels to reach")
            for each in values
        ],
        "differences": differences,
    }
