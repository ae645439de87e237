"""``labelloop run``: start, list, watch, cancel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from labelloop.events.v1.events_pb2 import DatasetSource, GoldSample, GuaranteeSpec, QueueSpec, RunSpec, StoppingSpec
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetRequest
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.trainer.v1 import trainer_pb2 as pb
from labelloop.wire.errors import InvalidInput, WrongState
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

from labelloop_cli import figures
from labelloop_cli.class_files import read_classes
from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.console import console
from labelloop_cli.interrupts import carry_out
from labelloop_cli.specs import (
    AgreementName,
    FeaturesName,
    FirstName,
    LabelSourceName,
    ProtocolName,
    StrategyName,
    agreement,
    audit_size,
    features,
    label_source,
    protocol,
    strategy,
    word,
)

app = typer.Typer(help="Start, list, watch and cancel runs.", no_args_is_help=True)
_CONTROL, _FIRST_BATCH = 10, 50  # where the protocol is not the published one
_TARGET, _CONFIDENCE = 0.99, 0.95  # of a guarantee
_STILL_GOING = "stopped watching; the run goes on"

RunId = Annotated[str, typer.Argument(help="The run's id, as `labelloop run list` shows it.", show_default=False)]


def _as_path(name: str) -> str:
    """The oracle may run in another folder: give it whole paths."""
    return str(Path(name).absolute()) if name and name != "mnist" else name


@app.command()
def start(
    dataset: Annotated[str, typer.Argument(help="mnist, a .npy file, an IDX file or a folder of images.")] = "mnist",
    run_id: Annotated[str, typer.Option(help="A name for the run; made up where none is given.")] = "",
    labels: Annotated[str, typer.Option(help="File of labels (.npy or IDX), for pools in files.")] = "",
    evaluation: Annotated[str, typer.Option(help="Evaluation samples, of the pool's shape.")] = "",
    evaluation_labels: Annotated[str, typer.Option(help="Labels of the evaluation samples.")] = "",
    classes: Annotated[str, typer.Option(help="Class names, separated by commas; needed where no labels are.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Use only the first so many samples; 0 means all.")] = 0,
    strategy_: Annotated[
        StrategyName, typer.Option("--strategy", help="What to ask for.")
    ] = StrategyName.clustered_margin,
    first: Annotated[FirstName, typer.Option(help="How to choose the first batch.")] = FirstName.k_means,
    features_: Annotated[
        FeaturesName, typer.Option("--features", help="What models see: auto takes patches where samples are images.")
    ] = FeaturesName.auto,
    graph: Annotated[str, typer.Option(help="An ONNX file that makes features of samples: an embedding model.")] = "",
    control: Annotated[
        int | None,
        typer.Option(
            min=0, max=50, show_default="10", help="Of a hundred labels, so many are drawn at random, to judge by."
        ),
    ] = None,
    stop_at: Annotated[
        float, typer.Option(help="Stop once control samples show this accuracy (0.95, say); 0: never.")
    ] = 0.0,
    stop_when_stable: Annotated[
        int, typer.Option(min=0, help="Stop once so many models in a row agree with the one before; 0: never.")
    ] = 0,
    stop_on_plateau: Annotated[
        int, typer.Option(min=0, help="Stop once the expected accuracy has not risen for so many models; 0: never.")
    ] = 0,
    label_price: Annotated[float, typer.Option(help="What a label costs: stop once the next is not worth it.")] = 0.0,
    point_worth: Annotated[float, typer.Option(help="What a percentage point of accuracy is worth, then.")] = 0.0,
    guarantee: Annotated[
        bool, typer.Option("--guarantee", help="After the budget, auto-label what an audit shows to be right.")
    ] = False,
    guarantee_target: Annotated[
        float, typer.Option(help="With --guarantee: the share of auto-labels that are to be right.")
    ] = _TARGET,
    guarantee_confidence: Annotated[
        float, typer.Option(help="With --guarantee: how sure that is to be.")
    ] = _CONFIDENCE,
    audit: Annotated[
        int,
        typer.Option(
            min=0,
            help="With --guarantee: labels to pay for beyond the budget, to show it. 0: twice the fewest that can, 598 "
            "for 0.99, so that one mistake among them is not the end; of a small pool at most half of what is left.",
        ),
    ] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Labels to ask for in a round.")] = 25,
    first_batch: Annotated[
        int | None,
        typer.Option(min=0, show_default="50", help="Labels to ask for before there is a model; 0: as in any round."),
    ] = None,
    budget: Annotated[int, typer.Option(min=0, help="Labels to pay for in all.")] = 400,
    auto_label: Annotated[int, typer.Option(min=0, help="Samples to auto-label once the budget is spent.")] = 0,
    auto_batch_size: Annotated[int, typer.Option(min=1, help="Samples to auto-label in a round.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Decides every random choice.")] = 0,
    protocol_: Annotated[
        ProtocolName, typer.Option("--protocol", help="published stops on test data, as the article does.")
    ] = ProtocolName.honest,
    label_source_: Annotated[
        LabelSourceName,
        typer.Option("--labels-from", help="Who answers: the dataset, or people (see `labelloop label`)."),
    ] = LabelSourceName.dataset,
    stop_on: Annotated[
        int, typer.Option(min=1, help="published only: evaluation samples that decide when to stop.")
    ] = 400,
    report_every: Annotated[int, typer.Option(min=1, help="Measure accuracy in every so manieth round.")] = 1,
    continues: Annotated[str, typer.Option(help="Go on from the end of this run.")] = "",
    tool: Annotated[
        str, typer.Option(help="Have people asked in this tool, by its name: label-studio, webhook, amqp, sqs, nats.")
    ] = "",
    annotators: Annotated[int, typer.Option(min=1, max=25, help="People asked for each sample.")] = 1,
    annotators_max: Annotated[
        int, typer.Option(min=0, max=25, help="The same where they differ; 0 means two more.")
    ] = 0,
    agreement_: Annotated[
        AgreementName, typer.Option("--agreement", help="How several answers become one label.")
    ] = AgreementName.majority,
    deadline: Annotated[
        int, typer.Option(min=0, help="Seconds after which a sample without an answer is replaced; 0 means never.")
    ] = 0,
    hide_predictions: Annotated[bool, typer.Option(help="Do not show people what the model says.")] = False,
    gold: Annotated[
        Path | None, typer.Option(help="A CSV (id, class) of samples whose class is known: they tell who labels well.")
    ] = None,
    watch: Annotated[bool, typer.Option(help="Watch it until it ends.")] = True,
) -> None:
    """Start a run. It goes on without you: watch it again with `labelloop run watch`."""
    source = DatasetSource(
        name=_as_path(dataset),
        labels=_as_path(labels),
        evaluation=_as_path(evaluation),
        evaluation_labels=_as_path(evaluation_labels),
        classes=[name.strip() for name in classes.split(",") if name.strip()],
        sample_limit=limit,
        graph=_as_path(graph),
    )
    published = protocol_ is ProtocolName.published
    if published:
        _check_as_published(control=control, first_batch=first_batch)
    spec = RunSpec(
        dataset=source,
        strategy=strategy(strategy_),
        first_strategy=strategy(first),
        batch_size=batch_size,
        label_budget=budget,
        seed=seed,
        protocol=protocol(protocol_),
        label_source=label_source(label_source_),
        auto_label_batch_size=auto_batch_size if auto_label else 0,
        auto_label_budget=auto_label,
        stopping_sample_count=stop_on if published else 0,
        report_every=report_every,
        control_percent=0 if published else _CONTROL if control is None else control,
        first_batch_size=0 if published else min(_FIRST_BATCH if first_batch is None else first_batch, budget),
    )
    stopping = StoppingSpec(
        target_accuracy=stop_at,
        stable_rounds=stop_when_stable,
        plateau_rounds=stop_on_plateau,
        label_price=label_price,
        point_worth=point_worth,
    )
    if stopping.ByteSize():
        spec.stopping.CopyFrom(stopping)
    if not guarantee and (audit, guarantee_target, guarantee_confidence) != (0, _TARGET, _CONFIDENCE):
        raise InvalidInput("NO_GUARANTEE", "what a guarantee is to be needs one: add --guarantee", field="guarantee")
    if guarantee:
        spec.guarantee.CopyFrom(
            GuaranteeSpec(target_accuracy=guarantee_target, confidence=guarantee_confidence, audit_size=audit)
        )
    seen = FeaturesName.pixels if published and features_ is FeaturesName.auto else features_
    if tool:
        spec.label_source = label_source(LabelSourceName.queue)
    if spec.label_source == label_source(LabelSourceName.queue):
        spec.queue.CopyFrom(
            QueueSpec(
                tool=tool,
                annotators=annotators,
                annotators_max=annotators_max,
                agreement=agreement(agreement_),
                deadline_s=deadline,
                hide_predictions=hide_predictions,
                gold=[GoldSample(sample_id=id_, label=label) for id_, label in read_classes(gold)] if gold else [],
            )
        )
    carry_out(
        _start(pb.StartRunRequest(run_id=run_id, spec=spec, continues=continues), seen, watch),
        interrupted=_STILL_GOING,
    )


def _check_as_published(**options: int | None) -> None:
    """InvalidInput for what the article's runs have none of."""
    for name, value in options.items():
        if value:
            option = f"--{name.replace('_', '-')}"
            message = f"the published protocol has no {option}: leave it out, or choose --protocol honest"
            raise InvalidInput("NOT_AS_PUBLISHED", message, field=name)


