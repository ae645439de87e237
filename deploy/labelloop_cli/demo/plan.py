"""Define the demo's experiments as run specs: the article's, and our own to compare. Pure functions."""

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
    """Number of repetitions of each kind of experiment: seeds, or perturbed starts."""

    honest: int = 5
    better: int = 3
    perturbed: int = 20


WHOLE, QUICK = Extent(), Extent(honest=2, better=2, perturbed=4)


@dataclass(frozen=True)
class Experiment:
    """One run of the demo.

    Attributes:
        name: Name of the row; runs that differ only by their seed share it and make one row.
        published: The article's accuracy, if it has one.
        alone: Whether nothing else runs at the same time, so that its duration can be compared.
    """

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
    """List the article's experiments in an order in which they can run: the last two continue active_400.

    The last one has 360 rounds, which keep one core busy for so long that other experiments run at the same time.
    """
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
    """List the runs of least confidence, margin and random sampling under the honest protocol."""
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
    """List runs that spend the same 400 labels better: the defaults of ``labelloop run start``, and random labels.

    Both use features learned from the pool. The last seed's run with the defaults goes on to auto-label what an audit
    allows.
    """
    ours = {
        "first_strategy": Strategy.STRATEGY_K_MEANS,
        "features": FeatureKind.FEATURE_KIND_SCATTERING,
        "control_percent": CONTROL_PERCENT,
        "batch_size": BETTER_BATCH,
    }
    experiments = []
    for seed in range(1, seeds + 1):
        chosen = honest_spec(Strategy.STRATEGY_CLUSTERED_MARGIN, seed, **ours)
        drawn = honest_spec(
            Strategy.STRATEGY_RANDOM, seed, features=FeatureKind.FEATURE_KIND_SCATTERING, batch_size=BETTER_BATCH
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
    """Specify the run labelled by hand: as in ``better``, but in batches so small that one can see the model learn.

    It has no control samples: they judge a model if there is no test set, and here there is one.
    """
    spec = honest_spec(
        Strategy.STRATEGY_CLUSTERED_MARGIN,
        seed=0,
        first_strategy=Strategy.STRATEGY_K_MEANS,
        features=FeatureKind.FEATURE_KIND_SCATTERING,
        label_source=LabelSource.LABEL_SOURCE_QUEUE,
        label_budget=BY_HAND,
        batch_size=BATCH,
        first_batch_size=BATCH,
    )
    spec.queue.SetInParent()
    return spec


def beside_by_hand(seed: int) -> RunSpec:
    """Specify a run to compare ``by_hand`` with: digits picked at random, with true labels, on the same features."""
    return honest_spec(
        Strategy.STRATEGY_RANDOM,
        seed,
        features=FeatureKind.FEATURE_KIND_SCATTERING,
        label_budget=RANDOM_BESIDE,
        batch_size=BATCH,
        first_batch_size=BATCH,
    )


def perturbed(runs: int) -> list[Experiment]:
    """List repetitions of active_400 from starts that differ in the seventh decimal."""
    return [
        Experiment(
            "active_400_perturbed",
            published_spec(label_budget=BUDGET, start_scale=PERTURBATION, seed=seed),
            seed=seed,
            in_table=False,
        )
        for seed in range(1, runs + 1)
    ]
