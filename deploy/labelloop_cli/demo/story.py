"""Collect the demo's results and render them as an HTML report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from labelloop.events.v1.events_pb2 import PoolPublished
from labelloop.scorer.v1.scorer_pb2 import GetSamplesRequest, RankPoolRequest, Strategy
from labelloop.trainer.v1.trainer_pb2 import LabelRecord
from numpy.typing import NDArray

from labelloop_cli.clients import Clients
from labelloop_cli.demo.outcomes import (
    Outcome,
    audit_line,
    curve,
    majority_names,
    perturbation_summary,
    wrong_auto_labels,
)
from labelloop_cli.reporting import charts
from labelloop_cli.reporting.page import Tile, picture, render

_ROUNDS_SHOWN = 5
_WRONG_SHOWN = 20


@dataclass(frozen=True)
class Clustering:
    """The scorer's clustering of the pool.

    Attributes:
        clusters: Cluster of each sample of the pool.
        centroids: Little-endian float32 ``[clusters, sample size]``.
    """

    clusters: list[int]
    centroids: bytes
    seconds: float


@dataclass(frozen=True)
class Story:
    """All results of the demo.

    Attributes:
        rows: Rows of the result table, in order.
        outcomes: Finished runs by run id.
        honest: Runs that differ only by their seed, by experiment name.
        truth: Class by sample id, as labelled in the ground_truth run.
    """

    rows: list[dict[str, Any]]
    outcomes: dict[str, Outcome]
    honest: dict[str, list[Outcome]]
    perturbed: list[Outcome]
    clustering: Clustering
    truth: dict[int, int]

    @property
    def pool(self) -> PoolPublished:
        return self.outcomes["ground_truth"].run.pool


async def tell(clients: Clients, story: Story, total_seconds: float) -> str:
    """Render the report as one self-contained HTML page."""
    return render(
        "demo.html.j2",
        pool=story.pool,
        rows=story.rows,
        total_seconds=total_seconds,
        spread=perturbation_summary(story.perturbed),
        learning=charts.learning_curves(_curves(story, ("margin_400", "random_400_honest", "active_400_honest"))),
        better=charts.learning_curves(_curves(story, ("better_400", "better_random_400"))),
        audit=audit_line(story.rows[-1]),
        published_curve=charts.rounds_curve(*_published_curve(story)),
        confidences=charts.confidence_curves(
            {
                "after 10 labels (first_10)": await _confidences(clients, story.outcomes["first_10"]),
                "after 400 labels (active_400)": await _confidences(clients, story.outcomes["active_400"]),
            }
        ),
        distribution=charts.distribution(
            [outcome.last.stopping.value for outcome in story.perturbed],
            ours=story.outcomes["active_400"].last.stopping.value,
            published=None if story.pool.stand_in else story.outcomes["active_400"].experiment.published,
        ),
        centroids=_centroid_tiles(story),
        asked=await _asked_tiles(clients, story),
        wrong=await _wrong_tiles(clients, story),
    )


def _curves(story: Story, names: tuple[str, ...]) -> dict[str, tuple[list[int], list[list[float]]]]:
    return {name: curve(story.honest[name]) for name in names}


def _published_curve(story: Story) -> tuple[list[int], dict[str, list[float]]]:
    rounds = story.outcomes["active_400"].rounds
    return [result.labels for result in rounds], {
        "on the 400 test images that decide when to stop": [result.stopping.value for result in rounds],
        "on all test images": [result.evaluation.value for result in rounds],
    }


async def _confidences(clients: Clients, outcome: Outcome) -> list[float]:
    """Return the model's confidence on every sample that it was not trained on, in ascending order."""
    from pyroaring import BitMap

    request = RankPoolRequest(
        pool_sha256=outcome.run.pool.pool_sha256,
        model_sha256=outcome.last.model_sha256,
        strategy=Strategy.STRATEGY_LEAST_CONFIDENCE,
        leave_out=BitMap([label.sample_id for label in outcome.labels]).serialize(),
    )
    return list((await clients.scorer.RankPool(request)).confidence)


async def _pixels(clients: Clients, pool: PoolPublished, sample_ids: list[int]) -> NDArray[np.uint8]:
    request = GetSamplesRequest(pool_sha256=pool.pool_sha256, sample_ids=sample_ids)
    answer = await clients.scorer.GetSamples(request)
    return np.frombuffer(answer.samples, np.uint8).reshape(-1, *answer.shape)


def _centroid_tiles(story: Story) -> list[Tile]:
    names = majority_names(story.clustering.clusters, story.truth)
    shape = tuple(story.pool.shape)
    images = np.frombuffer(story.clustering.centroids, "<f4").reshape(-1, *shape).round().astype(np.uint8)
    sizes = np.bincount(story.clustering.clusters, minlength=len(images))
    order = sorted(range(len(images)), key=lambda cluster: (names[cluster], cluster))
    return [Tile(picture(images[i]), f"named {names[i]}", f"{sizes[i]} samples") for i in order]


async def _asked_tiles(clients: Clients, story: Story) -> list[list[Tile]]:
    outcome = story.outcomes["active_400"]
    rounds: dict[int, list[LabelRecord]] = {}
    for label in outcome.labels:
        rounds.setdefault(label.round, []).append(label)
    shown = [rounds[number] for number in sorted(rounds)[:_ROUNDS_SHOWN]]
    pixels = iter(await _pixels(clients, story.pool, [label.sample_id for group in shown for label in group]))
    return [[Tile(picture(next(pixels)), f"is {label.label}", _doubt(label)) for label in group] for group in shown]


def _doubt(label: LabelRecord) -> str:
    return f"{label.predicted}? {label.confidence:.2f}" if label.HasField("confidence") else "no model yet"


async def _wrong_tiles(clients: Clients, story: Story) -> list[Tile]:
    wrong = wrong_auto_labels(story.outcomes["auto_confident"].labels, story.truth)[:_WRONG_SHOWN]
    pixels = await _pixels(clients, story.pool, [label.sample_id for label in wrong])
    return [
        Tile(picture(image), f"{label.label}, is {story.truth[label.sample_id]}", f"{label.confidence:.4f}")
        for label, image in zip(wrong, pixels, strict=True)
    ]
