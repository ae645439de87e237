"""The runs of the study: pools, features, strategies and seeds. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from labelloop.events.v1.events_pb2 import DatasetSource, FeatureKind, LabelSource, Protocol, RunSpec
from labelloop.scorer.v1.scorer_pb2 import Strategy

POOLS = {"mnist-4000": 4_000, "mnist-60000": 60_000}
FEATURES = ("pixels", "patches", "scattering")
STRATEGIES = (
    "clustered-margin",
    "random",
    "margin",
    "badge",
    "typiclust",
    "power-margin",
    "density",
    "entropy",
    "least-confidence",
    "k-center",
)
DEFAULT, RANDOM = "clustered-margin", "random"
SEEDS = range(1, 11)
AT = (50, 100, 200, 400)  # labels at which accuracy is compared
_FIRST_BATCH, _BATCH = 50, 25
ROUNDS = 1 + (max(AT) - _FIRST_BATCH) // _BATCH
_OWN_FIRST = {"random": "random", "typiclust": "typiclust", "k-center": "k-center"}


@dataclass(frozen=True)
class Cell:
    """One run of the study."""

    pool: str
    features: str
    strategy: str
    seed: int

    @property
    def run_id(self) -> str:
        return f"{self.pool}-{self.features}-{self.strategy}-{self.seed}"

    @property
    def size(self) -> int:
        return POOLS[self.pool]


def cells(*, quick: bool) -> list[Cell]:
    """Runs by seed, so that an interrupted study has all of the first seeds. ``quick`` has the default strategy and
    random, both features, three seeds and the pool of 4,000."""
    pools = ["mnist-4000"] if quick else list(POOLS)
    strategies = (DEFAULT, RANDOM) if quick else STRATEGIES
    seeds = SEEDS[:3] if quick else SEEDS
    return [
        Cell(pool, features, strategy, seed)
        for pool, seed, features, strategy in product(pools, seeds, FEATURES, strategies)
    ]


def chosen(planned: list[Cell], only: str) -> Iterator[Cell]:
    """Cells whose run id has every word of ``only``."""
    return (cell for cell in planned if all(word in cell.run_id for word in only.split()))


def spec(cell: Cell) -> RunSpec:
    """A spec without control samples: strategies are compared with random runs instead."""
    first = _OWN_FIRST.get(cell.strategy, "k-means")
    return RunSpec(
        dataset=DatasetSource(name="mnist", sample_limit=cell.size if cell.size < max(POOLS.values()) else 0),
        strategy=_strategy(cell.strategy),
        first_strategy=_strategy(first),
        first_batch_size=_FIRST_BATCH,
        batch_size=_BATCH,
        label_budget=max(AT),
        seed=cell.seed,
        protocol=Protocol.PROTOCOL_HONEST,
        label_source=LabelSource.LABEL_SOURCE_DATASET,
        features=FeatureKind.Value(f"FEATURE_KIND_{cell.features.upper()}"),
        report_every=1,
    )


def _strategy(name: str) -> Strategy.ValueType:
    return Strategy.Value(f"STRATEGY_{name.replace('-', '_').upper()}")
