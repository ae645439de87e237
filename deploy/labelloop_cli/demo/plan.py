"""The article's experiments, and ours beside them, as run specs. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from labelloop.events.v1.events_pb2 import (
    DatasetSource,
    FeatureKind,
    GuaranteeSpec,
    LabelSource,
    Protocol,
    RunSpec,
)
from labelloop.scorer.v1.scorer_pb2 import Strategy

POOL_SIZE = 4_000
BUDGET = 400
BATCH = 10
STOPPING_SAMPLES = 400
CLUSTERS = 10
BY_HAND, RANDOM_BESIDE = 50, 150
HONEST_BATCH, BETTER_BATCH, FIRST_BATCH = 50, 25, 50
AUDIT = 600
CONTROL_PERCENT = 10
PERTURBATION = 1e-7
AT_THE_END = 1_000_000  # report_every: only the last round


@dataclass(frozen=True)
class Extent:
    """How many runs there are of each kind."""

    honest: int = 5
    better: int = 3
    perturbed: int = 20


WHOLE, QUICK = Extent(), Extent(honest=2, better=2, perturbed=4)


@dataclass(frozen=True)
class Experiment:
    """One run. Runs of one ``name`` differ by their seed and make one row; ``published`` is the article's accuracy.
    ``alone``: nothing else runs beside it, so that its seconds can be compared."""

    name: str
    spec: RunSpec
    published: float | None = None
    continues: str = ""
    seed: int = 0
    in_table: bool = True
    alone: bool = False

    @property
    def run_id(self) -> str:
        return f"{self.name}-{self.seed}" if self.seed else self.name


def published_spec(**changes: object) -> RunSpec:
    spec = RunSpec(
        dataset=DatasetSource(name="mnist", sample_limit=POOL_SIZE),
        strategy=Strategy.STRATEGY_LEAST_CONFIDENCE,
        first_strategy=Strategy.STRATEGY_IN_ORDER,
        batch_size=BATCH,
        protocol=Protocol.PROTOCOL_PUBLISHED,
        label_source=LabelSource.LABEL_SOURCE_DATASET,
        stopping_sample_count=STOPPING_SAMPLES,
        report_every=AT_THE_END,
    )
    for name, value in changes.items():
        setattr(spec, name, value)
    return spec


def honest_spec(strategy: Strategy.ValueType, seed: int, **changes: object) -> RunSpec:
    spec = published_spec(
        strategy=strategy,
        first_strategy=Strategy.STRATEGY_RANDOM,
        protocol=Protocol.PROTOCOL_HONEST,
        stopping_sample_count=0,
        label_budget=BUDGET,
        batch_size=HONEST_BATCH,
        first_batch_size=FIRST_BATCH,
        report_every=1,
        seed=seed,
    )
    for name, value in changes.items():
        setattr(spec, name, value)
    return spec


def article() -> list[Experiment]:
    """The rows of the article, in the order in which they can run: the last two go on from the end of active_400.
    The last one has 360 rounds, which keep one core busy for so long that others run beside it."""
    left = POOL_SIZE - BUDGET
    return [
        Experiment("ground_truth", published_spec(batch_size=POOL_SIZE, label_budget=POOL_SIZE), 0.9225, alone=True),
        Experiment("random_400", published_spec(batch_size=BUDGET, label_budget=BUDGET), 0.8375, alone=True),
        Experiment("first_10", published_spec(label_budget=BATCH), 0.38, alone=True),
        Experiment("active_400", published_spec(label_budget=BUDGET, report_every=1), 0.8975, alone=True),
        Experiment(
            "auto_all",
            published_spec(auto_label_batch_size=left, auto_label_budget=left),
            0.8975,
            continues="active_400",
            alone=True,
        ),
        Experiment(
            "auto_confident",
            published_spec(auto_label_batch_size=BATCH, auto_label_budget=left),
            0.905,
            continues="active_400",
        ),
    ]


def honest(seeds: int) -> list[Experiment]:
    """Least confidence, margin and random under the honest protocol."""
    strategies = {
        "margin_400": Strategy.STRATEGY_MARGIN,
        "random_400_honest": Strategy.STRATEGY_RANDOM,
        "active_400_honest": Strategy.STRATEGY_LEAST_CONFIDENCE,
    }
    return [
        Experiment(name, honest_spec(strategy, seed), seed=seed)
        for seed in range(1, seeds + 1)
        for name, strategy in strategies.items()
    ]


def better(seeds: int) -> list[Experiment]:
    """The same 400 labels spent better: the defaults of ``labelloop run start`` beside random labels, both on features
    learned from the pool, and one of the former that goes on to auto-label what an audit allows."""
    ours = {
        "first_strategy": Strategy.STRATEGY_K_MEANS,
        "features": FeatureKind.FEATURE_KIND_PATCHES,
        "control_percent": CONTROL_PERCENT,
        "batch_size": BETTER_BATCH,
    }
    experiments = []
    for seed in range(1, seeds + 1):
        chosen = honest_spec(Strategy.STRATEGY_CLUSTERED_MARGIN, seed, **ours)
        drawn = honest_spec(
            Strategy.STRATEGY_RANDOM, seed, features=FeatureKind.FEATURE_KIND_PATCHES, batch_size=BETTER_BATCH
        )
        if seed == seeds:
            guarantee = GuaranteeSpec(target_accuracy=0.99, confidence=0.95, audit_size=AUDIT)
            chosen.guarantee.CopyFrom(guarantee)
        experiments += [
            Experiment("better_400", chosen, seed=seed),
            Experiment("better_random_400", drawn, seed=seed),
        ]
    return experiments


def by_hand() -> RunSpec:
    """Labels that people give, spent as ``better`` does, in batches so small that the model is seen to learn. Without
    control samples, which judge a model where there is no test set: there is one here."""
    spec = honest_spec(
        Strategy.STRATEGY_CLUSTERED_MARGIN,
        seed=0,
        first_strategy=Strategy.STRATEGY_K_MEANS,
        features=FeatureKind.FEATURE_KIND_PATCHES,
        label_source=LabelSource.LABEL_SOURCE_QUEUE,
        label_budget=BY_HAND,
        batch_size=BATCH,
        first_batch_size=BATCH,
    )
    spec.queue.SetInParent()
    return spec


def beside_by_hand(seed: int) -> RunSpec:
    """Digits picked at random, rightly labelled, on the same features."""
    return honest_spec(
        Strategy.STRATEGY_RANDOM,
        seed,
        features=FeatureKind.FEATURE_KIND_PATCHES,
        label_budget=RANDOM_BESIDE,
        batch_size=BATCH,
        first_batch_size=BATCH,
    )


def perturbed(runs: int) -> list[Experiment]:
    """active_400 again and again, from starts that differ in the seventh decimal."""
    return [
        Experiment(
            "active_400_perturbed",
            published_spec(label_budget=BUDGET, start_scale=PERTURBATION, seed=seed),
            seed=seed,
            in_table=False,
        )
        for seed in range(1, runs + 1)
    ]
