"""Render a run's progress as JSON for the labelling page. Pure functions.

There are two messages, one for each label and one for each round, because the curves of a long run are large and a
label changes none of them.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from oracle_svc.domain.progress import LastLabel, Progress, RoundChange


def now_json(progress: Progress) -> dict[str, Any]:
    """Return what each label may change. Shares and accuracies are in [0, 1]."""
    latest = progress.points[-1] if progress.points else None
    blind = progress.spec.queue.hide_predictions
    return {
        "phase": progress.phase,
        "round": progress.round,
        "labels": len(progress.labels),
        "budget": progress.spec.label_budget,
        "skipped": len(progress.answers.skipped),
        "auto_labels": progress.run_log.auto_labels,
        "open": len(progress.run_log.open),
        "batch": progress.batch_size,
        "counts": [progress.counts[each] for each in range(len(progress.pool.classes if progress.pool else ()))],
        "compared": 0 if blind else progress.compared,  # how they change tells what was predicted
        "agreed": 0 if blind else progress.agreed,
        "accuracy": asdict(latest) if latest else None,
        "last": _last(progress.last, hide_opinion=blind),
        "ended": asdict(progress.ended) if progress.ended else None,
    }


def curves_json(progress: Progress) -> dict[str, Any]:
    """Return what each round changes. Shares and accuracies are in [0, 1]."""
    return {
        "learning": [asdict(point) for point in progress.points],
        "confidence": [asdict(batch) for batch in progress.batches],
        # In the order in which samples are asked for: with predictions hidden, people are not to know.
        "newest_batch": [] if progress.spec.queue.hide_predictions else progress.sureness,
        "change": _change(progress.change),
    }


def curves_version(progress: Progress) -> tuple[int, ...]:
    """Return a version that differs if :func:`curves_json` does."""
    return len(progress.points), len(progress.batches), len(progress.sureness)


def _last(last: LastLabel | None, *, hide_opinion: bool) -> dict[str, Any] | None:
    if last is None:
        return None
    shown = None if hide_opinion or last.prediction is None else {**asdict(last.prediction), "agreed": last.agreed}
    return {"sample_id": last.sample_id, "label": last.label, "annotator": last.annotator, "opinion": shown}


def _change(change: RoundChange | None) -> dict[str, Any] | None:
    return {**asdict(change), "gain_per_label": change.gain_per_label} if change else None
