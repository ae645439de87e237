"""Figures of a load scenario. Pure functions."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelloop_cli.load.calls import Outcomes

PERCENTILES = (50, 90, 99, 99.9)
BIN_S = 0.25


def figures(outcomes: Outcomes, images: int, wrong: Counter[str]) -> dict[str, Any]:
    """Latencies (in ms) and ``rate_s`` are of the calls that were answered OK."""
    sent, latency = np.array(outcomes.sent_s), np.array(outcomes.latency_s)
    ok = answered(outcomes)
    seconds = float((sent + latency).max() - sent.min()) if len(sent) else 0.0
    rate_s = float(ok.sum() / seconds) if seconds else 0.0
    times = latency[ok] * 1e3
    levels = {f"p{level:g}_ms": _level(times, level) for level in PERCENTILES}
    return {
        "seconds": seconds,
        "calls": len(sent),
        "rate_s": rate_s,
        "images_s": rate_s * images,
        **levels,
        "max_ms": _level(times, 100),
        "statuses": dict(Counter(outcomes.status)),
        "wrong": dict(wrong),
    }


def answered(outcomes: Outcomes) -> NDArray[np.bool_]:
    return np.array([status == "OK" for status in outcomes.status], bool)


def _level(times: NDArray[np.float64], level: float) -> float | None:
    return float(np.percentile(times, level)) if len(times) else None


def throughput(outcomes: Outcomes, *, ok: bool = True) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times (s), and calls answered per second then: with OK, or otherwise if not ``ok``."""
    done = (np.array(outcomes.sent_s) + np.array(outcomes.latency_s))[answered(outcomes) == ok]
    if not len(done):
        return np.zeros(0), np.zeros(0)
    edges = np.arange(0, done.max() + BIN_S, BIN_S)
    counts, _ = np.histogram(done, edges)
    return (edges[:-1] + BIN_S / 2)[:-1], counts[:-1] / BIN_S  # the last bin is incomplete


def latency_by_share(outcomes: Outcomes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of calls, from 1 down, and their minimum latency in ms."""
    times = np.sort(np.array(outcomes.latency_s)[answered(outcomes)]) * 1e3
    return 1 - np.arange(len(times)) / max(1, len(times)), times
