"""Projections of runs that request labels from annotators."""

from __future__ import annotations

from datetime import UTC, datetime

from labelloop.eventlog.log import Recorded
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import (
    DatasetSource,
    Event,
    GoldSample,
    LabelSource,
    LabelsRequested,
    PoolPublished,
    QueueSpec,
    RunSpec,
    RunStarted,
)

from oracle_svc.domain.labeling_state import LabelingState

ASKED, GOLD, OTHER = 7, 8, 9
"""Samples: one that runs request, a gold sample of theirs, and one of neither kind."""


_UNPUBLISHED = PoolPublished(pool_sha256="0" * 64, sample_count=300, dtype="uint8", shape=[6, 6], classes=["a", "b"])


class Log:
    """An event log of runs, applied to their projections."""

    def __init__(self) -> None:
        self.projections: RunProjections[LabelingState] = RunProjections(LabelingState.begin)
        self._sequence = 0

    def write(self, event: Event) -> None:
        self._sequence += 1
        event.recorded_at.FromDatetime(datetime.now(UTC))
        self.projections.apply(Recorded(event, self._sequence))

    def begin(
        self,
        run_id: str,
        dataset: DatasetSource,
        source: LabelSource.ValueType,
        pool: PoolPublished = _UNPUBLISHED,
        guidelines: str = "",
    ) -> LabelingState:
        queue = QueueSpec(gold=[GoldSample(sample_id=GOLD, label=1)], guidelines=guidelines)
        spec = RunSpec(dataset=dataset, label_source=source, label_budget=5, batch_size=5, queue=queue)
        self.write(Event(run_id=run_id, run_started=RunStarted(spec=spec)))
        self.write(Event(run_id=run_id, pool_published=pool))
        self.write(Event(run_id=run_id, labels_requested=LabelsRequested(sample_ids=[ASKED], score=[0.0])))
        return self.projections.get(run_id)
