"""Draw the charts of a run's report, narrow enough for two side by side and for a phone. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from labelloop.domain.proportion import Proportion
from labelloop.domain.statistics import exact_interval
from numpy.typing import NDArray

from labelloop_cli.reporting.charts import COLOURS, PALE, lines, percents, style
from labelloop_cli.reporting.svg.axes import Axis
from labelloop_cli.reporting.svg.marks import Band, Bars, Dots, Line, Mark, Rule, Spans, Values
from labelloop_cli.reporting.svg.panels import Panel
from labelloop_cli.reporting.svg.picture import picture

_WIDTH = 432.0
_STACKED_HEIGHT = 84.0

_BINS = 10
_CLASSES_SHOWN = 30
Points = Sequence[tuple[float, float]]


def interval_curve(
    labels: list[int],
    values: Sequence[float | None],
    low: list[float],
    high: list[float],
    reach: str,
    guessing: float | None = None,
) -> str:
    """Draw one accuracy by labels, with its interval as a band.

    Args:
        values: Accuracies in [0, 1]; None where only the interval is known.
        reach: Name of what the x axis counts.
        guessing: The majority baseline to compare the accuracy with, in [0, 1]; None for none.
    """
    known = [(x, y) for x, y in zip(labels, values, strict=True) if y is not None]
    marks: list[Mark] = [Line(*_percent(known), COLOURS[0], "accuracy", dotted=True)] if known else []
    marks.append(Band(labels, percents(low), percents(high), COLOURS[0], "95 % interval"))
    if guessing is not None:
        marks.append(Rule("y", 100 * guessing, PALE, "guessing the most frequent class"))
    return _one(f"Accuracy by {reach}", Panel(marks, Axis(reach, whole=True), Axis("accuracy, %")))


def saved_curve(
    own: Points,
    control: Sequence[tuple[float, Proportion]],
    labels: NDArray[np.float64],
    steep: NDArray[np.float64],
    flat: NDArray[np.float64],
) -> str:
    """Draw accuracy by labels for a run's own models and for models of its control samples, with the latter's forecast.

    Args:
        own: Labels and accuracy of each model of the run.
        control: Labels of each model of control samples alone, and the share that it has right.
        labels: Numbers of labels ``[n]`` at which ``steep`` and ``flat`` forecast the accuracy of more random labels.
        steep: Accuracies ``[n]``, one edge of the forecast's band.
        flat: Accuracies ``[n]``, its other edge.
    """
    known = [(x, share.value) for x, share in control if share.value is not None]
    low, high = percents([share.low for _, share in control]), percents([share.high for _, share in control])
    marks: list[Mark] = [
        Line(*_percent(own), COLOURS[0], "as chosen", dotted=True),
        Spans([x for x, _ in control], low, high, COLOURS[1]),
        Dots(*_percent(known), COLOURS[1], "control samples alone"),
        Band(labels.tolist(), percents(steep.tolist()), percents(flat.tolist()), COLOURS[1], "more of them, between"),
    ]
    if own:
        marks.append(Rule("y", 100 * own[-1][1], PALE, "accuracy reached"))
    panel = Panel(marks, Axis("labels", log=True), Axis("accuracy, %"))
    return _one("Accuracy by labels, chosen and drawn at random", panel)


def reliability(confidence: Sequence[float], correct: Sequence[bool]) -> str:
    """Draw how often the model is right by its confidence, with 95 per cent intervals; dots grow with the samples."""
    given, finite = np.array(confidence, float), np.isfinite(np.array(confidence, float))
    sure, right = given[finite], np.array(correct, bool)[finite]
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    x, y, ends, radii = [], [], [], []
    for each in sorted({*bins.tolist()}):
        of_bin = bins == each
        count, hits = int(of_bin.sum()), int(right[of_bin].sum())
        x.append(100 * float(sure[of_bin].mean()))
        y.append(100 * hits / count)
        ends.append(exact_interval(hits, count))
        radii.append(3 + 7 * (count / len(sure)) ** 0.5)
    low, high = percents([low for low, _ in ends]), percents([high for _, high in ends])
    unknown = [float("nan")] * int((~finite).sum())  # the picture states how many values it leaves out
    marks: list[Mark] = [
        Line([0, 100], [0, 100], PALE, "as sure as it is right", width=1.2, dash="5 4"),
        Spans(x, low, high, COLOURS[0]),
        Dots([*x, *unknown], [*y, *unknown], COLOURS[0], radii=[*radii, *unknown]),
    ]
    axis = Axis("how sure the model is, %", include=(0, 100))
    return _one("How often the model is right, by how sure it is", Panel(marks, axis, Axis("of these right, %")))


def calibration_curves(curves: Mapping[str, Points]) -> str:
    """Draw expected calibration errors by labels, one line per curve."""
    marks = lines({name: _percent(points) for name, points in curves.items()}, dotted=True)
    panel = Panel(marks, Axis("labels", whole=True), Axis("calibration error, %", include=(0,)))
    return _one("Expected calibration error by labels", panel)


@dataclass(frozen=True)
class Watched:
    """The figure that a stopping rule looks at.

    Attributes:
        points: Labels and the figure's value.
        at: Value at which the rule holds; None if it is not a fixed one.
    """

    name: str
    points: Points
    at: float | None = None


def stopping_curves(watched: Sequence[Watched], stopped_at: int | None) -> str:
    """Draw the figures one above the other; ``stopped_at`` is the number of labels at which a rule held."""
    panels = []
    for each in watched:
        marks: list[Mark] = [Line([x for x, _ in each.points], [y for _, y in each.points], COLOURS[0], dotted=True)]
        if each.at is not None:
            marks.append(Rule("y", each.at, PALE, "where the rule holds", dash="5 4"))
        if stopped_at is not None:
            marks.append(Rule("x", stopped_at, COLOURS[1], "stopped"))
        panels.append(Panel(marks, Axis("labels", whole=True), Axis(), each.name, _STACKED_HEIGHT))
    return picture("What the stopping rules looked at, by labels", panels, width=_WIDTH)


def class_shares(classes: Sequence[str], shares: Mapping[str, Sequence[float]]) -> str:
    """Draw the shares of the 30 classes largest by the first entry of ``shares``, with one bar for each entry."""
    first = next(iter(shares.values()), [])
    shown = sorted(sorted(range(len(first)), key=lambda each: -first[each])[:_CLASSES_SHOWN])
    width = 0.8 / max(1, len(shares))
    marks: list[Mark] = []
    for number, (name, values) in enumerate(shares.items()):
        offset = (number - (len(shares) - 1) / 2) * width
        heights = percents([values[each] for each in shown])
        marks.append(Bars(range(len(shown)), heights, width, style(number)[0], name, offset))
    panel = Panel(marks, Axis(names=[classes[each] for each in shown]), Axis("share, %"))
    return _one("Shares of classes", panel)


def _one(title: str, panel: Panel) -> str:
    return picture(title, [panel], width=_WIDTH)


def _percent(points: Points) -> tuple[Values, Values]:
    return [x for x, _ in points], [100 * y for _, y in points]
