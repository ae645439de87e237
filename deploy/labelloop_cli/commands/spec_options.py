"""Declare the options of ``labelloop run start`` that make up the spec of a run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from labelloop_cli.choices import (
    AgreementName,
    FeaturesName,
    FirstName,
    FitName,
    LabelSourceName,
    ProtocolName,
    StrategyName,
)

_COUNT_MAX, _SEED_MAX = 2**31 - 1, 2**64 - 1  # COUNT_MAX of labelloop.domain.limits, which loads too much for help

_PRICE_MAX = 1e12
_argument = partial(typer.Argument, rich_help_panel="Data")
_data = partial(typer.Option, rich_help_panel="Data")
_strategy = partial(typer.Option, rich_help_panel="Strategy")
_people = partial(typer.Option, rich_help_panel="Labels from people")
_stopping = partial(typer.Option, rich_help_panel="Stopping")
_guarantee = partial(typer.Option, rich_help_panel="Guarantee")
_other = partial(typer.Option, rich_help_panel="Other")


@dataclass(frozen=True)
class DataOptions:
    """Options that say what a pool is, and what models see of it.

    Each sets a field of RunSpec: its path is the last part of the annotation, its meaning the help.
    """

    dataset: Annotated[
        str,
        _argument(
            help="The pool: a folder of pictures or arrays, a .npy or IDX file, mnist, or the URL of one that the "
            "oracle may read. Not needed with --continues.",
            show_default=False,
        ),
        "dataset.name",
    ] = ""
    labels: Annotated[
        str,
        _data(
            help="File with the pool's labels (.npy, IDX, or CSV). -1, NaN, an empty cell or no row: unknown; people "
            "are asked for those (--labels-from queue), and the others cost nothing."
        ),
        "dataset.labels",
    ] = ""
    evaluation: Annotated[
        str,
        _data(help="File with samples to measure accuracy on, of the same shape as the pool's."),
        "dataset.evaluation",
    ] = ""
    evaluation_labels: Annotated[
        str, _data(help="File with the labels of the evaluation samples."), "dataset.evaluation_labels"
    ] = ""
    classes: Annotated[
        str, _data(help="Class names, separated by commas. Needed if the dataset has no labels."), "dataset.classes"
    ] = ""
    limit: Annotated[
        int, _data(min=0, max=_COUNT_MAX, help="Use only this many samples; 0: all of them."), "dataset.sample_limit"
    ] = 0
    limit_seed: Annotated[
        int | None,
        _data(
            min=0,
            max=_SEED_MAX,
            show_default="1; 0 for mnist",
            help="Draw the samples of --limit at random with this seed; 0: the first ones.",
        ),
        "dataset.limit_seed",
    ] = None
    size: Annotated[
        str,
        _data(help="Fit pictures to this width and height, for example 64x64.", show_default="the most frequent size"),
        "dataset.size",
    ] = ""
    fit: Annotated[
        FitName | None,
        _data(help="How pictures of another size are fitted: scaled whole, cut off, or distorted.", show_default="pad"),
        "dataset.fit",
    ] = None
    background: Annotated[
        str, _data(help="Colour behind transparent and padded pictures.", show_default="#ffffff"), "dataset.background"
    ] = ""
    skip_bad: Annotated[
        bool, _data("--skip-bad", help="Leave out files and rows that cannot be read."), "dataset.skip_bad"
    ] = False
    id_column: Annotated[str, _data("--id", help="Column that names samples."), "dataset.id_column"] = ""
    label_column: Annotated[str, _data("--label", help="Column with the labels."), "dataset.label_column"] = ""
    text_column: Annotated[str, _data("--text", help="Column with the texts to label."), "dataset.text_column"] = ""
    columns: Annotated[
        str,
        _data(help="Columns that models see, separated by commas.", show_default="all but --id and --label"),
        "dataset.columns",
    ] = ""
    graph: Annotated[
        str,
        _data(help="ONNX file that computes features from samples, for example an embedding model."),
        "dataset.graph",
    ] = ""
    embeddings: Annotated[
        str,
        _data(
            help="File with vectors that models see, while people see the pool's samples. .npy: a row for each sample, "
            "in the pool's order (rows of a table; files by class and then by name), refused with --skip-bad. .npz "
            "with the arrays names and embeddings: matched by name."
        ),
        "dataset.embeddings",
    ] = ""
    evaluation_embeddings: Annotated[
        str, _data(help="File with the vectors of the evaluation samples."), "dataset.evaluation_embeddings"
    ] = ""
    features: Annotated[
        FeaturesName,
        _data(
            help="What the models see. auto: the features of --graph, else scattering for images, else plain values."
        ),
        "features",
    ] = FeaturesName.auto


@dataclass(frozen=True)
class SpecOptions(DataOptions):
    """Options that set a field of RunSpec each, as those of the data do."""

    strategy: Annotated[StrategyName, _strategy(help="How to choose the samples to label next."), "strategy"] = (
        StrategyName.clustered_margin
    )
    first: Annotated[
        FirstName, _strategy(help="How to choose the first batch, before there is a model."), "first_strategy"
    ] = FirstName.k_means
    batch_size: Annotated[
        int, _strategy(min=1, max=_COUNT_MAX, help="Labels to request in each round."), "batch_size"
    ] = 25
    first_batch: Annotated[
        int | None,
        _strategy(
            min=0, max=_COUNT_MAX, show_default="50", help="Labels to request in the first round; 0: --batch-size."
        ),
        "first_batch_size",
    ] = None
    control: Annotated[
        int | None,
        _strategy(
            min=0,
            max=50,
            show_default="10",
            help="Percentage of each batch that is drawn at random, to measure accuracy without bias.",
        ),
        "control_percent",
    ] = None
    seed: Annotated[int, _strategy(min=0, max=_SEED_MAX, help="Seed of all random choices."), "seed"] = 0

    labels_from: Annotated[
        LabelSourceName,
        _people(help="dataset: the pool's own labels. people (or queue): see `labelloop label`."),
        "label_source",
    ] = LabelSourceName.dataset
    tool: Annotated[
        str,
        _people(
            help="Ask people in this annotation tool: label-studio, webhook, amqp, sqs or nats. Implies --labels-from "
            "queue."
        ),
        "queue.tool",
    ] = ""
    annotators: Annotated[int, _people(min=1, max=25, help="People to ask about each sample."), "queue.annotators"] = 1
    annotators_max: Annotated[
        int,
        _people(min=0, max=25, help="People to ask at most if they disagree; 0: two more than --annotators."),
        "queue.annotators_max",
    ] = 0
    agreement: Annotated[AgreementName, _people(help="How several answers become one label."), "queue.agreement"] = (
        AgreementName.majority
    )
    deadline: Annotated[
        int,
        _people(
            min=0, max=_COUNT_MAX, help="Seconds after which an unanswered sample is replaced by another; 0: never."
        ),
        "queue.deadline_s",
    ] = 0
    hide_predictions: Annotated[
        bool,
        _people(
            "--hide-predictions/--show-predictions",
            " /--no-hide-predictions",
            help="Whether people see the model's prediction. Shown, it saves time, but people tend to agree with it, "
            "also where it is wrong: its mistakes then become labels, and accuracy looks higher than it is.",
        ),
        "queue.hide_predictions",
    ] = True
    guidelines: Annotated[
        Path | None,
        _people(
            help="File (Markdown or plain text, up to 64 KiB) that says how to label. The page, Label Studio and "
            "requests to tools show it.",
        ),
        "queue.guidelines",
    ] = None
    gold: Annotated[
        Path | None,
        _people(
            help="CSV file (columns id or name, and class or class_name) of samples whose class is known, to measure "
            "how well each person labels."
        ),
        "queue.gold",
    ] = None

    budget: Annotated[int, _stopping(min=0, max=_COUNT_MAX, help="Stop after this many labels."), "label_budget"] = 400
    stop_at: Annotated[
        float,
        _stopping(min=0, max=1, help="Stop once the control samples show this accuracy, for example 0.95; 0: never."),
        "stopping.target_accuracy",
    ] = 0.0
    stop_when_stable: Annotated[
        int,
        _stopping(
            min=0, max=_COUNT_MAX, help="Stop once this many models in a row agree with the one before; 0: never."
        ),
        "stopping.stable_rounds",
    ] = 0
    stop_on_plateau: Annotated[
        int,
        _stopping(
            min=0, max=_COUNT_MAX, help="Stop once the expected accuracy has not risen for this many models; 0: never."
        ),
        "stopping.plateau_rounds",
    ] = 0
    label_price: Annotated[
        float,
        _stopping(
            min=0,
            max=_PRICE_MAX,
            help="Cost of one label. With --point-worth: stop once the next label costs more than it gains.",
        ),
        "stopping.label_price",
    ] = 0.0
    point_worth: Annotated[
        float,
        _stopping(min=0, max=_PRICE_MAX, help="Value of one percentage point of accuracy, in the same currency."),
        "stopping.point_worth",
    ] = 0.0

    guarantee: Annotated[
        bool | None,
        _guarantee(
            show_default="no-guarantee",
            help="After the budget, label the rest of the pool by the model as far as an audit shows it to be right.",
        ),
        "guarantee",
    ] = None
    guarantee_target: Annotated[
        float,
        _guarantee(min=0, max=1, help="Share of these auto-labels that must be right."),
        "guarantee.target_accuracy",
    ] = 0.99
    guarantee_confidence: Annotated[
        float, _guarantee(min=0, max=1, help="Confidence with which the audit must show that."), "guarantee.confidence"
    ] = 0.95
    audit: Annotated[
        int,
        _guarantee(
            min=0,
            max=_COUNT_MAX,
            help="Labels to pay for beyond the budget, for the audit. 0: twice the smallest number that is enough (598 "
            "for a target of 0.99), so that one mistake is allowed, but at most half of what is left of a small pool.",
        ),
        "guarantee.audit_size",
    ] = 0

    auto_label: Annotated[
        int,
        _other(
            min=0,
            max=_COUNT_MAX,
            help="Samples to label by the model after the budget, most confident first, without an audit.",
        ),
        "auto_label_budget",
    ] = 0
    auto_batch_size: Annotated[
        int, _other(min=1, max=_COUNT_MAX, help="Samples to auto-label in each round."), "auto_label_batch_size"
    ] = 10
    protocol: Annotated[
        ProtocolName,
        _other(help="honest: test data is used for reports only. published: stops on test data, as in the article."),
        "protocol",
    ] = ProtocolName.honest
    balance_classes: Annotated[
        bool,
        _other(
            "--balance-classes",
            help="Let each class weigh the same in the fit, however few labels it has: finds more of rare classes, at "
            "the cost of more mistakes in frequent ones.",
        ),
        "balance_classes",
    ] = False
    stop_on: Annotated[
        int,
        _other(
            min=1, max=_COUNT_MAX, help="With --protocol published: evaluation samples that decide when a fit stops."
        ),
        "stopping_sample_count",
    ] = 400
    report_every: Annotated[
        int,
        _other(min=1, max=_COUNT_MAX, help="Measure accuracy in every round (1), in every second round (2) and so on."),
        "report_every",
    ] = 1
