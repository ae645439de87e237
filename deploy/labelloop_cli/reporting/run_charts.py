"""The charts of a run's report, narrow enough for two beside each other and for a phone. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from labelloop.wire.intervals import wilson_interval
from matplotlib.figure import Figure
from numpy.typing import NDArray

from labelloop_cli.reporting.charts import COLOURS, PALE, STYLE, one_chart, svg

_WIDTH, _HEIGHT = 5.2, 3.3

_BINS = 10
_CLASSES_SHOWN = 30
Points = Sequence[tuple[float, float]]


def interval_curve(labels: list[int], values: list[float], low: list[float], high: list[float], reach: str) -> str:
    """One accuracy by labels in the band of its interval; ``reach`` says what the labels count."""
    with mpl.rc_context(STYLE):
        figure, axes = one_chart(_WIDTH, _HEIGHT)
        axes.plot(labels, np.array(values) * 100, color=COLOURS[0], marker=".", label="accuracy")
        axes.fill_between(
            labels, np.array(low) * 100, np.array(high) * 100, color=COLOURS[0], alpha=0.15, label="95 % interval"
        )
        axes.set(xlabel=reach, ylabel="accuracy, %")
        axes.legend(loc="lower right")
        return svg(figure)


def saved_curve(
    own: Points, control: Points, labels: NDArray[np.float64], steep: NDArray[np.float64], flat: NDArray[np.float64]
) -> str:
    """Labels and accuracies of a run's own models and of models of its control samples, and how the latter may go
    on."""
    with mpl.rc_context(STYLE):
        figure, axes = one_chart(_WIDTH, _HEIGHT)
        axes.plot(*_percent(own), color=COLOURS[0], marker=".", label="as chosen")
        axes.plot(*_percent(control), color=COLOURS[1], marker="o", linestyle="", label="control samples alone")
        axes.fill_between(
            labels, 100 * steep, 100 * flat, color=COLOURS[1], alpha=0.15, linewidth=0, label="more of them, between"
        )
        axes.axhline(own[-1][1] * 100, color=PALE, linewidth=1)
        axes.set(xscale="log", xlabel="labels", ylabel="accuracy, %")
        axes.legend(loc="lower right")
        return svg(figure)


def reliability(confidence: Sequence[float], correct: Sequence[bool]) -> str:
    """How often the model is right, by how sure it is, with 95 per cent intervals; larger dots stand for more."""
    sure, right = np.array(confidence), np.array(correct)
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    with mpl.rc_context(STYLE):
        figure, axes = one_chart(_WIDTH, _HEIGHT)
        axes.plot([0, 100], [0, 100], color=PALE, linewidth=1, linestyle="--", label="as sure as it is right")
        for each in sorted({*bins.tolist()}):
            of_bin = bins == each
            count, hits = int(of_bin.sum()), int(right[of_bin].sum())
            low, high = wilson_interval(hits, count)
            x, y = 100 * float(sure[of_bin].mean()), 100 * hits / count
            axes.plot([x, x], [100 * low, 100 * high], color=COLOURS[0], linewidth=1.5)
            axes.plot(x, y, "o", color=COLOURS[0], markersize=4 + 10 * (count / len(sure)) ** 0.5)
        axes.set(xlabel="how sure the model is, %", ylabel="of these right, %", xlim=(0, 104), ylim=(0, 107))
        axes.legend(loc="upper left")
        return svg(figure)


def calibration_curves(curves: Mapping[str, Points]) -> str:
    """Expected calibration errors by labels, a line each."""
    with mpl.rc_context(STYLE):
        figure, axes = one_chart(_WIDTH, _HEIGHT)
        for colour, (name, points) in zip(COLOURS, curves.items(), strict=False):
            axes.plot(*_percent(points), color=colour, marker=".", label=name)
        axes.set(xlabel="labels", ylabel="calibration error, %")
        axes.set_ylim(0, 1.35 * axes.get_ylim()[1])
        axes.legend(loc="upper right")
        return svg(figure)


@dataclass(frozen=True)
class Watched:
    """What a stopping rule looks at, by labels, and where it would hold, if that is at one value."""

    name: str
    points: Points
    at: float | None = None


def stopping_curves(watched: Sequence[Watched], stopped_at: int | None) -> str:
    """One above the other; ``stopped_at`` is the number of labels at which a rule held."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, 0.6 + 1.5 * len(watched)), layout="constrained")
        panels = figure.subplots(len(watched), sharex=True, squeeze=False)[:, 0]
        for colour, axes, each in zip(COLOURS, panels, watched, strict=False):
            axes.plot([x for x, _ in each.points], [y for _, y in each.points], color=colour, marker=".")
            if each.at is not None:
                axes.axhline(each.at, color=PALE, linestyle="--", linewidth=1)
            if stopped_at is not None:
                axes.axvline(stopped_at, color=COLOURS[1], linewidth=1)
            axes.set_title(each.name, loc="left", fontsize=10)
        if stopped_at is not None:
            panels[0].annotate(
                "stopped", (stopped_at, 0), (-5, 5), xycoords=("data", "axes fraction"), textcoords="offset points",
                ha="right", color=COLOURS[1],
            )  # fmt: skip
        panels[-1].set(xlabel="labels")
        return svg(figure)


def class_shares(classes: Sequence[str], shares: Mapping[str, Sequence[float]]) -> str:
    """Bars beside each other, one for each of ``shares``, of the classes that have most by the first of them."""
    first = next(iter(shares.values()))
    shown = sorted(sorted(range(len(classes)), key=lambda each: -first[each])[:_CLASSES_SHOWN])
    with mpl.rc_context(STYLE):
        figure, axes = one_chart(_WIDTH, _HEIGHT)
        width = 0.8 / len(shares)
        at = np.arange(len(shown), dtype=float)
        for number, (colour, (name, values)) in enumerate(zip(COLOURS, shares.items(), strict=False)):
            offset = (number - (len(shares) - 1) / 2) * width
            axes.bar(at + offset, [100 * values[each] for each in shown], width, color=colour, label=name)
        long = max(len(classes[each]) for each in shown) * len(shown) > 45
        axes.set_xticks(
            at, [classes[each] for each in shown], rotation=60 if long else 0, ha="right" if long else "center"
        )
        axes.grid(visible=False, axis="x")
        axes.set_axisbelow(True)
        axes.set(ylabel="share, %")
        axes.set_ylim(top=1.25 * axes.get_ylim()[1])
        axes.legend(loc="upper right", ncols=2)
        return svg(figure)


def _percent(points: Points) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [100 * y for _, y in points]
