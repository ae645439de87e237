"""A small pool that a softmax model can learn: noisy 6 x 6 images of three classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from google.protobuf.message import Message
from labelloop.events.v1.events_pb2 import DatasetSource, FeatureKind, GuaranteeSpec, LabelSource, Protocol, RunSpec
from labelloop.scorer.v1.scorer_pb2 import Strategy

POOL_SIZE, EVALUATION_SIZE, CLASSES = 300, 200, 3
IMAGE_BYTES = 36


@dataclass(frozen=True)
class Blobs:
    """Paths of .npy files."""

    samples: Path
    labels: Path
    evaluation: Path
    evaluation_labels: Path

    def source(self) -> DatasetSource:
        return DatasetSource(
            name=str(self.samples),
            labels=str(self.labels),
            evaluation=str(self.evaluation),
            evaluation_labels=str(self.evaluation_labels),
        )


def write_blobs(folder: Path, noise: float = 60.0) -> Blobs:
    """Write images with this standard deviation of each pixel. At 60, chance and rounding decide what a model learns
    of twenty labels; at 10 every model is right about every sample."""
    rng = np.random.default_rng(7)
    kinds = rng.integers(40, 200, (CLASSES, 6, 6))
    paths = {}
    for name, count in (("pool", POOL_SIZE), ("evaluation", EVALUATION_SIZE)):
        labels = rng.integers(0, CLASSES, count)
        samples = np.clip(kinds[labels] + rng.normal(0, noise, (count, 6, 6)), 0, 255).astype(np.uint8)
        paths[name], paths[f"{name}_labels"] = folder / f"{name}.npy", folder / f"{name}_labels.npy"
        np.save(paths[name], samples)
        np.save(paths[f"{name}_labels"], labels.astype(np.int32))
    return Blobs(paths["pool"], paths["pool_labels"], paths["evaluation"], paths["evaluation_labels"])


def plain(blobs: Blobs) -> Path:
    """Write a pool of as many plain images, of different shades."""
    path = blobs.samples.with_name("plain.npy")
    shades = np.arange(POOL_SIZE).astype(np.uint8)
    np.save(path, np.broadcast_to(shades[:, None, None], (POOL_SIZE, 6, 6)))
    return path


def spec(blobs: Blobs, **changes: object) -> RunSpec:
    """Twelve rounds: six of labels, six of auto-labels, with Adam's state carried over."""
    made = RunSpec(
        dataset=blobs.source(),
        strategy=Strategy.STRATEGY_MARGIN,
        first_strategy=Strategy.STRATEGY_RANDOM,
        batch_size=5,
        label_budget=30,
        seed=3,
        protocol=Protocol.PROTOCOL_PUBLISHED,
        stopping_sample_count=50,
        label_source=LabelSource.LABEL_SOURCE_DATASET,
        auto_label_batch_size=5,
        auto_label_budget=30,
        report_every=1,
    )
    for name, value in changes.items():
        if isinstance(value, Message):
            getattr(made, name).CopyFrom(value)
        elif value is not None:
            setattr(made, name, value)
    return made


def certified_spec(blobs: Blobs, **changes: object) -> RunSpec:
    """Four rounds on learned features, the defaults otherwise, then an audit of sixty and its auto-labels."""
    made = {
        "strategy": Strategy.STRATEGY_CLUSTERED_MARGIN,
        "first_strategy": Strategy.STRATEGY_K_MEANS,
        "batch_size": 10,
        "label_budget": 40,
        "control_percent": 10,
        "features": FeatureKind.FEATURE_KIND_PATCHES,
        "protocol": Protocol.PROTOCOL_HONEST,
        "stopping_sample_count": 0,
        "auto_label_batch_size": 0,
        "auto_label_budget": 0,
        "guarantee": GuaranteeSpec(target_accuracy=0.9, confidence=0.9, audit_size=60),
    }
    return spec(blobs, **(made | changes))
