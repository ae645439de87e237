"""Define the artifact formats of pools and evaluation sets. No I/O.

A shard is the raw C-order bytes of its samples, so that it can be memory-mapped directly. The manifest is JSON with
sorted keys, and its SHA-256 identifies the pool. An evaluation set is a safetensors file of ``samples`` and ``labels``.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.numpy import load, save

from labelloop.errors import Corrupt

TILE_SAMPLES = 250  # models score pools in tiles of this size, because a row's sum may depend on it
SHARD_SAMPLES = 60_000


class Shard(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    sample_count: int = Field(gt=0)


class PoolManifest(BaseModel):
    """The shards of a pool: each holds consecutive sample ids, all but the last a multiple of ``TILE_SAMPLES``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    dtype: Literal["uint8", "float32"]
    shape: tuple[int, ...]
    shards: tuple[Shard, ...] = Field(min_length=1)

    @property
    def sample_count(self) -> int:
        return sum(shard.sample_count for shard in self.shards)

    def to_bytes(self) -> bytes:
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> PoolManifest:
        """Parse a manifest; raise Corrupt if ``data`` is not one."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise Corrupt("BAD_MANIFEST", f"this artifact is no pool manifest: {error.errors()[0]['msg']}") from error


def encode_evaluation(samples: NDArray[Any], labels: NDArray[np.int32]) -> bytes:
    return save({"samples": np.ascontiguousarray(samples), "labels": np.ascontiguousarray(labels)})


def decode_evaluation(data: bytes) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Return samples ``[n, *shape]`` and labels ``[n]``."""
    arrays = load(data)
    return arrays["samples"], arrays["labels"]
