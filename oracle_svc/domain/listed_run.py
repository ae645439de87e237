"""Summarise a run for lists of runs. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

from labelloop.domain.accuracy_estimate import MEASURED_ON, AccuracyEstimate
from labelloop.domain.proportion import Proportion
from labelloop.domain.summaries import Summaries
from labelloop.events.v1.events_pb2 import LabelSource, PoolPublished, RunSpec
from labelloop.oracle.v1.oracle_pb2 import Backlog
from labelloop.snapshots.v1.snapshots_pb2 import AccuracyEstimate as KeptEstimate
from labelloop.snapshots.v1.snapshots_pb2 import EndedRun as KeptRun

from oracle_svc.domain.backlog import backlog_of
from oracle_svc.domain.labeling_state import LabelingState


@dataclass(frozen=True)
class ListedRun:
    """What the list of runs shows of a run.

    Attributes:
        labels: Number of current labels.
        accuracy: Estimate for the newest model; None if there is none.
    """

    run_id: str
    spec: RunSpec
    pool: PoolPublished | None
    over: bool
    labels: int
    accuracy: AccuracyEstimate | None

    @property
    def for_people(self) -> bool:
        return self.spec.label_source == LabelSource.LABEL_SOURCE_QUEUE


@dataclass(frozen=True)
class EndedRun:
    """What is shown of a run that has ended, without its samples."""

    listed: ListedRun
    backlog: Backlog


def listed_run(labeling: LabelingState) -> ListedRun:
    """Return what the list of runs shows of a run."""
    progress = labeling.progress
    return ListedRun(
        labeling.run_id,
        labeling.spec,
        labeling.pool,
        labeling.over,
        len(progress.labels),
        progress.accuracy,
    )


def ended_run(labeling: LabelingState) -> EndedRun:
    """Return what is shown of a run that has ended: nothing of it is leased."""
    return EndedRun(listed_run(labeling), backlog_of(labeling, 0))


def _kept(accuracy: AccuracyEstimate) -> KeptEstimate:
    return KeptEstimate(
        measured_on=accuracy.measured_on,
        correct=accuracy.share.correct,
        total=accuracy.share.total,
        most_frequent=accuracy.guessing.correct if accuracy.guessing else None,
    )


def _read(kept: KeptEstimate) -> AccuracyEstimate:
    """Raise ValueError unless the counts are those of a share."""
    if not 0 < kept.total >= max(kept.correct, kept.most_frequent) or kept.measured_on not in MEASURED_ON:
        raise ValueError("the estimate of a run that has ended does not add up")
    measured_on = next(each for each in MEASURED_ON if each == kept.measured_on)
    guessing = Proportion(kept.most_frequent, kept.total) if kept.HasField("most_frequent") else None
    return AccuracyEstimate(measured_on, Proportion(kept.correct, kept.total), guessing)


def _dumped(ended: EndedRun) -> bytes:
    listed = ended.listed
    message = KeptRun(
        spec=listed.spec,
        pool=listed.pool,
        labels=listed.labels,
        backlog=ended.backlog,
        estimate=_kept(listed.accuracy) if listed.accuracy else None,
    )
    return message.SerializeToString()


def _loaded(data: bytes) -> EndedRun:
    message = KeptRun.FromString(data)
    listed = ListedRun(
        message.backlog.run_id,
        message.spec,
        message.pool if message.HasField("pool") else None,
        True,
        message.labels,
        _read(message.estimate) if message.HasField("estimate") else None,
    )
    return EndedRun(listed, message.backlog)


ENDED_RUNS = Summaries(_dumped, _loaded)
"""How ended runs are kept in a snapshot."""
