"""Charts as SVG text, to stand inside a page. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

INK, PALE = "#1f2933", "#9aa5b1"
COLOURS = ("#0b6e99", "#c2410c", "#4d7c0f", "#7e22ce")
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": PALE,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "grid.color": "#e4e7eb",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "labelloop",
}


def _axes(width: float = 7.2, height: float = 3.6) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def svg(figure: Figure) -> str:
    """The picture as text, the same for the same picture."""
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def learning_curves(curves: dict[str, tuple[list[int], list[list[float]]]]) -> str:
    """For each name the mean accuracy over runs by labels, in a band of one standard deviation."""
    with mpl.rc_context(STYLE):
        figure, axes = _axes()
        for colour, (name, (labels, runs)) in zip(COLOURS, curves.items(), strict=False):
            values = np.array(runs) * 100
            mean, spread = values.mean(axis=0), values.std(axis=0, ddof=1)
            axes.plot(labels, mean, color=colour, label=name)
            axes.fill_between(labels, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
        axes.set(xlabel="labels paid", ylabel="accuracy on all test samples, %")
        axes.legend(loc="lower right")
        return svg(figure)


def rounds_curve(labels: list[int], curves: dict[str, list[float]]) -> str:
    """Accuracies by labels, a line each."""
    with mpl.rc_context(STYLE):
        figure, axes = _axes()
        for colour, (name, values) in zip(COLOURS, curves.items(), strict=False):
            axes.plot(labels, np.array(values) * 100, color=colour, label=name)
        axes.set(xlabel="labels", ylabel="accuracy, %")
        axes.legend(loc="lower right")
        return svg(figure)


def interval_curve(labels: list[int], values: list[float], low: list[float], high: list[float]) -> str:
    """One accuracy by labels in the band of its interval."""
    with mpl.rc_context(STYLE):
        figure, axes = _axes()
        axes.plot(labels, np.array(values) * 100, color=COLOURS[0], marker=".", label="accuracy")
        axes.fill_between(
            labels, np.array(low) * 100, np.array(high) * 100, color=COLOURS[0], alpha=0.15, label="95 % interval"
        )
        axes.set(xlabel="labels and auto-labels", ylabel="accuracy, %")
        axes.legend(loc="lower right")
        return svg(figure)


def saved_curve(
    own: list[tuple[int, float]],
    control: list[tuple[int, float]],
    labels: NDArray[np.float64],
    steep: NDArray[np.float64],
    flat: NDArray[np.float64],
) -> str:
    """Labels and accuracies of a run's own models and of models of its control samples, and how the latter may go
    on."""
    with mpl.rc_context(STYLE):
        figure, axes = _axes()
        axes.plot(*_percent(own), color=COLOURS[0], marker=".", label="as chosen")
        axes.plot(*_percent(control), color=COLOURS[1], marker="o", linestyle="", label="control samples alone")
        axes.fill_between(
            labels, 100 * steep, 100 * flat, color=COLOURS[1], alpha=0.15, linewidth=0, label="more of them, between"
        )
        axes.axhline(own[-1][1] * 100, color=PALE, linewidth=1)
        axes.set(xscale="log", xlabel="labels", ylabel="accuracy, %")
        axes.legend(loc="lower right")
        return svg(figure)


def _percent(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [100 * y for _, y in points]


def confidence_curves(curves: dict[str, list[float]]) -> str:
    """Confidences in ascending order, a line each."""
    with mpl.rc_context(STYLE):
        figure, axes = _axes()
        for colour, (name, values) in zip(COLOURS, curves.items(), strict=False):
            axes.plot(np.arange(1, len(values) + 1), values, color=colour, label=name)
        axes.set(xlabel="unlabelled samples, least confident first", ylabel="confidence", ylim=(0, 1.02))
        axes.legend(loc="lower right")
        return svg(figure)


def distribution(values: list[float], *, ours: float, published: float | None) -> str:
    """Accuracies of many runs as stacked dots, with our own run and the published figure marked."""
    with mpl.rc_context(STYLE):
        figure, axes = _axes(height=2.8)
        heights: dict[float, int] = {}
        for value in sorted(values):
            heights[value] = heights.get(value, 0) + 1
            axes.plot(value * 100, heights[value], "o", color=COLOURS[0], markersize=8)
        axes.axvline(ours * 100, color=COLOURS[2], label=f"unperturbed run: {ours * 100:.2f}")
        if published is not None:
            axes.axvline(published * 100, color=COLOURS[1], linestyle="--", label=f"published: {published * 100:.2f}")
        axes.set(xlabel="accuracy on the 400 test images, %", ylabel="runs", ylim=(0, max(heights.values()) + 1))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        return svg(figure)


def class_counts(classes: list[str], labels: list[int], auto_labels: list[int]) -> str:
    """How many labels and auto-labels each class has."""
    with mpl.rc_context(STYLE):
        figure, axes = _axes(height=2.8)
        axes.bar(classes, labels, color=COLOURS[0], label="labels")
        if any(auto_labels):
            axes.bar(classes, auto_labels, bottom=labels, color=COLOURS[1], alpha=0.6, label="auto-labels")
        axes.set(xlabel="class", ylabel="samples")
        axes.legend(loc="upper right")
        return svg(figure)
