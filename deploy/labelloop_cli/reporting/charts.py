"""The charts of the demo's report, as SVG text to stand inside a page. Pure."""

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
    """Colour and dash of the ``number``-th of several marks; thirty are different."""
    return COLOURS[number % len(COLOURS)], _DASHES[number // len(COLOURS) % len(_DASHES)]


def lines(curves: Mapping[str, tuple[Values, Values]], *, dotted: bool = False) -> list[Mark]:
    """One line for each pair of values of x and y, each in its own style."""
    found: list[Mark] = []
    for number, (name, (x, y)) in enumerate(curves.items()):
        colour, dash = style(number)
        found.append(Line(x, y, colour, name, dash=dash, dotted=dotted))
    return found


def percents(shares: Values) -> list[float]:
    return [100 * float(each) for each in shares]


def learning_curves(curves: Mapping[str, tuple[Sequence[int], Sequence[Sequence[float]]]]) -> str:
    """For each name the mean accuracy over runs by labels, in a band of one standard deviation where there are several
    runs. All runs of a name have values at the same labels."""
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
            with np.errstate(invalid="ignore"):  # infinite values have no place in the chart
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
    """Accuracies by labels, a line each."""
    marks = lines({name: (labels, percents(values)) for name, values in curves.items()})
    panel = Panel(marks, Axis("labels", whole=True), Axis("accuracy, %"), height=_HEIGHT)
    return picture("Accuracy by labels", [panel], width=WIDTH)


def confidence_curves(curves: Mapping[str, Sequence[float]]) -> str:
    """Confidences in ascending order, a line each."""
    marks = lines({name: (range(1, len(values) + 1), values) for name, values in curves.items()})
    x = Axis("unlabelled samples, least confident first", whole=True)
    panel = Panel(marks, x, Axis("confidence", include=(0, 1)), height=_HEIGHT)
    return picture("Confidence by rank", [panel], width=WIDTH)


def distribution(values: Sequence[float], *, ours: float, published: float | None) -> str:
    """Accuracies of many runs as stacked dots, with our own run and the published figure marked."""
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
