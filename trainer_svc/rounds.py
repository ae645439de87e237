"""A run's way through its rounds, readable from top to bottom."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
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
from labelloop.scorer.v1.scorer_pb2 import RankPoolResponse, Strategy
from labelloop.wire import metrics, tracing
from labelloop.wire.artifacts import ArtifactStore
from labelloop.wire.errors import InvalidInput, LimitExceeded
from labelloop.wire.eventlog import EventLog
from labelloop.wire.run_book import RunBook
from structlog.contextvars import bind_contextvars
from torch import Tensor

from trainer_svc.fitting import Figures, FitJob, FitResult, carry_out
from trainer_svc.guarantee import certify
from trainer_svc.merging import unpack
from trainer_svc.metrics import AUTO_LABELS, FIT_SECONDS, ROUNDS, run_gauges
from trainer_svc.ranker import Ranker
from trainer_svc.run_state import (
    AutoLabel,
    Certify,
    Finish,
    Fit,
    LearnFeatures,
    RequestLabels,
    RunState,
    ToTake,
    Wait,
    next_step,
)
from trainer_svc.seeds import seed_for
from trainer_svc.softmax import AdamState, Count, start_state
from trainer_svc.spec_check import check_width
from trainer_svc.stopping import looks_at_stop_set
from trainer_svc.workbench import EvaluationSets, Workbench

_HOPELESS = (InvalidInput, LimitExceeded)  # it would come to the same again
_LESSON = 0  # the seed of what is learned from a pool: one lesson for all of its runs


class _Drawn(NamedTuple):
    """Control samples to ask for, and those among the samples that were taken."""

    ranked: RankPoolResponse
    passed: list[int]


class Rounds:
    """Carries runs on. ``executor`` does the fits: its threads must have settled their arithmetic."""

    def __init__(
        self, book: RunBook[RunState], log: EventLog, ranker: Ranker, artifacts: ArtifactStore, executor: Executor
    ) -> None:
        self._book, self._log, self._ranker, self._artifacts, self._executor = book, log, ranker, artifacts, executor
        self._evaluation_sets = EvaluationSets(ranker, artifacts)
        self._benches: dict[str, Workbench] = {}
        metrics.watch(book, run_gauges)

    async def advance(self, run_id: str) -> None:
        """Carry a run as far as it goes without an answer from outside. Safe to call at any time, and again."""
        while True:
            # Another trainer may carry the run on while this one works: a step is taken on one state throughout.
            state = self._book.get(run_id).as_it_stands()
            bind_contextvars(round=state.round)
            step = next_step(state)
            if isinstance(step, Wait):
                break
            try:
                event = await self._take(state, step)
            except _HOPELESS as error:
                failed = RunFailed(reason=error.reason, message=error.message)
                event = Event(run_id=run_id, round=state.round + 1, run_failed=failed)
            # The loser of a race finds the winner's event there and goes on from it.
            recorded = await self._log.append_once(event)
            if recorded.ours:
                _count(event)
            await self._book.settle(recorded)
        if state.ended:
            self._benches.pop(run_id, None)

    async def _take(self, state: RunState, step: ToTake) -> Event:
        """What comes of a step."""
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
        learned = await self._ranker.learn(pool.pool_sha256, _LESSON, pool.graph_sha256 if given else "")
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
            taken = state.asked.union(*(ranked.sample_ids for ranked in chosen))
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

    async def _draw_control(self, state: RunState, count: int, taken: set[int]) -> _Drawn:
        """The next ``count`` samples of one random order of the pool that are not ``taken``. Those that are, and that
        the order comes to before, count as controls without being paid for again: what a strategy has taken out of the
        pool would be missing among them."""
        seed = seed_for(state.spec.seed, "control")
        ranked = await self._rank(state, count, Strategy.STRATEGY_RANDOM, taken, seed=seed)
        new = len(taken) - len(state.controls) + count
        order = list((await self._rank(state, new, Strategy.STRATEGY_RANDOM, state.controls, seed=seed)).sample_ids)
        return _Drawn(ranked, sorted(taken.intersection(order[: order.index(ranked.sample_ids[-1])])))

    async def _auto_label(self, state: RunState, count: int, part: int) -> Event:
        ranked = await self._rank(state, count, Strategy.STRATEGY_MOST_CONFIDENT)
        self._lay_out(state, [ranked])
        given = SamplesAutoLabelled(
            sample_ids=ranked.sample_ids, classes=ranked.predicted, confidence=ranked.confidence, part=part
        )
        return Event(run_id=state.run_id, round=state.round, samples_auto_labelled=given)

    async def _certify(self, state: RunState) -> Event:
        """What the audit allows, for the samples that nobody has labelled."""
        guarantee = state.spec.guarantee
        audited = [example for example in state.audit if example.confidence is not None]
        confidence = np.array([example.confidence for example in audited], np.float32)
        correct = np.array([example.predicted == example.label for example in audited], bool)
        left = await self._rank(state, 0, Strategy.STRATEGY_MOST_CONFIDENT)
        to_label = np.array(left.confidence, np.float32)
        verdict = certify(confidence, correct, to_label, target=guarantee.target_accuracy, level=guarantee.confidence)
        certificate = AutoLabelsCertified(
            threshold=verdict.threshold,
            audited=len(audited),
            count=verdict.count,
            audited_above=verdict.audited_above,
            correct_above=verdict.correct_above,
            lower_bound=verdict.lower_bound,
            looks=verdict.looks,
        )
        certificate.unlabelled = state.audit_unlabelled
        return Event(run_id=state.run_id, round=state.round, auto_labels_certified=certificate)

    async def _rank(
        self,
        state: RunState,
        count: int,
        strategy: Strategy.ValueType,
        taken: set[int] | None = None,
        seed: int = 0,
    ) -> RankPoolResponse:
        """The first ``count`` of what is left, all of it for 0."""
        return await self._ranker.rank(
            _pool(state).pool_sha256,
            state.head_sha256,
            strategy,
            count,
            state.asked if taken is None else taken,
            seed,
            features=state.features_sha256,
        )

    def _lay_out(self, state: RunState, chosen: Sequence[RankPoolResponse]) -> None:
        """The samples themselves, where they came along: the next fit needs them."""
        if chosen and all(ranked.HasField("samples") for ranked in chosen):
            sample_ids = [sample_id for ranked in chosen for sample_id in ranked.sample_ids]
            samples = np.concatenate([unpack(ranked.samples) for ranked in chosen])
            self._bench(state).lay_out(sample_ids, samples)

    def _bench(self, state: RunState) -> Workbench:
        if state.run_id not in self._benches:
            self._benches[state.run_id] = Workbench(_pool(state), state.features, self._ranker, self._artifacts)
        return self._benches[state.run_id]

    async def _fit(self, state: RunState) -> Event:
        bench = self._bench(state)
        auto_labels = sum(example.auto_labelled for example in state.training)
        labels = len(state.training) - auto_labels
        job = await self._fit_job(state, bench)
        with tracing.span("fit", {}, run=state.run_id, round=state.round + 1):
            result = await asyncio.get_running_loop().run_in_executor(self._executor, carry_out, job)
        FIT_SECONDS.observe(result.fit_s)
        model, head, training_state = await self._store(result)
        if result.state:
            bench.keep(training_state, result.state)
        trained = _trained(result.figures)
        trained.model_sha256, trained.head_sha256, trained.training_state_sha256 = model, head, training_state
        trained.labels, trained.auto_labels, trained.fit_s = labels, auto_labels, result.fit_s
        trained.control_labels = int(job.control.sum())
        return Event(run_id=state.run_id, round=state.round + 1, model_trained=trained)

    async def _fit_job(self, state: RunState, bench: Workbench) -> FitJob:
        pool, spec, round_ = _pool(state), state.spec, state.round + 1
        features, labels = await bench.take(state.training)
        report = round_ % spec.report_every == 0 or round_ == state.planned_rounds
        evaluation = None
        if pool.evaluation_sha256 and (report or spec.protocol == Protocol.PROTOCOL_PUBLISHED):
            evaluation = await self._evaluation_sets.get(pool.evaluation_sha256, state.features)
        job = FitJob(
            spec=spec,
            dtype=pool.dtype,
            features=features,
            labels=labels,
            paid=_flags(not example.auto_labelled for example in state.training),
            control=_flags(map(state.is_control, state.training)),
            start=await self._start(state, bench),
            evaluation=evaluation,
            report=report,
        )
        if state.features_sha256:
            job = replace(job, graph=await self._artifacts.get(state.features_sha256))
        if looks_at_stop_set(spec.stopping):
            dtype = "float32" if state.features_sha256 else pool.dtype
            before = await bench.weights(state.head_sha256, dtype) if state.models else None
            job = replace(job, stop_set=await bench.stop_set(spec.seed), before=before)
        return job

    async def _start(self, state: RunState, bench: Workbench) -> AdamState:
        if state.training_state_sha256 and state.spec.protocol == Protocol.PROTOCOL_PUBLISHED:
            return await bench.state(state.training_state_sha256)
        spec = state.spec
        return start_state(bench.class_count, bench.feature_count, scale=spec.start_scale, seed=spec.seed)

    async def _store(self, result: FitResult) -> tuple[str, str, str]:
        """The digests of the model, of its head and of the training state; empty for what there is not."""
        model, head, training_state = await asyncio.gather(
            *(self._put(data) for data in (result.model, result.head, result.training_state))
        )
        return model, head, training_state

    async def _put(self, data: bytes) -> str:
        return await self._artifacts.put(data) if data else ""


def _flags(values: Iterable[bool]) -> Tensor:
    """``[n]``, by way of NumPy: PyTorch takes ten times as long for a list."""
    return torch.from_numpy(np.fromiter(values, np.bool_))


def _seed(state: RunState, strategy: Strategy.ValueType) -> int:
    """What a random strategy draws is one order throughout the run; others draw anew in each round."""
    if strategy == Strategy.STRATEGY_RANDOM:
        return state.spec.seed
    return seed_for(state.spec.seed, "batch", state.round)


def _count(event: Event) -> None:
    ROUNDS.inc(event.HasField("model_trained"))
    AUTO_LABELS.inc(len(event.samples_auto_labelled.sample_ids))


def _pool(state: RunState) -> PoolPublished:
    assert state.pool is not None, "next_step waits for the pool before anything that needs it"
    return state.pool


def _trained(figures: Figures) -> ModelTrained:
    return ModelTrained(
        steps=figures.steps,
        stopping=_accuracy(figures.stopping),
        evaluation=_accuracy(figures.evaluation),
        l2=figures.l2,
        temperature=figures.temperature,
        calibration_error=figures.calibration_error,
        evaluation_calibration_error=figures.evaluation_calibration_error,
        control=_accuracy(figures.control),
        control_evaluation=_accuracy(figures.control_evaluation),
        agreement=figures.agreement,
        expected_accuracy=figures.expected_accuracy,
    )


def _accuracy(count: Count) -> Accuracy:
    return Accuracy(correct=count.correct, total=count.total)
