"""Pure functions for simulated runs: specs, true labels, rankings, fits, and the run without faults."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from random import Random

import numpy as np
import torch
from labelloop.events.v1.events_pb2 import (
    GuaranteeSpec,
    Inheritance,
    LabelSource,
    Protocol,
    Purpose,
    RunSpec,
    RunStarted,
)
from labelloop.scorer.v1.scorer_pb2 import RankPoolResponse, Strategy

from oracle_svc.datasets import Dataset
from trainer_svc.domain.run_state import RunState
from trainer_svc.domain.seeds import seed_for
from trainer_svc.model.adam_softmax import AdamState
from trainer_svc.model.fit import Figures, FitJob, FitResult
from trainer_svc.model.tally import tally
from trainer_svc.model.training_state import to_bytes

POOL_SIZE, CLASSES = 30, ("a", "b", "c")
TRUTH = tuple(sample_id * 7 % len(CLASSES) for sample_id in range(POOL_SIZE))
SAMPLES = np.arange(POOL_SIZE, dtype=np.float32)[:, None]  # the one feature of a sample is its id
DATASET = Dataset(
    name="thirty",
    description="",
    stand_in=False,
    samples=SAMPLES,
    labels=np.array(TRUTH, np.int32),
    classes=CLASSES,
    evaluation_samples=None,
    evaluation_labels=None,
)
_STATE_SHAPE = (len(CLASSES), 2)  # one feature and the bias
_FRESH = (0.0,) * 6
_OTHER_FEATURES = "f" * 64  # not of simulated runs: models see samples

Floats = tuple[float, ...]


def state_of(digest: str) -> Floats:
    """Return six numbers that a float32 holds exactly."""
    return tuple(float(int(digest[4 * i : 4 * i + 4], 16)) for i in range(6))


def _tensor(numbers: Floats) -> torch.Tensor:
    return torch.tensor(numbers).reshape(_STATE_SHAPE)


@lru_cache(maxsize=4096)
def _state_bytes(numbers: Floats) -> bytes:
    weights = _tensor(numbers)
    return to_bytes(AdamState(weights, weights.clone(), weights.clone(), 0))


@lru_cache(maxsize=4096)
def model_bytes(sample_ids: tuple[int, ...], labels: tuple[int, ...], start: Floats, seed: int) -> bytes:
    """Return a model, which consists of its inputs."""
    return repr((sample_ids, labels, start, seed)).encode()


ONE_RIGHT = tally(np.zeros(1, np.int64), np.zeros(1, np.int64), 1)


def fit(job: FitJob) -> FitResult:
    """Stand in for ``carry_out``."""
    sample_ids = tuple(int(sample_id) for sample_id in job.features[:, 0].tolist())
    start = tuple(job.start.weights.flatten().tolist())
    model = model_bytes(sample_ids, tuple(job.labels.tolist()), start, job.spec.seed)
    numbers = state_of(sha256(model).hexdigest())
    weights = _tensor(numbers)
    published = job.spec.protocol == Protocol.PROTOCOL_PUBLISHED
    state = AdamState(weights, weights.clone(), weights.clone(), 0) if published else None
    return FitResult(model, b"", weights, state, Figures(1, ONE_RIGHT), 0.0)


@lru_cache(maxsize=4096)
def _order(model: str, seed: int, strategy: int) -> tuple[int, ...]:
    decides = "" if strategy == Strategy.STRATEGY_RANDOM else model
    digest = sha256(f"{decides} {seed} {strategy}".encode()).digest()
    return tuple(sorted(range(POOL_SIZE), key=lambda sample_id: (digest[sample_id], sample_id)))


def chosen(model: str, seed: int, strategy: int, count: int, leave_out: Collection[int]) -> list[int]:
    """Return the first ``count`` samples (0: all), ordered by the model and seed, or at random by the seed."""
    return [sample_id for sample_id in _order(model, seed, strategy) if sample_id not in leave_out][: count or None]


def predicted(model: str, sample_id: int) -> int:
    return int(model[sample_id], 16) % len(CLASSES)


def ranking(model: str, seed: int, strategy: int, count: int, leave_out: Collection[int]) -> RankPoolResponse:
    sample_ids = chosen(model, seed, strategy, count, leave_out)
    told = sample_ids if model else []
    return RankPoolResponse(
        sample_ids=sample_ids,
        predicted=[predicted(model, sample_id) for sample_id in told],
        confidence=[1 - i / 64 for i in range(len(told))],
        score=[i / 64 for i in range(len(sample_ids))],
    )


def draw_started(rng: Random) -> RunStarted:
    """Draw a run with a valid spec."""
    inherited = rng.sample(range(POOL_SIZE), rng.randint(1, 4)) if rng.random() < 0.25 else []
    auto_budget = rng.choice((0, rng.randint(1, 8)))
    spec = RunSpec(
        strategy=Strategy.STRATEGY_MARGIN,
        first_strategy=Strategy.STRATEGY_RANDOM,
        batch_size=rng.randint(1, 4),
        label_budget=rng.randint(0 if inherited and auto_budget else 1, 12),
        seed=rng.randrange(100),
        protocol=rng.choice((Protocol.PROTOCOL_PUBLISHED, Protocol.PROTOCOL_HONEST)),
        label_source=LabelSource.LABEL_SOURCE_QUEUE if rng.random() < 0.35 else LabelSource.LABEL_SOURCE_DATASET,
        auto_label_batch_size=rng.randint(1, 8) if auto_budget else 0,
        auto_label_budget=auto_budget,
        report_every=1,
    )
    if spec.protocol == Protocol.PROTOCOL_HONEST:
        spec.control_percent = rng.choice((0, 10, 50))
        if spec.label_budget and not auto_budget and rng.random() < 0.5:
            guarantee = GuaranteeSpec(target_accuracy=0.3, confidence=0.5, audit_size=rng.randint(1, 6))
            spec.guarantee.CopyFrom(guarantee)
    started = RunStarted(spec=spec)
    if inherited:
        started.inheritance.CopyFrom(_inheritance(rng, inherited, spec))
    return started


def _inheritance(rng: Random, sample_ids: Sequence[int], spec: RunSpec) -> Inheritance:
    labels = [TRUTH[sample_id] for sample_id in sample_ids]
    model = model_bytes(tuple(sample_ids), tuple(labels), _FRESH, spec.seed)
    digest = sha256(model).hexdigest()
    published = spec.protocol == Protocol.PROTOCOL_PUBLISHED
    return Inheritance(
        run_id="parent",
        sample_ids=sample_ids,
        classes=labels,
        auto_labelled=[
            i > 0 and rng.random() < 0.3 for i in range(len(sample_ids))
        ],  # a run that ended paid for a label
        model_sha256=digest,
        training_state_sha256=sha256(_state_bytes(state_of(digest))).hexdigest() if published else "",
        features_sha256=rng.choice(("", _OTHER_FEATURES)),
        purposes=rng.choices(Purpose.values(), k=len(sample_ids)),
    )


def inherited_state(started: RunStarted) -> bytes:
    """Return the training state of an inheritance."""
    return _state_bytes(state_of(started.inheritance.model_sha256))


def fitted(state: RunState) -> str:
    """Return the digest of the model that a fit to the present training set gives."""
    spec, training = state.spec, state.training
    carries_on = state.training_state_sha256 and spec.protocol == Protocol.PROTOCOL_PUBLISHED
    start = state_of(state.model_sha256) if carries_on else _FRESH
    columns = zip(*((example.sample_id, example.label) for example in training), strict=True)
    sample_ids, labels = columns
    return sha256(model_bytes(tuple(sample_ids), tuple(labels), start, spec.seed)).hexdigest()


def model_without_faults(started: RunStarted, labels: Mapping[int, int], skipped: Collection[int] = ()) -> str:
    """Return a run's last model without faults, as a digest; it is of no model if ``labels`` lack one."""
    spec, taken = started.spec, started.inheritance
    training = list(zip(taken.sample_ids, taken.classes, strict=True))
    asked = set(taken.sample_ids)

    def fitted_to(model: str) -> str:
        start = state_of(model) if model and spec.protocol == Protocol.PROTOCOL_PUBLISHED else _FRESH
        columns = tuple(zip(*training, strict=True))
        return sha256(model_bytes(columns[0], columns[1], start, spec.seed)).hexdigest()

    model, round_, paid, auto, drawn, drawn_control = taken.model_sha256, 0, 0, 0, 0, 0
    if taken.features_sha256:
        model, round_ = fitted_to(model), 1
    while (paid < spec.label_budget or auto < spec.auto_label_budget) and len(asked) < POOL_SIZE:
        if paid < spec.label_budget:
            strategy = spec.strategy if model else spec.first_strategy
            missing, before = min(spec.batch_size, spec.label_budget - paid, POOL_SIZE - len(asked)), paid
            seed = spec.seed if strategy == Strategy.STRATEGY_RANDOM else seed_for(spec.seed, "batch", round_)
            while missing := min(missing, POOL_SIZE - len(asked)):
                control = 0
                if spec.strategy != Strategy.STRATEGY_RANDOM:
                    due = max(0, (drawn + missing) * spec.control_percent // 100 - drawn_control)
                    control = min(due, missing)
                batch = chosen(model, seed, strategy, missing - control, asked) if missing > control else []
                if control:
                    order = seed_for(spec.seed, "control")
                    batch += chosen(model, order, Strategy.STRATEGY_RANDOM, control, {*asked, *batch})
                asked.update(batch)
                answered = [sample_id for sample_id in batch if sample_id not in skipped]
                drawn += len(answered)
                drawn_control += sum(sample_id in answered for sample_id in batch[len(batch) - control :])
                training += [(sample_id, labels.get(sample_id, -1)) for sample_id in answered]
                missing, paid = missing - len(answered), paid + len(answered)
            if paid == before:
                continue  # nothing to fit to
        else:
            count = min(spec.auto_label_batch_size, spec.auto_label_budget - auto, POOL_SIZE - len(asked))
            batch = chosen(model, 0, Strategy.STRATEGY_MOST_CONFIDENT, count, asked)
            asked.update(batch)
            training += [(sample_id, predicted(model, sample_id)) for sample_id in batch]
            auto += count
        model, round_ = fitted_to(model), round_ + 1
    return model
