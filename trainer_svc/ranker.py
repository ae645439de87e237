"""The scorers, as the trainer asks them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import grpc
import numpy as np
from labelloop.scorer.v1.scorer_pb2 import (
    GetSamplesRequest,
    GetSamplesResponse,
    RankPoolRequest,
    RankPoolResponse,
    Strategy,
)
from labelloop.scorer.v1.scorer_pb2_grpc import ScorerServiceStub
from labelloop.wire.crash_points import crash_point
from labelloop.wire.errors import from_rpc
from labelloop.wire.patience import patiently
from labelloop.wire.serving import CHANNEL_OPTIONS, MESSAGE_BYTES_MAX
from numpy.typing import NDArray
from pyroaring import BitMap

_CALL_TIMEOUT_S = 60.0
_ANSWER_BYTES = MESSAGE_BYTES_MAX // 4
# A scorer that hangs, or a connection that leads nowhere, is given up within seconds and another replica is asked.
_OUTLIVE_A_DEAD_PEER = [
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.ping_timeout_ms", 2_000),  # the one that counts: it is a minute by default
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # also how long a connection may take to come about
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
]
_PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}

A = TypeVar("A")


def _passes(error: BaseException) -> bool:
    return isinstance(error, grpc.aio.AioRpcError) and error.code() in _PASSING


class Ranker:
    """Waits for scorers that are away; every call is safe to repeat."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=[*CHANNEL_OPTIONS, *_OUTLIVE_A_DEAD_PEER])
        self._stub = ScorerServiceStub(self._channel)

    async def close(self) -> None:
        await self._channel.close()

    async def rank(
        self, pool: str, model: str, strategy: Strategy.ValueType, limit: int, leave_out: Iterable[int], seed: int
    ) -> RankPoolResponse:
        """The first ``limit`` samples of the pool, best first, with their values."""
        request = RankPoolRequest(
            pool_sha256=pool,
            model_sha256=model,
            strategy=strategy,
            limit=limit,
            leave_out=BitMap(leave_out).serialize(),
            seed=seed,
            with_samples=True,
        )
        return await _call("RankPool", self._stub.RankPool, request)

    async def samples(self, pool: str, sample_ids: Sequence[int], sample_bytes: int) -> NDArray[Any]:
        """Samples ``[n, *shape]``, of ``sample_bytes`` each, in the order of ``sample_ids``."""
        most = max(1, _ANSWER_BYTES // sample_bytes)
        parts = [
            unpack(await _call("GetSamples", self._stub.GetSamples, _samples_request(pool, part)))
            for part in (sample_ids[i : i + most] for i in range(0, len(sample_ids), most))
        ]
        return np.concatenate(parts)


async def _call(name: str, method: Callable[..., Awaitable[A]], request: object) -> A:
    crash_point(f"before call {name}")
    try:
        answer = await patiently(lambda: method(request, timeout=_CALL_TIMEOUT_S, wait_for_ready=True), _passes)
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error) or error from error
    crash_point(f"after call {name}")
    return answer


def _samples_request(pool: str, sample_ids: Sequence[int]) -> GetSamplesRequest:
    return GetSamplesRequest(pool_sha256=pool, sample_ids=sample_ids)


def unpack(response: GetSamplesResponse) -> NDArray[Any]:
    """Samples ``[n, *shape]``."""
    flat = np.frombuffer(response.samples, np.dtype(response.dtype).newbyteorder("<"))
    return flat.reshape(-1, *response.shape)
