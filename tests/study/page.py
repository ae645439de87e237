"""The study's page of curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined
from labelloop_cli.reporting.charts import WIDTH, style
from labelloop_cli.reporting.page import percent
from labelloop_cli.reporting.svg.axes import Axis
from labelloop_cli.reporting.svg.marks import Band, Line, Mark
from labelloop_cli.reporting.svg.panels import Panel
from labelloop_cli.reporting.svg.picture import picture

from tests.study.plan import AT, DEFAULT, RANDOM, STRATEGIES
from tests.study.results import Curves, Row, beaten, groups, savings, sentences, table

_TEMPLATES = Path(__file__).with_name("templates")


def page(rows: Sequence[Row], *, whole: bool) -> str:
    """Render one self-contained page; ``whole`` means that it has every planned run."""
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
    """Draw mean accuracy over seeds by labels; default and random have a band of one sample standard deviation."""
    bands: list[Mark] = []
    lines: list[Mark] = []
    for strategy in (each for each in STRATEGIES if each in curves):
        seeds, colour = curves[strategy], style(STRATEGIES.index(strategy))[0]
        length = min(len(curve) for curve in seeds.values())
        labels = [x for x, _ in next(iter(seeds.values()))][:length]
        values = 100 * np.array([[y for _, y in curve[:length]] for curve in seeds.values()])
        mean = values.mean(axis=0)
        marked = strategy in (DEFAULT, RANDOM)
        lines.append(Line(labels, mean.tolist(), colour, strategy, width=2.4 if marked else 1.2))
        if marked and len(values) > 1:
            spread = values.std(axis=0, ddof=1)
            bands.append(Band(labels, (mean - spread).tolist(), (mean + spread).tolist(), colour))
    panel = Panel([*bands, *lines], Axis("labels", whole=True), Axis("accuracy on all test images, %"), height=270)
    return picture("Accuracy by labels, of each strategy", [panel], width=WIDTH)
