"""Runs whose files are edited between any two steps: a label never stands at another sample than the one shown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.errors import LabelloopError
from labelloop.eventlog.log import Recorded
from labelloop.eventlog.projections import RunProjections
from labelloop.eventlog.subjects import subject_of
from labelloop.events.v1.events_pb2 import (
    DatasetSource,
    Event,
    LabelSource,
    LabelsRequested,
    ModelTrained,
    Protocol,
    RunFinished,
    RunSpec,
)
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetRequest, DescribeDatasetResponse
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.trainer.v1.trainer_pb2 import StartRunRequest
from PIL import Image

from oracle_svc.bootstrap import Oracle
from oracle_svc.datasets import scratch
from oracle_svc.datasets.cache import DatasetCache
from oracle_svc.datasets.places import Places
from oracle_svc.domain.labeling_state import LabelingState
from tests.published import artifacts_in
from tests.unused import UNUSED
from trainer_svc.domain.run_state import RunState
from trainer_svc.service import TrainerService

BATCH = 2
CLASSES = ("0", "1", "2")


class MemoryLog:
    """An event log that applies each event to all projections as it is written."""

    def __init__(self, *projections: RunProjections[Any]) -> None:
        self._projections, self._standing = projections, dict[str, Recorded]()

    async def append_once(self, event: Event) -> Recorded:
        subject = subject_of(event)
        if subject not in self._standing:
            self._standing[subject] = recorded = Recorded(event, len(self._standing) + 1)
            for each in self._projections:
                each.apply(recorded)
        return self._standing[subject]

    async def newest(self, run_id: str) -> int:
        standing = (each for each in self._standing.values() if each.event and each.event.run_id == run_id)
        return max((each.sequence for each in standing), default=0)


class Files:
    """A pool that somebody edits: an array with labels, or a folder with a folder of pictures for each class.

    The class of a sample can be seen in it: its first pixel, modulo 3. Labels are right whenever a run may start.
    """

    def __init__(self, folder: Path, random: Random, *, pictures: bool) -> None:
        self._folder, self._random, self._pictures = folder, random, pictures
        self._values = {f"{number:02}": number for number in range(4, 10)}
        self._write()

    def source(self) -> DatasetSource:
        if self._pictures:
            return DatasetSource(name=str(self._folder / "pool"))
        return DatasetSource(name=str(self._folder / "x.npy"), labels=str(self._folder / "y.npy"))

    def edit(self) -> None:
        kind, names = self._random.choice(["add", "remove", "replace", "swap", "rename"]), [*self._values]
        one, other = self._random.sample(names, 2)
        if kind == "add":
            self._values[f"{self._random.randint(10, 99):02}"] = self._random.randint(0, 250)
        elif kind == "remove" and len(names) > 5:
            del self._values[one]
        elif kind == "replace":
            self._values[one] = self._random.randint(0, 250)
        elif kind == "swap":
            self._values[one], self._values[other] = self._values[other], self._values[one]
        elif kind == "rename":
            self._values[f"{self._random.randint(10, 99):02}"] = self._values.pop(one)
        self._write()

    def _write(self) -> None:
        if self._pictures:
            self._write_pictures()
            return
        values = [self._values[name] for name in sorted(self._values)]
        pictures = np.full((len(values), 2, 2), 255, np.uint8)  # of full brightness, so that none is brightened
        pictures[:, 0, 0] = values
        np.save(self._folder / "x.npy", pictures)
        np.save(self._folder / "y.npy", np.array([value % 3 for value in values]))

    def _write_pictures(self) -> None:
        wanted = {Path("pool", str(value % 3), f"{name}.png"): value for name, value in self._values.items()}
        for label in CLASSES:
            (self._folder / "pool" / label).mkdir(parents=True, exist_ok=True)
        for path in (self._folder / "pool").rglob("*.png"):
            if path.relative_to(self._folder) not in wanted:
                path.unlink()
        for path, value in wanted.items():
            Image.new("L", (2, 2), value).save(self._folder / path)


@dataclass
class Services:
    """A trainer and an oracle that share a log and an artifact store."""

    trainer: TrainerService
    oracle: Oracle
    runs: RunProjections[RunState]

    @classmethod
    def begin(cls, folder: Path) -> Services:
        runs, labelings = RunProjections(RunState.begin), RunProjections(LabelingState.begin)
        log, artifacts = cast(Any, MemoryLog(runs, labelings)), artifacts_in(folder)
        cache = DatasetCache(None, folder / "cache", Places(folder))
        oracle = Oracle(log, artifacts, cache, UNUSED, UNUSED, samples_dir=folder / "s", projections=labelings)
        service = oracle.service()

        class Stub:
            async def DescribeDataset(  # noqa: N802
                self, request: DescribeDatasetRequest, timeout: float
            ) -> DescribeDatasetResponse:
                return await service.DescribeDataset(request, UNUSED)

        return cls(TrainerService(runs, log, artifacts, cast(Any, Stub())), oracle, runs)

    async def start(self, run_id: str, source: DatasetSource, continues: str = "") -> None:
        spec = RunSpec(
            dataset=source,
            strategy=Strategy.STRATEGY_LEAST_CONFIDENCE,
            first_strategy=Strategy.STRATEGY_IN_ORDER,
            batch_size=BATCH,
            label_budget=BATCH,
            protocol=Protocol.PROTOCOL_HONEST,
            label_source=LabelSource.LABEL_SOURCE_DATASET,
            report_every=1,
        )
        await self.trainer.StartRun(StartRunRequest(run_id=run_id, spec=spec, continues=continues), UNUSED)

    async def write(self, run_id: str, round_: int, **payload: Any) -> None:
        await self.oracle.log.append_once(Event(run_id=run_id, round=round_, **payload))

    async def shown(self, run_id: str, sample_id: int) -> int:
        """The value of the picture that people see of a sample."""
        labeling = self.oracle.projections.get(run_id)
        picture = await self.oracle.samples.picture(labeling, sample_id)
        return int(np.asarray(Image.open(BytesIO(picture.content)))[0, 0])

    async def check(self, run_id: str) -> None:
        """Check that each label, inherited or new, stands at a sample that shows its class."""
        for example in self.runs.get(run_id).labelled:
            assert await self.shown(run_id, example.sample_id) % 3 == example.label


async def carry_out(services: Services, run_id: str, random: Random, disturb: Callable[[], None]) -> None:
    """Carry out a started run, with files edited before each step."""
    disturb()
    await services.oracle.run_controller.advance(run_id)
    state = services.runs.get(run_id)
    if state.ended:
        assert state.ended.kind == "run_failed"
        assert "changed" in state.ended.why
        return
    assert state.pool
    known = {example.sample_id for example in state.labelled}
    asked = random.sample([row for row in range(state.pool.sample_count) if row not in known], BATCH)
    seen = {sample_id: await services.shown(run_id, sample_id) for sample_id in asked}
    disturb()
    await services.write(run_id, 0, labels_requested=LabelsRequested(sample_ids=asked, score=[0.0] * BATCH))
    await services.oracle.run_controller.advance(run_id)
    disturb()
    assert {sample_id: await services.shown(run_id, sample_id) for sample_id in asked} == seen
    await services.write(run_id, 1, model_trained=ModelTrained(model_sha256="a" * 64))
    await services.write(run_id, 1, run_finished=RunFinished(reason="done"))
    await services.check(run_id)


@given(
    seed=st.integers(0, 10_000),
    pictures=st.booleans(),
    is_large=st.booleans(),
    edits=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_a_label_stands_at_the_sample_that_was_shown(
    seed: int, pictures: bool, is_large: bool, edits: list[bool]
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        if is_large:  # as if pools were too large for memory
            patch.setattr(scratch, "IN_MEMORY_BYTES", 0)
        asyncio.run(live(Path(folder), Random(seed), iter(edits), pictures=pictures))


async def live(folder: Path, random: Random, edits: Any, *, pictures: bool) -> None:
    files, services = Files(folder, random, pictures=pictures), Services.begin(folder)

    def disturb() -> None:
        if next(edits, False):
            files.edit()

    await services.start("first", files.source())
    await carry_out(services, "first", random, disturb)
    for name, source in (("named", files.source()), ("unnamed", DatasetSource())):
        disturb()
        reason = await refusal(services.start(name, source, continues="first"))
        assert reason in {"", "DATASET_CHANGED", "CLASSES_CHANGED", "TOO_FEW_CLASSES", "BUDGET_OVER_POOL"}
        if not reason:
            await carry_out(services, name, random, disturb)


async def refusal(work: Awaitable[None]) -> str:
    """The reason of the error that ``work`` raises; empty if it raises none."""
    try:
        await work
    except LabelloopError as error:
        return error.reason
    return ""
