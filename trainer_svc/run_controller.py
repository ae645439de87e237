"""Carry out the steps of a run: learn features, request labels, fit models, certify, auto-label and finish."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import structlog
import torch
from labelloop.artifacts.store import ArtifactStore
from labelloop.domain.duplicates import Duplicates
from labelloop.domain.run_owners import RunOwners
from labelloop.errors import InvalidInput, LimitExceeded
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import (
    Accuracy,
    AutoLabelsCertified,
    Event,
    FeatureKind,
    FeaturesLearned,
    LabelsRequested,
    ModelTrained,
    PoolPublished,
    Protocol,
    Purpose,
    RunFailed,
    RunFinished,
    SamplesAutoLabelled,
)
from labelloop.observability import metrics, tracing
from labelloop.scorer.v1.scorer_pb2 import FeatureMethod, RankPoolResponse, Strategy
from pyroaring import BitMap
from structlog.contextvars import bind_contextvars

from trainer_svc.accuracies import recorded
from trainer_svc.domain.equal_samples import spare
from trainer_svc.domain.expected_state import expected_state
from trainer_svc.domain.guarantee import certify
from trainer_svc.domain.policy import (
    AutoLabel,
    Certify,
    Finish,
    Fit,
    LearnFeatures,
    RequestLabels,
    ToTake,
    Wait,
    next_step,
)
from trainer_svc.domain.run_state import RunState
from trainer_svc.domain.seeds import seed_for
from trainer_svc.domain.spec_validation import check_width
from trainer_svc.domain.stopping import looks_at_stop_set
from trainer_svc.metrics import AUTO_LABELS, FIT_SECONDS, ROUNDS, run_gauges
from trainer_svc.model.adam_softmax import AdamState, start_state
from trainer_svc.model.fit import Figures, FitJob, FitResult, carry_out
from trainer_svc.pool_progress import PoolProgress
from trainer_svc.run_cache import DuplicateSets, EvaluationSets, RunCache
from trainer_svc.scorers.client import ScorerClient
from trainer_svc.scorers.columns import Columns
from trainer_svc.scorers.rank_merge import unpack
from trainer_svc.step_ahead import StepAhead

_FASTER_WITH = "pip install 'labelloop[llvm]'"
_HOPELESS = (InvalidInput, LimitExceeded)  # a retry would fail in the same way
_FEATURE_SEED = 0  # the seed of feature learning: the same for all runs on a pool, so that they share the features
_METHODS = {
    FeatureKind.FEATURE_KIND_STANDARDIZED: FeatureMethod.FEATURE_METHOD_STANDARDIZED,
    FeatureKind.FEATURE_KIND_SCATTERING: FeatureMethod.FEATURE_METHOD_SCATTERING,
}

log = structlog.get_logger()


class _Drawn(NamedTuple):
    """Control samples drawn for a request.

    Attributes:
        ranked: Samples to request as controls.
        passed: Samples that were taken before and now count as controls too.
    """

    ranked: RankPoolResponse
    passed: list[int]


class RunController:
    """Advances runs from step to step, and records the result of each step in the event log.

    Fits run in ``executor``, whose threads must have called ``settle_arithmetic``.
    """

    def __init__(
        self,
        projections: RunProjections[RunState],
        log: EventLog,
        scorer_client: ScorerClient,
        artifacts: ArtifactStore,
        executor: Executor,
        owners: RunOwners,
        pool_progress: PoolProgress | None = None,
    ) -> None:
        self._projections, self._log, self._scorer_client, self._artifacts, self._executor, self._owners = (
            projections,
            log,
            scorer_client,
            artifacts,
            executor,
            owners,
        )
        self._pool_progress = pool_progress or PoolProgress(projections, scorer_client)
        self._evaluation_sets = EvaluationSets(scorer_client, artifacts)
        self._duplicate_sets = DuplicateSets(artifacts)
        self._caches: dict[str, RunCache] = {}
        metrics.watch(projections, run_gauges)

    async def advance(self, run_id: str) -> None:
        """Advance a run until it has ended, waits for an event from elsewhere, or is another trainer's.

        Safe to call at any time, and again. A run fails if a step raises InvalidInput or LimitExceeded.
        """
        ahead = StepAhead(self._watched)
        try:
            while self._owners.mine(run_id):
                # Another trainer may advance the run all the same: each step uses one snapshot of the state throughout.
                state = self._projections.get(run_id).as_it_stands()
                if state.pool:
                    state.duplicates = await self._duplicate_sets.get(state.pool)
                bind_contextvars(round=state.round)
                step = next_step(state)
                if isinstance(step, Wait):
                    break
                try:
                    event = await ahead.take(state, step)
                except _HOPELESS as error:
                    failed = RunFailed(reason=error.reason, message=error.message)
                    event = Event(run_id=run_id, round=state.round + 1, run_failed=failed)
                await self._append(event, state.duplicates, ahead)
        finally:
            await ahead.give_up()
        if self._projections.get(run_id).over or not self._owners.mine(run_id):
            self._caches.pop(run_id, None)

    async def _append(self, event: Event, duplicates: Duplicates, ahead: StepAhead) -> None:
        """Record a step, and meanwhile begin the next one.

        If another trainer has recorded this step first, its event stands, and the run continues from that.
        """
        event.recorded_at.GetCurrentTime()
        now = replace(self._projections.get(event.run_id), duplicates=duplicates)
        ahead.begin(expected_state(now, event))
        recorded = await self._log.append_once(event)
        if recorded.ours:
            _count(event)
        else:
            await ahead.give_up()
        await self._projections.wait_for_append(recorded)

    async def _watched(self, state: RunState, step: ToTake) -> Event:
        """Carry out a step and tell how far scorers are, if it takes long; return the event that records its result."""
        bind_contextvars(round=state.round)
        with self._pool_progress.step(state):
            return await self._take(state, step)

    async def _take(self, state: RunState, step: ToTake) -> Event:
        """Carry out a step and return the event that records its result."""
        match step:
            case LearnFeatures():
                return await self._learn_features(state)
            case RequestLabels():
                return await self._request_labels(state, step)
            case Certify():
                return await self._certify(state)
            case AutoLabel(count, part):
                return await self._auto_label(state, count, part)
            case Fit():
                return await self._fit(state)
            case Finish(reason):
                return Event(run_id=state.run_id, round=state.round, run_finished=RunFinished(reason=reason))

    async def _learn_features(self, state: RunState) -> Event:
        pool, begin = _pool(state), time.perf_counter()
        given = state.spec.features == FeatureKind.FEATURE_KIND_GRAPH
        graph, method = (
            pool.graph_sha256 if given else "",
            _METHODS.get(state.spec.features, FeatureMethod.FEATURE_METHOD_PATCHES),
        )
        learned = await self._scorer_client.learn(pool.pool_sha256, _FEATURE_SEED, graph, method)
        check_width(state.spec, pool, len(state.training), learned.feature_count)
        features = FeaturesLearned(
            features_sha256=await self._artifacts.put(learned.graph),
            feature_count=learned.feature_count,
            learn_s=time.perf_counter() - begin,
        )
        return Event(run_id=state.run_id, round=0, features_learned=features)

    async def _request_labels(self, state: RunState, step: RequestLabels) -> Event:
        seed = seed_for(state.spec.seed, "audit") if step.audit else _seed(state, step.strategy)
        chosen = [await self._rank(state, step.count, step.strategy, seed=seed)] if step.count else []
        request = LabelsRequested(strategy=step.strategy, part=step.part)
        if step.control:
            taken = state.run_log.taken.copy()
            taken.update(*(ranked.sample_ids for ranked in chosen))
            drawn = await self._draw_control(state, step.control, taken)
            request.also_control.extend(drawn.passed)
            chosen.append(drawn.ranked)
        self._lay_out(state, chosen)
        for ranked in chosen:
            request.sample_ids.extend(ranked.sample_ids)
            request.predicted.extend(ranked.predicted)
            request.confidence.extend(ranked.confidence)
            request.score.extend(ranked.score)
        if step.audit:
            request.purposes.extend([Purpose.PURPOSE_AUDIT] * len(request.sample_ids))
        elif step.control:
            first = len(request.sample_ids) - step.control
            request.purposes.extend([Purpose.PURPOSE_CHOSEN] * first + [Purpose.PURPOSE_CONTROL] * step.control)
        return Event(run_id=state.run_id, round=state.round, labels_requested=request)

    async def _draw_control(self, state: RunState, count: int, taken: BitMap) -> _Drawn:
        """Draw the next ``count`` samples that are not ``taken``, in a random order of the pool fixed for the run.

        Taken samples that come earlier in this order than the last one drawn count as controls too, and need no second
        label. Without them, the controls would lack the samples that a strategy tends to choose.
        """
        seed = seed_for(state.spec.seed, "control")
        ranked = await self._rank(state, count, Strategy.STRATEGY_RANDOM, taken, seed=seed)
        new = len(taken - _spare(state) - BitMap(state.controls)) + count
        order = await self._random_order(state, new, state.controls, seed)
        return _Drawn(ranked, list(taken & BitMap(order[: order.index(ranked.sample_ids[-1])])))

    async def _random_order(self, state: RunState, count: int, left_out: Iterable[int], seed: int) -> list[int]:
        """Return the first samples in random order. No sample need be read to know them, so that no model is named."""
        pool, leave_out = _pool(state).pool_sha256, _spare(state) | BitMap(left_out)
        ranked = await self._scorer_client.rank(
            pool, "", Strategy.STRATEGY_RANDOM, count, leave_out, seed, features="", with_samples=False
        )
        return list(ranked.sample_ids)

    async def _auto_label(self, state: RunState, count: int, part: int) -> Event:
        if state.run_log.certificate:
            return await self._take_certified(state, count, part)
        ranked = await self._rank(state, count, Strategy.STRATEGY_MOST_CONFIDENT)
        self._lay_out(state, [ranked])
        given = SamplesAutoLabelled(
            sample_ids=ranked.sample_ids, classes=ranked.predicted, confidence=ranked.confidence, part=part
        )
        return Event(run_id=state.run_id, round=state.round, samples_auto_labelled=given)

    async def _take_certified(self, state: RunState, count: int, part: int) -> Event:
        """Label the next samples that the certificate allows. They are not trained on, so that none is read."""
        left = (await self._rest(state)).rows(slice(count))
        given = SamplesAutoLabelled(
            sample_ids=left.sample_ids.tolist(),
            classes=left.predicted.tolist(),
            confidence=left.confidence.tolist(),
            part=part,
        )
        return Event(run_id=state.run_id, round=state.round, samples_auto_labelled=given)

    async def _rest(self, state: RunState) -> Columns:
        """Rank all samples that were never chosen, most confident first."""
        return await self._cache_of(state).rest(state.head_sha256, _spare(state) | state.run_log.taken)

    async def _certify(self, state: RunState) -> Event:
        """Determine from the audit which of the unlabelled samples may be auto-labelled."""
        guarantee = state.spec.guarantee
        audited = [example for example in state.audit if example.confidence is not None]
        confidence = np.array([example.confidence for example in audited], np.float32)
        correct = np.array([example.predicted == example.label for example in audited], bool)
        left = await self._rest(state)
        work = partial(certify, confidence, correct, target=guarantee.target_accuracy, level=guarantee.confidence)
        audit = await asyncio.get_running_loop().run_in_executor(self._executor, work, left.confidence)
        certificate = AutoLabelsCertified(
            threshold=audit.threshold,
            audited=len(audited),
            count=audit.count,
            audited_above=audit.audited_above,
            correct_above=audit.correct_above,
            lower_bound=audit.lower_bound,
            looks=audit.looks,
        )
        certificate.unlabelled = state.audit_unlabelled
        return Event(run_id=state.run_id, round=state.round, auto_labels_certified=certificate)

    async def _rank(
        self,
        state: RunState,
        count: int,
        strategy: Strategy.ValueType,
        taken: Iterable[int] | None = None,
        seed: int = 0,
    ) -> RankPoolResponse:
        """Rank the samples not ``taken``, by default those never chosen; return the first ``count``, at least one.

        Samples for which an equal one stands are left out.
        """
        return await self._scorer_client.rank(
            _pool(state).pool_sha256,
            state.head_sha256,
            strategy,
            count,
            _spare(state) | BitMap(state.run_log.taken if taken is None else taken),
            seed,
            features=state.features_sha256,
        )

    def _lay_out(self, state: RunState, chosen: Sequence[RankPoolResponse]) -> None:
        """Stage the chosen samples for the next fit, if the scorers sent them along."""
        if chosen and all(ranked.HasField("samples") for ranked in chosen):
            sample_ids = [sample_id for ranked in chosen for sample_id in ranked.sample_ids]
            samples = np.concatenate([unpack(ranked.samples) for ranked in chosen])
            self._cache_of(state).stage_samples(sample_ids, samples)

    def _cache_of(self, state: RunState) -> RunCache:
        if state.run_id not in self._caches:
            self._caches[state.run_id] = RunCache(
                _pool(state), state.run_log.features, self._scorer_client, self._artifacts
            )
        return self._caches[state.run_id]

    async def _fit(self, state: RunState) -> Event:
        cache = self._cache_of(state)
        job = await self._fit_job(state, cache)
        with tracing.span("fit", {}, run=state.run_id, round=state.round + 1):
            result = await asyncio.get_running_loop().run_in_executor(self._executor, carry_out, job)
        FIT_SECONDS.observe(result.fit_s)
        if result.why_torch:
            _log_once(result.why_torch)
        model, head, training_state = await self._store(result)
        if result.state:
            cache.keep(training_state, result.state)
        trained = _trained(result.figures)
        trained.model_sha256, trained.head_sha256, trained.training_state_sha256 = model, head, training_state
        trained.labels, trained.fit_s = int(job.paid.sum()), result.fit_s
        trained.auto_labels, trained.control_labels = len(job.paid) - trained.labels, int(job.control.sum())
        return Event(run_id=state.run_id, round=state.round + 1, model_trained=trained)

    async def _fit_job(self, state: RunState, cache: RunCache) -> FitJob:
        pool, spec, round_ = _pool(state), state.spec, state.round + 1
        features, columns = await cache.take(state.training)
        report = round_ % spec.report_every == 0 or round_ == state.planned_rounds
        evaluation = None
        if pool.evaluation_sha256 and (report or spec.protocol == Protocol.PROTOCOL_PUBLISHED):
            evaluation = await self._evaluation_sets.get(pool.evaluation_sha256, state.run_log.features)
        job = FitJob(
            spec=spec,
            dtype=pool.dtype,
            features=features,
            labels=torch.from_numpy(columns.labels),
            paid=torch.from_numpy(~columns.auto),
            control=torch.from_numpy(columns.drawn(state.controls)),
            start=await self._start(state, cache),
            evaluation=evaluation,
            report=report,
        )
        if state.features_sha256:
            job = replace(job, graph=await self._artifacts.get(state.features_sha256))
        if looks_at_stop_set(spec.stopping):
            dtype = "float32" if state.features_sha256 else pool.dtype
            before = await cache.weights(state.head_sha256, dtype) if state.models else None
            job = replace(job, stop_set=await cache.stop_set(spec.seed), before=before)
        return job

    async def _start(self, state: RunState, cache: RunCache) -> AdamState:
        if state.training_state_sha256 and state.spec.protocol == Protocol.PROTOCOL_PUBLISHED:
            return await cache.state(state.training_state_sha256)
        spec = state.spec
        return start_state(cache.class_count, cache.feature_count, scale=spec.start_scale, seed=spec.seed)

    async def _store(self, result: FitResult) -> tuple[str, str, str]:
        """Store the artifacts and return the digests of model, head and training state; empty for absent ones."""
        model, head, training_state = await asyncio.gather(
            *(self._put(data) for data in (result.model, result.head, result.training_state))
        )
        return model, head, training_state

    async def _put(self, data: bytes) -> str:
        return await self._artifacts.put(data) if data else ""


@cache
def _log_once(why: str) -> None:
    """Log why PyTorch takes the steps of fits by the published protocol."""
    log.info("fit_by_pytorch", action="steps take about three times as long", why=why, faster_with=_FASTER_WITH)


def _seed(state: RunState, strategy: Strategy.ValueType) -> int:
    """Return the seed to rank with.

    It is the same throughout a run for the random strategy, which thus follows one order; others get one each round.
    """
    if strategy == Strategy.STRATEGY_RANDOM:
        return state.spec.seed
    return seed_for(state.spec.seed, "batch", state.round)


def _spare(state: RunState) -> BitMap:
    """Return the samples that are never chosen because an equal one stands for them."""
    return BitMap(array("I", spare(state.duplicates, state.run_log.taken).astype("I").tobytes()))


def _count(event: Event) -> None:
    ROUNDS.inc(event.HasField("model_trained"))
    AUTO_LABELS.inc(len(event.samples_auto_labelled.sample_ids))


def _pool(state: RunState) -> PoolPublished:
    assert state.pool is not None, "next_step waits for the pool before anything that needs it"
    return state.pool


def _trained(figures: Figures) -> ModelTrained:
    return ModelTrained(
        steps=figures.steps,
        stopping=recorded(figures.stopping),
        evaluation=recorded(figures.evaluation),
        l2=figures.l2,
        temperature=figures.temperature,
        calibration_error=figures.calibration_error,
        evaluation_calibration_error=figures.evaluation_calibration_error,
        control=recorded(figures.control),
        control_evaluation=Accuracy(correct=figures.control_evaluation.correct, total=figures.control_evaluation.total),
        agreement=figures.agreement,
        expected_accuracy=figures.expected_accuracy,
    )
