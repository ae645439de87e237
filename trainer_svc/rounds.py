"""A run's way through its rounds, readable from top to bottom."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from labelloop.events.v1.events_pb2 import (
    Accuracy,
    Event,
    LabelsRequested,
    ModelTrained,
    PoolPublished,
    Protocol,
    RunFinished,
    SamplesAutoLabelled,
)
from labelloop.scorer.v1.scorer_pb2 import RankPoolResponse, Strategy
from labelloop.wire import metrics, tracing
from labelloop.wire.artifacts import ArtifactStore
from labelloop.wire.eventlog import EventLog
from labelloop.wire.run_book import RunBook
from structlog.contextvars import bind_contextvars

from trainer_svc.fitting import FitJob, FitResult, carry_out
from trainer_svc.merging import unpack
from trainer_svc.metrics import AUTO_LABELS, FIT_SECONDS, ROUNDS, run_gauges
from trainer_svc.ranker import Ranker
from trainer_svc.run_state import AutoLabel, Finish, Fit, RequestLabels, RunState, Wait, next_step
from trainer_svc.softmax import AdamState, Count, start_state
from trainer_svc.workbench import EvaluationSets, Workbench


class Rounds:
    """Carries runs on. ``executor`` does the fits: its threads must have settled their arithmetic."""

    def __init__(
        self, book: RunBook[RunState], log: EventLog, ranker: Ranker, artifacts: ArtifactStore, executor: Executor
    ) -> None:
        self._book, self._log, self._ranker, self._artifacts, self._executor = book, log, ranker, artifacts, executor
        self._evaluation_sets = EvaluationSets(artifacts)
        self._benches: dict[str, Workbench] = {}
        metrics.watch(book, run_gauges)

    async def advance(self, run_id: str) -> None:
        """Carry a run as far as it goes without an answer from outside. Safe to call at any time, and again."""
        while True:
            # Another trainer may carry the run on while this one works: a step is taken on one state throughout.
            state = self._book.get(run_id).as_it_stands()
            bind_contextvars(round=state.round)
            match next_step(state):
                case RequestLabels() as step:
                    event = await self._request_labels(state, step)
                case AutoLabel(count):
                    event = await self._auto_label(state, count)
                case Fit():
                    event = await self._fit(state)
                case Finish(reason):
                    event = Event(run_id=run_id, round=state.round, run_finished=RunFinished(reason=reason))
                case Wait():
                    break
            # The loser of a race finds the winner's event there and goes on from it.
            recorded = await self._log.append_once(event)
            if recorded.ours:
                _count(event)
            await self._book.settle(recorded)
        if state.ended:
            self._benches.pop(run_id, None)

    async def _request_labels(self, state: RunState, step: RequestLabels) -> Event:
        ranked = await self._rank(state, step.count, step.strategy)
        request = LabelsRequested(
            sample_ids=ranked.sample_ids,
            predicted=ranked.predicted,
            confidence=ranked.confidence,
            score=ranked.score,
            strategy=step.strategy,
            part=step.part,
        )
        return Event(run_id=state.run_id, round=state.round, labels_requested=request)

    async def _auto_label(self, state: RunState, count: int) -> Event:
        ranked = await self._rank(state, count, Strategy.STRATEGY_MOST_CONFIDENT)
        given = SamplesAutoLabelled(
            sample_ids=ranked.sample_ids, classes=ranked.predicted, confidence=ranked.confidence
        )
        return Event(run_id=state.run_id, round=state.round, samples_auto_labelled=given)

    async def _rank(self, state: RunState, count: int, strategy: Strategy.ValueType) -> RankPoolResponse:
        ranked = await self._ranker.rank(
            _pool(state).pool_sha256, state.model_sha256, strategy, count, state.asked, state.spec.seed
        )
        if ranked.HasField("samples"):
            self._bench(state).lay_out(ranked.sample_ids, unpack(ranked.samples))
        return ranked

    def _bench(self, state: RunState) -> Workbench:
        if state.run_id not in self._benches:
            self._benches[state.run_id] = Workbench(_pool(state), self._ranker, self._artifacts)
        return self._benches[state.run_id]

    async def _fit(self, state: RunState) -> Event:
        bench = self._bench(state)
        auto_labels = sum(example.auto_labelled for example in state.training)
        labels = len(state.training) - auto_labels
        job = await self._fit_job(state, bench)
        with tracing.span("fit", {}, run=state.run_id, round=state.round + 1):
            result = await asyncio.get_running_loop().run_in_executor(self._executor, carry_out, job)
        FIT_SECONDS.observe(result.fit_s)
        model_sha256, training_state_sha256 = await self._store(result)
        bench.keep(training_state_sha256, result.state)
        trained = ModelTrained(
            model_sha256=model_sha256,
            training_state_sha256=training_state_sha256,
            labels=labels,
            auto_labels=auto_labels,
            steps=result.steps,
            fit_s=result.fit_s,
            stopping=_accuracy(result.stopping),
            evaluation=_accuracy(result.evaluation),
        )
        return Event(run_id=state.run_id, round=state.round + 1, model_trained=trained)

    async def _fit_job(self, state: RunState, bench: Workbench) -> FitJob:
        pool, round_ = _pool(state), state.round + 1
        features, labels = await bench.take(state.training)
        evaluation = None
        if pool.evaluation_sha256:
            whole = await self._evaluation_sets.get(pool.evaluation_sha256)
            evaluation = (whole.features, whole.labels)
        report = round_ % state.spec.report_every == 0 or round_ == state.planned_rounds
        return FitJob(state.spec, pool.dtype, features, labels, await self._start(state, bench), evaluation, report)

    async def _start(self, state: RunState, bench: Workbench) -> AdamState:
        if state.training_state_sha256 and state.spec.protocol == Protocol.PROTOCOL_PUBLISHED:
            return await bench.state(state.training_state_sha256)
        spec = state.spec
        return start_state(bench.class_count, bench.feature_count, scale=spec.start_scale, seed=spec.seed)

    async def _store(self, result: FitResult) -> tuple[str, str]:
        if not result.training_state:
            return await self._artifacts.put(result.model), ""
        model, training_state = await asyncio.gather(
            self._artifacts.put(result.model), self._artifacts.put(result.training_state)
        )
        return model, training_state


def _count(event: Event) -> None:
    ROUNDS.inc(event.HasField("model_trained"))
    AUTO_LABELS.inc(len(event.samples_auto_labelled.sample_ids))


def _pool(state: RunState) -> PoolPublished:
    assert state.pool is not None, "next_step waits for the pool before anything that needs it"
    return state.pool


def _accuracy(count: Count) -> Accuracy:
    return Accuracy(correct=count.correct, total=count.total)
