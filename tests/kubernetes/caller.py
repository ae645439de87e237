"""Call a scorer for so many seconds as a client with gRPC's default settings does, then print counts as JSON.

Runs in the client's pod: ``python - TARGET RUN_ID IMAGE_BYTES SECONDS <caller.py``.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

import grpc
from labelloop.rpc.tls import channel
from labelloop.scorer.v1.scorer_pb2 import ScoreRequest
from labelloop.scorer.v1.scorer_pb2_grpc import ScorerServiceStub

PAUSE_S, DEADLINE_S = 0.05, 10.0
BALANCED = [("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}')]


async def main(target: str, run_id: str, image_bytes: int, seconds: float) -> None:
    folder = os.environ.get("LABELLOOP_TLS_DIR")
    ended: Counter[str] = Counter()
    until = time.monotonic() + seconds
    async with channel(target, Path(folder) if folder else None, BALANCED) as way:
        scorer = ScorerServiceStub(way)
        while time.monotonic() < until:
            request = ScoreRequest(run_id=run_id, images=bytes(image_bytes), dtype="uint8")
            try:
                await scorer.Score(request, timeout=DEADLINE_S)
                ended["OK"] += 1
            except grpc.aio.AioRpcError as error:
                ended[error.code().name] += 1
            await asyncio.sleep(PAUSE_S)
    print(json.dumps(ended))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
