"""Define ``labelloop run``: start, list, watch and cancel runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labelloop_cli.choices import (
    AgreementName,
    FeaturesName,
    FirstName,
    LabelSourceName,
    ProtocolName,
    StrategyName,
)
from labelloop_cli.commands.arguments import RunId
from labelloop_cli.output.interrupts import carry_out

app = typer.Typer(help="Start, list, watch and cancel runs.", no_args_is_help=True)
_CONTROL, _FIRST_BATCH = 10, 50  # defaults, except under the published protocol
_TARGET, _CONFIDENCE = 0.99, 0.95  # defaults of a guarantee
_STILL_GOING = "stopped watching; the run goes on"


def _as_path(name: str) -> str:
    """Make a dataset's path absolute, because the oracle may run in another folder; mnist is a name, not a path."""
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
    from labelloop.errors import InvalidInput
    from labelloop.events.v1.events_pb2 import (
        DatasetSource,
        GoldSample,
        GuaranteeSpec,
        QueueSpec,
        RunSpec,
        StoppingSpec,
    )
    from labelloop.trainer.v1.trainer_pb2 import StartRunRequest

    from labelloop_cli.class_csv import read_classes
    from labelloop_cli.operations import run
    from labelloop_cli.run_options import agreement, label_source, protocol, strategy

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
        run.start(StartRunRequest(run_id=run_id, spec=spec, continues=continues), seen, watched=watch),
        interrupted=_STILL_GOING,
    )


def _check_as_published(**options: int | None) -> None:
    """Raise InvalidInput if an option is set that the article's runs do not have."""
    from labelloop.errors import InvalidInput

    for name, value in options.items():
        if value:
            option = f"--{name.replace('_', '-')}"
            message = f"the published protocol has no {option}: leave it out, or choose --protocol honest"
            raise InvalidInput("NOT_AS_PUBLISHED", message, field=name)


@app.command("list")
def list_() -> None:
    """Show all runs."""
    from labelloop_cli.operations import run

    carry_out(run.list_())


@app.command()
def watch(run_id: RunId) -> None:
    """Follow a run until it ends. Ctrl-C stops watching, not the run."""
    from labelloop_cli.operations import run

    carry_out(run.watch(run_id), interrupted=_STILL_GOING)


@app.command()
def cancel(
    run_id: RunId, reason: Annotated[str, typer.Option(help="Why, for people.")] = "cancelled by the operator"
) -> None:
    """End a run early. The labels it has stay."""
    from labelloop_cli.operations import run

    carry_out(run.cancel(run_id, reason))
