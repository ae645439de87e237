"""Load results as a page and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined
from labelloop_cli.load.figures import PERCENTILES

from tests.load.charts import latency_and_throughput
from tests.load.machine import described
from tests.load.results import Result

_OTHERS_SHARE_MAX = 0.1


def write(results: Sequence[Result], folder: Path, where: str, *, checked_by_models: bool) -> None:
    """Write ``results.json`` and ``report.html``; ``where`` names the system under load. If not ``checked_by_models``,
    answers were compared with the scorer's own before the load."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps([result.as_json() for result in results], indent=2) + "\n")
    names = list(dict.fromkeys(result.name for result in results))
    charts = {name: latency_and_throughput([result for result in results if result.name == name]) for name in names}
    loader = ChoiceLoader(
        [FileSystemLoader(Path(__file__).with_name("templates")), PackageLoader("labelloop_cli.reporting")]
    )
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("load.html.j2").render(
        results=results,
        charts=charts,
        machine=described(),
        where=where,
        checked_by_models=checked_by_models,
        percentiles=PERCENTILES,
        others=max((result.share.others for result in results if result.share), default=0.0),
        others_max=_OTHERS_SHARE_MAX,
    )
    (folder / "report.html").write_text(page)
