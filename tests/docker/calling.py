"""Call a scorer until SIGTERM, then print a summary as JSON: ``python calling.py TARGET RUN_ID IMAGE_BYTES``.

Runs in the command's image, beside the scorers. It spreads its calls over all addresses that the name resolves to, and
lets gRPC retry a call elsewhere by its service config: nothing else hides a failure.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from typing import TYPE_CHECKING

import grpc
from labelloop.scorer.v1.scorer_pb2 import ScoreRequest
from labelloop.scorer.v1.scorer_pb2_grpc import ScorerServiceStub

if TYPE_CHECKING:
    from labelloop.scorer.v1.scorer_pb2_grpc import ScorerServiceAsyncStub

CALLERS, PAUSE_S, DEADLINE_S = 4, 0.02, 10.0
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": "labelloop.scorer.v1.ScorerService"}],
            "waitForReady": True,
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                # A call that waits inside gRPC for a server that begins to drain, or is overloaded, is CANCELLED.
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ],
}
OPTIONS = [
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.dns_min_time_between_resolutions_ms", 500),  # a restarted container may have another address
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 2_000),
]


class Tally:
    """Counts of the calls and their results. All answers must be equal."""

    def __init__(self) -> None:
        self.calls, self.longest_s = 0, 0.0
        self.failed: list[str] = []
        self.answers: set[bytes] = set()

    def said(self) -> str:
        return json.dumps(
            {
                "calls": self.calls,
                "failed": self.failed,
                "answers": len(self.answers),
                "longest_s": round(self.longest_s, 3),
            }
        )


async def call_on(stub: ScorerServiceAsyncStub, request: ScoreRequest, tally: Tally, stopped: asyncio.Event) -> None:
    while not stopped.is_set():
        begin = time.monotonic()
        try:
            answer = await stub.Score(request, timeout=DEADLINE_S)
            tally.answers.add(answer.SerializeToString(deterministic=True))
        except grpc.aio.AioRpcError as error:
            tally.failed.append(f"{time.time():.1f} {error.code().name}: {error.details()}")
        tally.calls += 1
        tally.longest_s = max(tally.longest_s, time.monotonic() - begin)
        await asyncio.sleep(PAUSE_S)


async def main(target: str, run_id: str, image_bytes: int) -> None:
    stopped, tally = asyncio.Event(), Tally()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    request = ScoreRequest(run_id=run_id, dtype="uint8", images=bytes(range(image_bytes)), with_probabilities=True)
    async with grpc.aio.insecure_channel(target, options=OPTIONS) as channel, asyncio.TaskGroup() as tasks:
        stub = ScorerServiceStub(channel)
        for _ in range(CALLERS):
            tasks.create_task(call_on(stub, request, tally, stopped))
    print(tally.said())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
