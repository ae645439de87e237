"""Requests to send, as bytes, so that a client spends time on sending alone. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from labelloop.scorer.v1 import scorer_pb2 as pb
from numpy.typing import NDArray

SERVICE = "/labelloop.scorer.v1.ScorerService"
RANK_LIMIT = 10
DEADLINE_S = 10.0


@dataclass(frozen=True)
class Calls:
    """Requests to send in turn. ``method`` is one of the scorer's own service, or the whole path of another. Each has
    ``images`` images (0 for rankings); those of request i start at ``first[i]`` and wrap around. Only ``model`` may
    answer; if it is empty, any model of the run. ``ranked`` are the sample ids that a ranking must name, in order."""

    method: str
    images: int
    bodies: list[bytes]
    first: list[int] = field(default_factory=list)
    model: str = ""
    ranked: tuple[int, ...] = ()

    @property
    def path(self) -> str:
        return self.method if self.method.startswith("/") else f"{SERVICE}/{self.method}"

    @property
    def is_stream(self) -> bool:
        return self.method == "ScoreStream"


@dataclass
class Outcomes:
    """Outcomes of calls: seconds from the start of the load at which each was due, seconds from then to its answer,
    and its status; and how often each request got which answer."""

    sent_s: list[float] = field(default_factory=list)
    latency_s: list[float] = field(default_factory=list)
    status: list[str] = field(default_factory=list)
    answers: Counter[tuple[int, bytes]] = field(default_factory=Counter)

    def add(self, sent_s: float, latency_s: float, status: str) -> None:
        self.sent_s.append(sent_s)
        self.latency_s.append(latency_s)
        self.status.append(status)


def score_calls(
    pool_images: NDArray[np.generic], images: int, *, model: str = "", run_id: str = "", stream: bool = False
) -> Calls:
    """Requests that start at each of the images ``[n, features]``, by the model's digest or by the run."""
    bodies = []
    for first in range(len(pool_images)):
        rows = np.take(pool_images, range(first, first + images), axis=0, mode="wrap")
        request = pb.ScoreRequest(dtype=str(rows.dtype), images=rows.tobytes())
        if run_id:
            request.run_id = run_id
        else:
            request.model_sha256 = model
        bodies.append((pb.ScoreStreamRequest(score=request) if stream else request).SerializeToString())
    return Calls("ScoreStream" if stream else "Score", images, bodies, list(range(len(pool_images))), model)


def rank_request(pool: str, model: str) -> pb.RankPoolRequest:
    """A request for samples too, to check the answer by."""
    return pb.RankPoolRequest(
        pool_sha256=pool,
        model_sha256=model,
        strategy=pb.Strategy.STRATEGY_LEAST_CONFIDENCE,
        limit=RANK_LIMIT,
        with_samples=True,
    )


def rank_calls(request: pb.RankPoolRequest, ranked: Sequence[int]) -> Calls:
    """One ranking, repeated; ``ranked`` are the sample ids that it named before the load."""
    return Calls("RankPool", 0, [request.SerializeToString()], [0], request.model_sha256, tuple(ranked))
