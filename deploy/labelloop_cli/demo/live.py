"""Show the demo's progress while it runs: the state of each experiment, the pace, and the time left."""

from __future__ import annotations

import time
from statistics import fmean

from labelloop.trainer.v1.trainer_pb2 import Phase, RunStatus
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from labelloop_cli.demo.plan import Experiment
from labelloop_cli.output import run_summary


def planned_rounds(experiment: Experiment) -> int:
    """Count the rounds of an experiment, each of which trains one model."""
    spec = experiment.spec
    first = min(spec.first_batch_size or spec.batch_size, spec.label_budget)
    rounds = bool(spec.label_budget) + -(-(spec.label_budget - first) // spec.batch_size)
    if spec.auto_label_batch_size:
        rounds += -(-spec.auto_label_budget // spec.auto_label_batch_size)
    return rounds


class LiveView:
    """A live table of all experiments; on a console that is no terminal, one line per finished run instead.

    Used as ``with LiveView(...) as view: view.update(status)``.
    """

    def __init__(self, console: Console, experiments: list[Experiment]) -> None:
        self._console = console
        self._names = list(dict.fromkeys(experiment.name for experiment in experiments))
        self._of = {experiment.run_id: experiment for experiment in experiments}
        self._statuses: dict[str, RunStatus] = {}
        self._begin = time.monotonic()
        self._rounds_before: int | None = None
        self._live = Live(get_renderable=self._picture, console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> LiveView:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def update(self, status: RunStatus) -> None:
        self._statuses[status.run_id] = status
        if not self._console.is_terminal and status.phase == Phase.PHASE_FINISHED:
            self._console.print(
                f"{self._seconds():6.1f} s  {status.run_id}: {status.round} rounds, {status.labels_paid} labels paid, "
                f"{status.auto_labels} auto-labels, {run_summary.accuracy(status)}",
                soft_wrap=True,
            )

    def _seconds(self) -> float:
        return time.monotonic() - self._begin

    def _picture(self) -> Group:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("experiment", "", "rounds", "labels", "auto-labels", "accuracy", ""):
            table.add_column(heading)
        for name in self._names:
            table.add_row(*self._row(name))
        return Group(table, Text(f"{self._seconds():.0f} s: {self.summary()}", style="bold"))

    def _row(self, name: str) -> list[Text | ProgressBar | str]:
        runs = [run_id for run_id, experiment in self._of.items() if experiment.name == name]
        statuses = [self._statuses[run_id] for run_id in runs if run_id in self._statuses]
        total = sum(planned_rounds(self._of[run_id]) for run_id in runs)
        done = sum(status.round for status in statuses)
        problems = [status.message for status in statuses if status.message and status.phase < Phase.PHASE_FINISHED]
        return [
            name if len(runs) == 1 else f"{name} ({len(runs)} runs)",
            ProgressBar(total=total, completed=done, width=24),
            f"{done}/{total}",
            str(sum(status.labels_paid for status in statuses)),
            str(sum(status.auto_labels for status in statuses)),
            _accuracy(statuses),
            Text(problems[0], style="yellow") if problems else "",
        ]

    def summary(self) -> str:
        """Summarise all experiments together: rounds done, rounds per second, and time left."""
        total = sum(planned_rounds(experiment) for experiment in self._of.values())
        done = sum(status.round for status in list(self._statuses.values()))  # a copy: Live renders in its own thread
        if self._rounds_before is None and self._statuses:
            self._rounds_before = done  # rounds done before a restart say nothing about the pace now
        fresh, seconds = done - (self._rounds_before or 0), self._seconds()
        pace = fresh / seconds if seconds else 0.0
        left = f"{(total - done) / pace:.0f} s left" if pace else "…"
        return f"{done} of {total} rounds, {pace:.1f} rounds/s, {left}"


def _accuracy(statuses: list[RunStatus]) -> str:
    """Return the accuracy of a run, or the mean of several runs' shares."""
    if len(statuses) == 1:
        return run_summary.short_accuracy(statuses[0])
    found = [run_summary.estimate_of(status.latest, status.spec.protocol) for status in statuses]
    values = [each.share.value for each in found if each and each.share.value is not None]
    return f"mean {fmean(values):.1%}" if values else run_summary.NONE
