"""The study's results on a terminal: the content of the page without its curves."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from tests.study.plan import AT
from tests.study.results import Row, beaten, groups, savings, sentences, table


def tell(rows: Sequence[Row], console: Console) -> None:
    for pool, features, curves in groups(rows):
        title = f"{pool}, {features}: accuracy in % by labels"
        columns = ("strategy", "seeds", *map(str, AT))
        shown = Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        shown.show_edge = False
        for line in table(curves):
            at = [line["at"].get(labels) for labels in AT]
            shown.add_row(
                line["strategy"],
                str(line["seeds"]),
                *(f"{100 * cell[0]:.2f} ±{100 * cell[1]:.2f}" if cell else "–" for cell in at),
            )
        console.print(shown)
        for sentence in sentences(savings(curves), beaten(curves)):
            console.print(sentence, highlight=False)