async def _start(request: pb.StartRunRequest, seen: FeaturesName, watch: bool) -> None:
    async with connect(Endpoints()) as clients:
        described = await clients.oracle.DescribeDataset(DescribeDatasetRequest(dataset=request.spec.dataset))
        request.spec.features = features(seen, described)
        if request.spec.HasField("guarantee") and not request.spec.guarantee.audit_size:
            rest = described.sample_count - request.spec.label_budget
            request.spec.guarantee.audit_size = audit_size(request.spec.guarantee, rest)
        run = (await clients.trainer.StartRun(request)).run
        console.print(f"run {run.run_id} started")
        if watch:
            await _watch(clients, run.run_id)


@app.command("list")
def list_() -> None:
    """Show all runs."""
    carry_out(_list())


async def _list() -> None:
    async with connect(Endpoints()) as clients:
        response = await clients.trainer.ListRuns(pb.ListRunsRequest())
    if not response.runs:
        console.print("no runs yet; start one with `labelloop run start`")
    else:
        console.print(listed(list(response.runs)))
    if response.unreadable_events:
        told = f"{response.unreadable_events} events on the stream cannot be read and are passed over"
        console.print(told, style="yellow")


def listed(runs: list[pb.RunStatus]) -> Table:
    """Without columns that say nothing of any run: a terminal of 80 characters has room for the others."""
    columns: dict[str, Callable[[pb.RunStatus], str]] = {
        "run": lambda run: run.run_id,
        "state": lambda run: word(pb.Phase.Name(run.phase)),
        "strategy": lambda run: word(Strategy.Name(run.spec.strategy)),
        "round": lambda run: f"{run.round}/{run.planned_rounds}",
        "labels": figures.labels,
        "audit": figures.audit,
        "auto-labels": figures.auto_labels,
        "accuracy": figures.accuracy,
        "note": lambda run: run.message,
    }
    cells = {name: [of(run) for run in runs] for name, of in columns.items()}
    told = {name: column for name, column in cells.items() if {*column} - {figures.NONE, ""}}
    table = Table(*(Column(name, no_wrap=name in ("run", "state")) for name in told))
    for row in zip(*told.values(), strict=True):
        table.add_row(*row)
    return table


