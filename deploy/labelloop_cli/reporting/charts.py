"""Charts as SVG text, to stand inside a page. Pure."""

from __future__ import annotations

from io import StringIO
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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


def one_chart(width: float = 7.2, height: float = 3.6) -> tuple[Figure, Axes]:
    """Of that size in inches."""
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
        figure, axes = one_chart()
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
        figure, axes = one_chart()
        for colour, (name, values) in zip(COLOURS, curves.items(), strict=False):
            axes.plot(labels, np.array(values) * 100, color=colour, label=name)
        axes.set(xlabel="labels", ylabel="accuracy, %")
        axes.legend(loc="lower right")
        return svg(figure)


def confidence_curves(curves: dict[str, list[float]]) -> str:
    """Confidences in ascending order, a line each."""
    with mpl.rc_context(STYLE):
        figure, axes = one_chart()
        for colour, (name, values) in zip(COLOURS, curves.items(), strict=False):
            axes.plot(np.arange(1, len(values) + 1), values, color=colour, label=name)
        axes.set(xlabel="unlabelled samples, least confident first", ylabel="confidence", ylim=(0, 1.02))
        axes.legend(loc="lower right")
        return svg(figure)


def distribution(values: list[float], *, ours: float, published: float | None) -> str:
    """Accuracies of many runs as stacked dots, with our own run and the published figure marked."""
    with mpl.rc_context(STYLE):
        figure, axes = one_chart(height=2.8)
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
