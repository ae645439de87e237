"""Compare runs: what their specs differ in, and how many labels each needed. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from labelloop.trainer.v1.trainer_pb2 import GetRunResponse

from labelloop_cli.output import run_summary
from labelloop_cli.run_spec.fields import Document, to_document

Facts = dict[str, list[str]]


def flat(document: Document, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the fields of a spec with their paths and values, as text."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} entries" if value and isinstance(value[0], dict) else ", ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def differences(runs: Sequence[GetRunResponse]) -> Facts:
    """Return the fields in which the runs' specs differ, with the value of each run; empty for one that lacks it."""
    specs = [dict(flat(to_document(run.run.spec))) for run in runs]
    names = dict.fromkeys(name for spec in specs for name in spec)
    found = {name: [spec.get(name, "") for spec in specs] for name in names}
    return {name: values for name, values in found.items() if len(set(values)) > 1}


def outcomes(runs: Sequence[GetRunResponse]) -> Facts:
    """Return what became of each run: its state, labels and accuracy, and the labels that it took to be as accurate.

    The accuracy to reach is the lowest that one of the runs ended with, so that all of them reach it, where all are
    measured on samples of one kind.
    """
    found: Facts = {
        "state": [run_summary.state(run.run) for run in runs],
        "rounds": [str(len(run.rounds)) for run in runs],
        "labels": [run_summary.labels(run.run) for run in runs],
        "auto-labels": [str(run.run.auto_labels) for run in runs],
        "accuracy": [run_summary.short_accuracy(run.run) for run in runs],
        "measured on": [_measured_on(run) for run in runs],
    }
    target = target_accuracy(runs)
    if target is not None:
        found[f"labels to reach {target:.1%}"] = [_labels_to_reach(run, target) for run in runs]
    return found


def target_accuracy(runs: Sequence[GetRunResponse]) -> float | None:
    """Return the lowest of the runs' newest accuracies; None if one is not known, or they are of different kinds."""
    if len({_measured_on(run) for run in runs}) > 1:
        return None
    values = [_value(run, len(run.rounds) - 1) for run in runs if run.rounds]
    known = [value for value in values if value is not None]
    return min(known) if len(known) == len(runs) else None


def _measured_on(run: GetRunResponse) -> str:
    found = run_summary.estimate_of(run.run.latest, run.run.spec.protocol, run.run.pool.classes)
    return found.measured_on if found else run_summary.NONE


def _value(run: GetRunResponse, place: int) -> float | None:
    found = run_summary.estimate_of(run.rounds[place], run.run.spec.protocol, run.run.pool.classes)
    return found.share.value if found else None


def _labels_to_reach(run: GetRunResponse, target: float) -> str:
    for place, result in enumerate(run.rounds):
        value = _value(run, place)
        if value is not None and value >= target:
            return str(result.labels)
    return run_summary.NONE
