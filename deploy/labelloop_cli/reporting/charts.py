"""Draw the charts of the demo's report as SVG text to embed in a page. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from labelloop_cli.reporting.svg.axes import Axis
from labelloop_cli.reporting.svg.marks import Band, Dots, Line, Mark, Rule, Values
from labelloop_cli.reporting.svg.panels import Panel
from labelloop_cli.reporting.svg.picture import picture

PALE = "#7b8794"
COLOURS = (
    "#0b6e99",
    "#c2410c",
    "#4d7c0f",
    "#7e22ce",
    "#be185d",
    "#a16207",
    "#2563eb",
    "#57534e",
    "#0d9488",
    "#7f1d1d",
)
WIDTH = 600.0
_HEIGHT = 240.0
_DASHES = ("", "6 4", "2 3")


def style(number: int) -> tuple[str, str]:
    """Return colour and dash of the ``number``-th mark of a chart; they repeat after thirty."""
    return COLOURS[number % len(COLOURS)], _DASHES[number // len(COLOURS) % len(_DASHES)]


def lines(curves: Mapping[str, tuple[Values, Values]], *, dotted: bool = False) -> list[Mark]:
    """Make one line per named pair of x and y values, each in its own style."""
    found: list[Mark] = []
    for number, (name, (x, y)) in enumerate(curves.items()):
        colour, dash = style(number)
        found.append(Line(x, y, colour, name, dash=dash, dotted=dotted))
    return found


def percents(shares: Values) -> list[float]:
    return [100 * float(each) for each in shares]


def learning_curves(curves: Mapping[str, tuple[Sequence[int], Sequence[Sequence[float]]]]) -> str:
    """Draw the mean accuracy over runs by labels, with a band of one standard deviation if there are several runs.

    Args:
        curves: For each name the numbers of labels, and the accuracies in [0, 1] of each run at those numbers.
    """
    bands: list[Mark] = []
    means: dict[str, tuple[Values, Values]] = {}
    for number, (name, (labels, runs)) in enumerate(curves.items()):
        if not labels or not runs:
            means[name] = [], []
            continue
        values = 100 * np.array(runs, float)
        mean = values.mean(axis=0)
        means[name] = labels, mean.tolist()
        if len(values) > 1:
            with np.errstate(invalid="ignore"):  # infinite values are left out of the chart
                spread = values.std(axis=0, ddof=1)
            bands.append(Band(labels, (mean - spread).tolist(), (mean + spread).tolist(), style(number)[0]))
    panel = Panel(
        [*bands, *lines(means)],
        Axis("labels paid", whole=True),
        Axis("accuracy on all test samples, %"),
        height=_HEIGHT,
    )
    return picture("Accuracy by labels paid", [panel], width=WIDTH)


def rounds_curve(labels: Sequence[int], curves: Mapping[str, Sequence[float]]) -> str:
    """Draw accuracies by labels, one line per curve."""
    marks = lines({name: (labels, percents(values)) for name, values in curves.items()})
    panel = Panel(marks, Axis("labels", whole=True), Axis("accuracy, %"), height=_HEIGHT)
    return picture("Accuracy by labels", [panel], width=WIDTH)


def confidence_curves(curves: Mapping[str, Sequence[float]]) -> str:
    """Draw confidences, given in ascending order, one line per curve."""
    marks = lines({name: (range(1, len(values) + 1), values) for name, values in curves.items()})
    x = Axis("unlabelled samples, least confident first", whole=True)
    panel = Panel(marks, x, Axis("confidence", include=(0, 1)), height=_HEIGHT)
    return picture("Confidence by rank", [panel], width=WIDTH)


def distribution(values: Sequence[float], *, ours: float, published: float | None) -> str:
    """Draw the accuracies of many runs as stacked dots, marking our unperturbed run and the published figure."""
    heights: dict[float, int] = {}
    places = []
    for value in sorted(values):
        heights[value] = heights.get(value, 0) + 1
        places.append((100 * value, heights[value]))
    marks: list[Mark] = [Rule("x", 100 * ours, COLOURS[2], f"unperturbed run: {ours * 100:.2f}", width=1.8)]
    if published is not None:
        marks.append(Rule("x", 100 * published, COLOURS[1], f"published: {published * 100:.2f}", width=1.8, dash="6 4"))
    marks.append(Dots([x for x, _ in places], [y for _, y in places], COLOURS[0], radii=5.0))
    x = Axis("accuracy on the 400 test images, %")
    y = Axis("runs", whole=True, include=(0, max(heights.values(), default=0) + 1))
    return picture("Accuracies of runs that differ in their start", [Panel(marks, x, y, height=150)], width=WIDTH)
