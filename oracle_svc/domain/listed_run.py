"""Summarise a run for lists of runs. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

from labelloop.domain.summaries import Summaries
from labelloop.events.v1.events_pb2 import LabelSource, PoolPublished, RunSpec
from labelloop.oracle.v1.oracle_pb2 import Backlog
from labelloop.snapshots.v1.snapshots_pb2 import EndedRun as KeptRun

from oracle_svc.domain.backlog import backlog_of
from oracle_svc.domain.labeling_state import LabelingState


@dataclass(frozen=True)
class ListedRun:
    """What the list of runs shows of a run.

    Attributes:
        labels: Number of current labels.
        accuracy: Of the newest model that was measured, in [0, 1]; None if none was.
        guessing: As of that model's point.
    """

    run_id: str
    spec: RunSpec
    pool: PoolPublished | None
    over: bool
    labels: int
    accuracy: float | None
    guessing: float | None

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
    newest = progress.points[-1] if progress.points else None
    return ListedRun(
        labeling.run_id,
        labeling.spec,
        labeling.pool,
        labeling.over,
        len(progress.labels),
        newest.accuracy if newest else None,
        newest.guessing if newest else None,
    )


def ended_run(labeling: LabelingState) -> EndedRun:
    """Return what is shown of a run that has ended: nothing of it is leased."""
    return EndedRun(listed_run(labeling), backlog_of(labeling, 0))


def _dumped(ended: EndedRun) -> bytes:
    listed = ended.listed
    message = KeptRun(
        spec=listed.spec,
        pool=listed.pool,
        labels=listed.labels,
        accuracy=listed.accuracy,
        guessing=listed.guessing,
        backlog=ended.backlog,
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
        message.accuracy if message.HasField("accuracy") else None,
        message.guessing if message.HasField("guessing") else None,
    )
    return EndedRun(listed, message.backlog)


ENDED_RUNS = Summaries(_dumped, _loaded)
"""How ended runs are kept in a snapshot."""
