"""The scorer compared with other model servers: the same model, called by the same client."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from statistics import median
from typing import Any

from labelloop.errors import WrongState

from tests.bench.cores import client_and_server_core
from tests.bench.peers.catalog import PEERS, Peer
from tests.bench.peers.environments import python_of, same_onnxruntime
from tests.bench.peers.serving import serving
from tests.bench.posting import IN_FLIGHT, Posted, measured
from tests.bench.scored import Scored, scorer_on

_PAIRS = 3
_COUNTS = (1, 64)


async def peers() -> dict[str, Any]:
    """Measure the scorer's rate over each peer's, for 1 and 64 images a message, on one core and one worker each."""
    core = client_and_server_core()[1]
    compared, skipped = {}, {}
    async with scorer_on(core) as scored:
        for peer in PEERS:
            try:
                compared[peer.name] = await _beside(peer, scored, core)
            except WrongState as error:
                skipped[peer.name] = error.message
    if not compared:
        raise WrongState("NO_PEERS", f"no peer could be measured: {skipped}")
    ratios = [row["ratio"] for rows in compared.values() for row in rows.values()]
    return {
        "value": min(ratios),
        "unit": "times the rate of the peer that comes closest",
        "target": "more than 1 for every peer",
        "met": min(ratios) > 1,
        "detail": {"loop": f"closed, {IN_FLIGHT} in flight", "peers": compared, "skipped": skipped},
    }


async def _beside(peer: Peer, scored: Scored, core: int) -> dict[str, Any]:
    """Measure a peer, by images a message. Raise WrongState if it cannot be installed or started."""
    python = await asyncio.to_thread(python_of, peer.name, (*peer.requirements, same_onnxruntime()))
    async with serving(peer, python, scored, core) as server:
        return {
            str(count): await _pairs(await scored.unary(count), await server.unary(scored, count)) for count in _COUNTS
        }


async def _pairs(ours: Posted, theirs: Posted) -> dict[str, Any]:
    pairs = [(await measured(ours), await measured(theirs)) for _ in range(_PAIRS)]
    return {
        "ratio": median(our.rate_s / their.rate_s for our, their in pairs),
        "ours": [asdict(our) for our, _ in pairs],
        "theirs": [asdict(their) for _, their in pairs],
    }
