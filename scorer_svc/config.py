"""Define the scorer's settings, read from ``LABELLOOP_<NAME>`` and ``SCORER_WORKERS`` in the environment."""

from __future__ import annotations

from pathlib import Path

from labelloop.settings import ServiceSettings
from platformdirs import user_cache_path
from pydantic import Field

from scorer_svc.models.limits import MULTIPLY_ADDS_MAX


class ScorerSettings(ServiceSettings):
    port: int = Field(50052, ge=0, le=65535, description="the port to listen on; 0 for any free one")
    rest_port: int | None = Field(
        None, ge=0, le=65535, description="the Open Inference Protocol over HTTP; 0 for any free port; none: gRPC alone"
    )
    score_threads: int = Field(1, ge=1, description="threads that rank, on a core each; one ranking uses them all")
    workers: int = Field(
        1, ge=1, validation_alias="SCORER_WORKERS", description="processes that share the port, a core each"
    )
    cache_dir: Path = Field(user_cache_path("labelloop"), description="where pools are kept, to be mapped into memory")
    cache_gb: float = Field(
        20.0,
        gt=0,
        description="how much is kept there, of pools and their features; what was used last stays",
    )
    mapped_gb: float | None = Field(
        None,
        gt=0,
        description="how much of that each worker maps into memory at once; by default as much as cache_gb",
    )
    graph_multiply_adds: int = Field(
        MULTIPLY_ADDS_MAX,
        ge=1_000_000,
        description="multiply-adds that a model or a graph of features may take for one sample",
    )