@app.command()
def watch(run_id: RunId) -> None:
    """Follow a run until it ends. Ctrl-C stops watching, not the run."""
    carry_out(_watch_alone(run_id), interrupted=_STILL_GOING)


async def _watch_alone(run_id: str) -> None:
    async with connect(Endpoints()) as clients:
        await _watch(clients, run_id)


async def _watch(clients: Clients, run_id: str) -> None:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("round"),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(run_id, total=None, note="")
        async for run in clients.watch(run_id):
            progress.update(bar, completed=run.round, total=run.planned_rounds or 1, note=_note(run))
    if run.phase == pb.Phase.PHASE_FAILED:
        raise WrongState("RUN_FAILED", f"run {run_id} failed: {run.message}", run_id=run_id)
    console.print(f"run {run_id} {word(pb.Phase.Name(run.phase))}: {run.message}; accuracy {figures.accuracy(run)}")


def _note(run: pb.RunStatus) -> str:
    note = f"{figures.paid(run)}, accuracy {figures.accuracy(run)}"
    if run.labels_open and run.phase == pb.Phase.PHASE_LABELLING:
        note += f", waiting for {run.labels_open} labels"
    return f"{note}, held up: {run.message}" if run.message and run.phase < pb.Phase.PHASE_FINISHED else note


@app.command()
def cancel(
    run_id: RunId, reason: Annotated[str, typer.Option(help="Why, for people.")] = "cancelled by the operator"
) -> None:
    """End a run early. The labels it has stay."""
    carry_out(_cancel(run_id, reason))


async def _cancel(run_id: str, reason: str) -> None:
    async with connect(Endpoints()) as clients:
        run = (await clients.trainer.CancelRun(pb.CancelRunRequest(run_id=run_id, reason=reason))).run
    console.print(f"run {run_id} cancelled with {figures.paid(run)}")
