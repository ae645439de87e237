"""Advance each run: publish its pool, provide or resolve its labels, and enforce its deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from datetime import UTC, datetime

import numpy as np
from labelloop.artifacts.formats import PoolManifest, decode_labels
from labelloop.artifacts.store import ArtifactStore
from labelloop.domain.run_owners import RunOwners
from labelloop.errors import Corrupt, InvalidInput, LimitExceeded, NotFound, WrongState
from labelloop.eventlog.log import EventLog, Recorded
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import Event, LabelProvided, PoolPublished, RunFailed
from labelloop.observability import metrics
from labelloop.runtime.async_cache import AsyncCache
from numpy.typing import NDArray

from oracle_svc.datasets.cache import DatasetCache
from oracle_svc.datasets.files import file_name
from oracle_svc.datasets.publisher import holds_shards, publish
from oracle_svc.domain.answer_history import posteriors_at
from oracle_svc.domain.consensus import posteriors
from oracle_svc.domain.labeling_state import (
    AnswerLabels,
    Expire,
    LabelingState,
    PublishPool,
    Resolve,
    Wait,
    Withdraw,
    next_action,
)
from oracle_svc.domain.resolution import Posteriors, expire, settle, still_newest, to_weigh, weighs, withdrawals
from oracle_svc.metrics import queue_gauges
from oracle_svc.result_recorder import append_answers

_LABELS_KEPT = 4
_LOOK_EVERY_S = 0.5  # at most this often: deadlines are in seconds
_HOPELESS = (InvalidInput, NotFound, Corrupt, LimitExceeded)  # a retry would not help


class RunController:
    """Carries out the next actions of every run. Safe to repeat at any time: completed work is in the event log.

    What needs the dataset, and what several oracles would record alike, is left to the run's owner. Every oracle
    combines the results of several annotators, as each has to know which samples are disputed.
    """

    def __init__(
        self,
        projections: RunProjections[LabelingState],
        log: EventLog,
        dataset_cache: DatasetCache,
        artifacts: ArtifactStore,
        owners: RunOwners,
    ) -> None:
        self._projections, self._log, self._dataset_cache, self._artifacts = projections, log, dataset_cache, artifacts
        self._owners = owners
        self._published: dict[tuple[str, str], PoolPublished] = {}
        self._labels: AsyncCache[str, NDArray[np.int32]] = AsyncCache(self._read_labels, kept=_LABELS_KEPT)
        metrics.watch(projections, queue_gauges)

    async def advance(self, run_id: str) -> None:
        """Carry out one run's actions until it has to wait or the next one is another oracle's."""
        labeling = self._projections.get(run_id)
        while True:
            action = next_action(labeling, datetime.now(UTC))
            if not isinstance(action, Resolve) and not self._owners.mine(run_id):
                return
            match action:
                case PublishPool():
                    done = [await self._log.append_once(await self._publish(labeling))]
                case AnswerLabels(round_, sample_ids):
                    done = await self._answer(labeling, round_, sample_ids)
                case Resolve(answered):
                    weighed = await _weighed(labeling, answered, labeling.annotators)
                    events, disputed = settle(labeling, still_newest(labeling, answered), weighed)
                    labeling.disputed.update(disputed)
                    done = await append_answers(self._log, events)
                    labeling.mark_resolved(answered)
                    self._projections.notify(run_id)  # more annotators may be wanted now
                case Withdraw(results):
                    done = await append_answers(self._log, withdrawals(labeling, results))
                case Expire(sample_ids):
                    newest = {sample_id: labeling.newest_answer(sample_id) for sample_id in sample_ids}
                    weighed = await _weighed(labeling, newest, wanted=1)
                    done = await append_answers(self._log, expire(labeling, sample_ids, weighed))
                case Wait():
                    return
            for recorded in done:
                await self._projections.wait_for_append(recorded)

    async def _publish(self, labeling: LabelingState) -> Event:
        try:
            with self._telling(labeling.run_id):
                published = await self._published_pool(labeling)
        except _HOPELESS as error:  # fail the run: no label is paid for yet
            failed = RunFailed(reason=error.reason, message=error.message)
            return Event(run_id=labeling.run_id, round=0, run_failed=failed)
        return Event(run_id=labeling.run_id, round=0, pool_published=published)

    @contextmanager
    def _telling(self, run_id: str) -> Iterator[None]:
        """Tell that the pool is being read, while the block reads and stores it."""
        self._projections.set_progress(run_id, "the oracle reads the pool")
        try:
            yield
        finally:
            self._projections.set_progress(run_id, "")

    async def _published_pool(self, labeling: LabelingState) -> PoolPublished:
        """Publish the run's dataset, once for all runs of equal content.

        Raises InvalidInput if it is no longer what the run was started with, besides errors in reading it.
        """
        dataset = await self._dataset_cache.get(labeling.spec.dataset)
        if labeling.run_log.started.dataset_sha256 not in ("", dataset.sha256):
            message = f"the files of {dataset.name} have changed since the run was started: start a new run"
            raise InvalidInput("DATASET_CHANGED", message, field="dataset.name", name=dataset.name)
        key = dataset.sha256, dataset.description
        if key not in self._published:
            count = len(dataset.samples)

            def tell(stored: int) -> None:
                progress = f"the oracle stores the pool: {stored:,} of {count:,} samples"
                self._projections.set_progress(labeling.run_id, progress)

            tell(0)
            self._published[key] = await publish(dataset, self._artifacts, tell)
        return self._published[key]

    async def _answer(self, labeling: LabelingState, round_: int, sample_ids: tuple[int, ...]) -> list[Recorded]:
        assert labeling.pool  # nothing is requested before the pool is published
        digest = labeling.pool.labels_sha256
        labels = await (self._labels.get(digest) if digest else self._labels_in_files(labeling, labeling.pool))
        source = f"dataset:{file_name(labeling.spec.dataset.name)}"
        given = [LabelProvided(sample_id=each, label=int(labels[each]), source=source) for each in sample_ids]
        events = [Event(run_id=labeling.run_id, round=round_, label_provided=label) for label in given]
        return await append_answers(self._log, events)

    async def _read_labels(self, digest: str) -> NDArray[np.int32]:
        return await asyncio.to_thread(decode_labels, await self._artifacts.get(digest))

    async def _labels_in_files(self, labeling: LabelingState, pool: PoolPublished) -> NDArray[np.int32]:
        """Read the labels of a run of an earlier release, which did not publish them.

        Raises WrongState if the files hold another pool than the one published, or no labels.
        """
        dataset = await self._dataset_cache.get(labeling.spec.dataset)
        if dataset.labels is None:
            message = f"{dataset.name} has lost its labels since the run was started; bring them back"
            raise WrongState("LABELS_GONE", message, dataset=dataset.name)
        published = await asyncio.to_thread(PoolManifest.from_bytes, await self._artifacts.get(pool.pool_sha256))
        if not await asyncio.to_thread(holds_shards, dataset.samples, published.shards):
            message = (
                f"the files of {dataset.name} have changed since the pool was published; bring back what they held"
            )
            raise WrongState("DATASET_CHANGED", message, dataset=dataset.name)
        return dataset.labels


async def _weighed(labeling: LabelingState, answered: Mapping[int, int], wanted: int) -> Posteriors:
    """Return class posteriors for these samples if the run's agreement rule weighs annotators, else none.

    Args:
        answered: Running number of each sample's newest result.
        wanted: Number of votes without which a sample is not decided.
    """
    if labeling.resolution_version:
        if not weighs(labeling):
            return {}
        people = deepcopy(labeling.run_log.annotators)  # the log may change them meanwhile
        return await asyncio.to_thread(posteriors_at, labeling.history, answered, labeling.gold, wanted, people)
    votes = to_weigh(labeling, answered)
    return await asyncio.to_thread(posteriors, votes, labeling.gold) if votes else {}


async def watch_deadlines(projections: RunProjections[LabelingState]) -> None:
    """Notify each run when its deadline has passed, until cancelled."""
    with projections.subscribe() as subscribe:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            subscribe.clear()
            now = datetime.now(UTC)
            waiting = [labeling for labeling in projections.runs.going() if labeling.deadline]
            for labeling in waiting:
                if labeling.deadline and labeling.deadline <= now:
                    projections.notify(labeling.run_id)
            ahead = [
                (labeling.deadline - now).total_seconds()
                for labeling in waiting
                if labeling.deadline and labeling.deadline > now
            ]
            subscribe.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(ahead, default=None)):
                    await subscribe.wait()
