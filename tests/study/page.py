"""The study as a page of curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined
from labelloop_cli.reporting.charts import STYLE, svg
from labelloop_cli.reporting.page import percent
from matplotlib.figure import Figure

from tests.study.plan import AT, DEFAULT, RANDOM, STRATEGIES
from tests.study.results import Curves, Row, beaten, groups, savings, sentences, table

_TEMPLATES = Path(__file__).with_name("templates")


def page(rows: Sequence[Row], *, whole: bool) -> str:
    """One self-contained page; ``whole`` says whether every run that was planned is in it."""
    loaders = ChoiceLoader([FileSystemLoader(_TEMPLATES), PackageLoader("labelloop_cli.reporting")])
    environment = Environment(loader=loaders, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["percent"] = percent
    told = [
        {
            "pool": pool,
            "features": features,
            "chart": _chart(curves),
            "table": table(curves),
            "sentences": sentences(savings(curves), beaten(curves)),
        }
        for pool, features, curves in groups(rows)
    ]
    return environment.get_template("study.html.j2").render(groups=told, at=AT, whole=whole)


def _chart(curves: Curves) -> str:
    """Mean accuracy over seeds by labels, the default strategy and random in a band of one standard deviation."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for strategy in (each for each in STRATEGIES if each in curves):
            seeds, colour = curves[strategy], f"C{STRATEGIES.index(strategy)}"
            length = min(len(curve) for curve in seeds.values())
            labels = [x for x, _ in next(iter(seeds.values()))][:length]
            values = 100 * np.array([[y for _, y in curve[:length]] for curve in seeds.values()])
            mean, spread = values.mean(axis=0), values.std(axis=0)
            marked = strategy in (DEFAULT, RANDOM)
            axes.plot(labels, mean, color=colour, label=strategy, linewidth=2 if marked else 1)
            if marked:
                axes.fill_between(labels, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
        axes.set(xlabel="labels", ylabel="accuracy on all test images, %")
        axes.legend(loc="lower right", ncols=2)
        return svg(figure)
