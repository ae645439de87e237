"""The Open Inference Protocol: its cost beside Score's, and the scorer beside other servers that speak it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from labelloop.errors import WrongState

from tests.bench.cores import client_and_server_core
from tests.bench.peers.catalog import PEERS, Peer
from tests.bench.peers.environments import python_of, same_onnxruntime
from tests.bench.peers.serving import PeerServer, serving
from tests.bench.posting import IN_FLIGHT, Posted, measured
from tests.bench.scored import RUN, Scored, scorer_on
from tests.clients.environments import python_with, said_by

_PAIRS, _PEER_PAIRS = 7, 3
_COUNTS = (1, 64)
_RATIO_MIN, _PEER_RATIO_MIN = 0.8, 2.0
_DATATYPES = {"pytriton": "UINT8", "mlserver": "BYTES"}
"""The peers that speak the protocol, and the type of the tensor that each takes."""
_PROGRAM = Path(__file__).with_name("peers") / "triton_latency.py"


async def infer_vs_score() -> dict[str, Any]:
    """Compare ModelInfer of one image with Score of the same: rate and processor time, closed loop, one server."""
    async with scorer_on(client_and_server_core()[1]) as scored:
        infer, score = await scored.infer(1), await scored.unary(1)
        pairs = [(await measured(infer), await measured(score)) for _ in range(_PAIRS)]
    rate = median(ours.rate_s / theirs.rate_s for ours, theirs in pairs)
    return {
        "value": rate,
        "unit": "of the rate of Score",
        "target": f"at least {_RATIO_MIN}",
        "met": rate >= _RATIO_MIN,
        "detail": {
            "cpu_ratio": median(ours.cpu_us / theirs.cpu_us for ours, theirs in pairs),
            "loop": f"closed, {IN_FLIGHT} in flight",
            "infer": [asdict(ours) for ours, _ in pairs],
            "score": [asdict(theirs) for _, theirs in pairs],
        },
    }


async def infer_vs_peers() -> dict[str, Any]:
    """Compare ModelInfer with that of other servers, on one core each: rate by h2load, latency by tritonclient."""
    core = client_and_server_core()[1]
    compared, skipped = {}, {}
    async with scorer_on(core) as scored:
        for peer in PEERS:
            if peer.name not in _DATATYPES:
                continue
            try:
                compared[peer.name] = await _beside(peer, scored, core)
            except WrongState as error:
                skipped[peer.name] = error.message
    if not compared:
        raise WrongState("NO_PEERS", f"no peer could be measured: {skipped}")
    ratios = [row["rate_ratio"] for rows in compared.values() for row in rows["h2load"].values()]
    return {
        "value": min(ratios),
        "unit": "times the rate of the peer that comes closest",
        "target": f"at least {_PEER_RATIO_MIN} for every peer",
        "met": min(ratios) >= _PEER_RATIO_MIN,
        "detail": {"loop": f"closed, {IN_FLIGHT} in flight", "peers": compared, "skipped": skipped},
    }


async def _beside(peer: Peer, scored: Scored, core: int) -> dict[str, Any]:
    """Measure a peer. Raise WrongState if it cannot be installed or started."""
    python = await asyncio.to_thread(python_of, peer.name, (*peer.requirements, same_onnxruntime()))
    async with serving(peer, python, scored, core) as server:
        rows = {
            str(count): await _pairs(await scored.infer(count), await server.unary(scored, count)) for count in _COUNTS
        }
        return {"h2load": rows, "tritonclient": await _latencies(peer, scored, server)}


async def _pairs(ours: Posted, theirs: Posted) -> dict[str, Any]:
    pairs = [(await measured(ours), await measured(theirs)) for _ in range(_PEER_PAIRS)]
    return {
        "rate_ratio": median(our.rate_s / their.rate_s for our, their in pairs),
        "ours": [asdict(our) for our, _ in pairs],
        "theirs": [asdict(their) for _, their in pairs],
    }


async def _latencies(peer: Peer, scored: Scored, server: PeerServer) -> dict[str, Any]:
    """Time one image a call by tritonclient, one call at a time; say why if that cannot be installed."""
    try:
        python = await asyncio.to_thread(python_with, "tritonclient")
    except WrongState as error:
        return {"skipped": error.message}
    body = scored.images[0].tobytes().hex()
    servers = [
        {"address": scored.address, "model": RUN, "input": "samples", "datatype": "UINT8", "body": body},
        {
            "address": server.address,
            "model": "scorer",
            "input": "images",
            "datatype": _DATATYPES[peer.name],
            "body": body,
        },
    ]
    said = await said_by(python, _PROGRAM, json.dumps(servers))
    ours_us, theirs_us = json.loads(said.splitlines()[-1])
    return {"latency_ratio": theirs_us / ours_us, "ours_us": ours_us, "theirs_us": theirs_us}
