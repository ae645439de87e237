"""Render a run's progress as JSON for the labelling page. Pure functions.

There are two messages, one for each label and one for each round, because the curves of a long run are large and a
label changes none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from labelloop.domain.accuracy_estimate import AccuracyEstimate
from labelloop.domain.hold_ups import HoldUp
from labelloop.domain.proportion import Proportion
from labelloop.domain.run_stage import stage_of

from oracle_svc.domain.progress import LastLabel, Point, Progress, RoundChange

_POINTS_MAX = 300


def now_json(progress: Progress, held_up: Sequence[HoldUp] = ()) -> dict[str, Any]:
    """Return what each label may change. Shares and accuracies are in [0, 1].

    Args:
        held_up: What holds the run up now, long steps among it.
    """
    at_work = [each.problem for each in held_up if each.at_work]
    blind = progress.spec.queue.hide_predictions
    # How agreement changes tells what was predicted.
    compared, agreed = (0, 0) if blind else (progress.compared, progress.agreed)
    return {
        "phase": progress.phase,
        "doing": "; ".join(at_work) or stage_of(progress.run_log),
        "held_up": [_hold_up(each) for each in held_up if not each.at_work],
        "round": progress.round,
        "labels": len(progress.labels),
        "budget": progress.spec.label_budget,
        "skipped": len(progress.answers.skipped),
        "auto_labels": progress.run_log.auto_labels,
        "open": len(progress.run_log.open),
        "batch": progress.batch_size,
        "counts": [progress.counts[each] for each in range(len(progress.pool.classes if progress.pool else ()))],
        "compared": compared,
        "agreed": agreed,
        "agreement": _agreement(agreed, compared),
        "accuracy": accuracy_json(progress.accuracy) if progress.accuracy else None,
        "last": _last(progress.last, hide_opinion=blind),
        "ended": asdict(progress.ended) if progress.ended else None,
    }


def _hold_up(hold_up: HoldUp) -> dict[str, Any]:
    """Return a hold-up; ``since`` is in seconds since 1970."""
    names = ("service", "tool", "direction", "problem", "since")
    return {name: getattr(hold_up, name) for name in names}


def curves_json(progress: Progress) -> dict[str, Any]:
    """Return what each round changes. Shares and accuracies are in [0, 1]."""
    return {
        "learning": [_point(point) for point in thinned(progress.points)],
        "confidence": [asdict(batch) for batch in progress.batches],
        # In the order in which samples are asked for: with predictions hidden, people are not to know.
        "newest_batch": [] if progress.spec.queue.hide_predictions else progress.sureness,
        "change": _change(progress.change),
    }


def thinned(points: Sequence[Point]) -> Sequence[Point]:
    """Return at most 300 of the points, evenly spread, with the newest: a drawing is no wider."""
    step = -(-len(points) // _POINTS_MAX) or 1
    return points[::-1][::step][::-1]


def curves_version(progress: Progress) -> tuple[int, ...]:
    """Return a version that differs if :func:`curves_json` does."""
    return len(progress.points), len(progress.batches), len(progress.sureness)


def _last(last: LastLabel | None, *, hide_opinion: bool) -> dict[str, Any] | None:
    if last is None:
        return None
    shown = None if hide_opinion or last.prediction is None else {**asdict(last.prediction), "agreed": last.agreed}
    return {"sample_id": last.sample_id, "label": last.label, "annotator": last.annotator, "opinion": shown}


def accuracy_json(found: AccuracyEstimate) -> dict[str, Any]:
    """Return an estimate: its figures and its texts. ``value`` is null where only a range is known."""
    share = found.share
    return {
        "measured_on": found.measured_on,
        "name": found.name,
        "text": found.text,
        "headline": share.headline,
        "short": share.short,
        "beside": found.beside,
        "value": share.value,
        "low": share.low,
        "high": share.high,
        "correct": share.correct,
        "total": share.total,
    }


def _agreement(agreed: int, compared: int) -> str | None:
    """Return the share of labels that equal the prediction, in per cent; null where they are too few for a share."""
    share = Proportion(agreed, compared) if compared else None
    return share.headline if share and not share.only_range else None


def _point(point: Point) -> dict[str, Any]:
    own = {"round": point.round, "labels": point.labels, "auto_labels": point.auto_labels}
    return own | accuracy_json(point.estimate)


def _change(change: RoundChange | None) -> dict[str, Any] | None:
    if change is None:
        return None
    return {
        "round": change.round,
        "labels": change.labels,
        "before": accuracy_json(change.before),
        "after": accuracy_json(change.after),
        "gain_per_label": change.gain_per_label,
    }
